"""A budget shared out over teams, so that it buys the most right answers.

Curves are concave, so the best allocation buys steps in the order of what a right answer costs on
them, whoever's they are: the fractional knapsack (Dantzig 1957), in which all teams end at the
same marginal price.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.curves import BudgetCurve

ENOUGH = 1e-12


@dataclass(frozen=True, slots=True)
class Demand:
    """What a team will ask: so many queries, each along a curve.

    ``least_accuracy`` is paid for before anything else is.
    """

    n_queries: float
    curve: BudgetCurve
    least_accuracy: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.n_queries < float("inf") or not 0.0 <= self.least_accuracy <= 1.0:
            msg = f"a demand has queries and an accuracy in [0, 1], got {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Share:
    """What a team gets of a budget, and what that buys; amounts in USD for all its queries.

    ``usd_per_right`` is what its next right answer would cost, None at the end of its curve.
    """

    usd: float
    accuracy: float
    low: float
    n_right: float
    usd_per_right: float | None


@dataclass(frozen=True, slots=True)
class Shortfall(Exception):  # noqa: N818 - a fact with its figures, told by the caller
    """A budget that does not pay for what is asked at least; amounts in USD."""

    needed_usd: float
    budget_usd: float
    team: str | None = None


def allocate(budget_usd: float, demands: Mapping[str, Demand]) -> dict[str, Share]:
    """Share out a budget; Shortfall where it does not pay for every team's least accuracy.

    What no team can use is not shared out.
    """
    spent = {team: _least(team, demand, budget_usd) for team, demand in demands.items()}
    needed = sum(spent[team] * demand.n_queries for team, demand in demands.items())
    left = budget_usd - needed
    if left < -ENOUGH * max(1.0, needed):
        raise Shortfall(needed, budget_usd)
    steps = sorted(
        (step.usd_per_right, team, corner.cost_usd)
        for team, demand in demands.items()
        for corner, step in zip(demand.curve.corners[1:], demand.curve.steps, strict=True)
    )
    for _, team, end in steps:
        demand = demands[team]
        wanted = max(0.0, end - spent[team]) * demand.n_queries
        bought = min(wanted, max(0.0, left))
        spent[team] += bought / demand.n_queries
        left -= bought
    return {team: _share(demand, spent[team]) for team, demand in demands.items()}


def _least(team: str, demand: Demand, budget_usd: float) -> float:
    """Give the mean cost of a query at a team's least accuracy."""
    cost = demand.curve.cost_of(demand.least_accuracy)
    if cost is None:
        raise Shortfall(float("inf"), budget_usd, team)
    return cost


def _share(demand: Demand, usd_per_query: float) -> Share:
    corners = demand.curve.corners
    point = demand.curve.at(max(usd_per_query, corners[0].cost_usd)) or corners[0]
    return Share(
        usd=usd_per_query * demand.n_queries,
        accuracy=point.accuracy,
        low=point.bound,
        n_right=point.accuracy * demand.n_queries,
        usd_per_right=demand.curve.usd_per_right_at(usd_per_query),
    )
