"""What a plan is made from, and what a budget buys: for `rheostat plan` and the notebooks alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cost_models.allocation import allocate
from cost_models.curves import BudgetCurve, Point
from router.reports.errors import ReportError
from storage.measured import frontier_points, mixed
from storage.policies import policy_in_service
from storage.rollups import BINS, UNKNOWN_BIN
from storage.series import hourly
from storage.slices import UNTAGGED, bin_name
from storage.sums import entry_sums, sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.allocation import Demand
    from cost_models.unit_costs import FrontierPoint

    Plain = dict[str, Any]

BUDGET_SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
ONE_SIDED = 1.645
"""Standard errors below a share that its lower bound of 95 % lies (normal approximation)."""

NO_TEAM = "(none)"
NO_CURVE = (
    "there is no policy in service to take a curve from, and too few answers of arms that were "
    "picked by chance are graded to measure one; promote a policy, let `auto` requests explore "
    "and grade more answers, or put the points under `curve` of a scenario"
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What the ledger knows of [``since``, ``until``) to plan from.

    ``demand`` counts finished questions by team; ``curve`` is None where nothing is known of it.
    ``source`` says where the curve is from.
    """

    demand: dict[str, float]
    curve: BudgetCurve | None
    source: str


def read_ground(
    session: Session, since: datetime, until: datetime, mix: Mapping[str, float] | None = None
) -> Ground:
    """Read demand and curve: that of the policy in service, else of arms measured by random picks.

    ``mix`` makes questions of a predicted difficulty so many times as frequent as they were, by the
    name of its bin. Only arms that were measured can be weighed anew, so their curve is taken then.
    ReportError for a bin that there is not.
    """
    where = sources(session, since, until)
    sums = entry_sums(session, where, ("team",))
    demand = {
        NO_TEAM if team == UNTAGGED else str(team): float(figures["n_finished"] or 0)
        for (team,), figures in sums.items()
        if figures["n_finished"]
    }
    stored = None if mix else policy_in_service(session)
    if stored is not None:
        points = [
            Point(p["cost_usd_per_query"], p["accuracy"], min(p["accuracy"], _low(p)))
            for p in stored.manifest["metrics"]["frontier"]
        ]
        return Ground(demand, BudgetCurve.of(points), f"policy {stored.version} (cross-validated)")
    hours = hourly(session, where, (), by_difficulty=True)
    measured = frontier_points(mixed(hours, _factors(mix or {})))
    if not measured:
        return Ground(demand, None, "no policy in service, and no arm measured")
    return Ground(demand, measured_curve(measured), "arms measured by random picks")


def measured_curve(points: list[FrontierPoint]) -> BudgetCurve:
    """Give the curve of measured arms, with their one-sided lower bounds of 95 %."""
    return BudgetCurve.of(
        Point(p.cost_usd, p.accuracy, max(0.0, p.accuracy - ONE_SIDED * p.accuracy_error))
        for p in points
    )


def budget_plan(
    curve: BudgetCurve,
    demands: Mapping[str, Demand],
    budget_usd: float | None = None,
    target: float | None = None,
) -> Plain:
    """Say what budgets buy, what a target takes and what each team gets, as plain values.

    Without a budget it is what the end of the curve costs. Amounts are USD for all questions.
    Raises Shortfall where the budget does not pay for every team's least accuracy.
    """
    n_queries = sum(each.n_queries for each in demands.values())
    whole = budget_usd or n_queries * curve.corners[-1].cost_usd
    shares = allocate(whole, demands)
    budgets = sorted({whole * share for share in BUDGET_SHARES})
    return {
        "n_queries": n_queries,
        "budget_usd": whole,
        "target": None if target is None else _target(curve, n_queries, target),
        "corners": [_point(corner) for corner in curve.corners],
        "curve": [{**_at(curve, amount / n_queries), "budget_usd": amount} for amount in budgets],
        "teams": {
            team: {
                "n_queries": demands[team].n_queries,
                "usd": share.usd,
                "accuracy": share.accuracy,
                "accuracy_low": share.low,
                "n_right": share.n_right,
                "usd_per_next_right": share.usd_per_right,
            }
            for team, share in shares.items()
        },
    }


def _target(curve: BudgetCurve, n_queries: float, target: float) -> Plain:
    """Say what reaching a target takes, expected and with the lower bound; None out of reach."""
    expected, surely = curve.cost_of(target), curve.cost_of_bound(target)
    return {
        "accuracy": target,
        "usd": None if expected is None else expected * n_queries,
        "usd_by_lower_bound": None if surely is None else surely * n_queries,
    }


def _at(curve: BudgetCurve, usd_per_query: float) -> Plain:
    point = curve.at(usd_per_query)
    if point is None:
        return {"accuracy": None, "accuracy_low": None, "usd_per_next_right": None}
    return {
        "accuracy": point.accuracy,
        "accuracy_low": point.bound,
        "usd_per_next_right": curve.usd_per_right_at(usd_per_query),
    }


def _point(point: Point) -> Plain:
    return {
        "cost_usd_per_query": point.cost_usd,
        "accuracy": point.accuracy,
        "accuracy_low": point.bound,
    }


def _low(point: Plain) -> float:
    interval = point.get("accuracy_interval")
    return float(point["accuracy"] if interval is None else interval[0])


def _factors(mix: Mapping[str, float]) -> dict[int, float]:
    """Give the factor of each bin by its number."""
    names = {bin_name(number): number for number in (UNKNOWN_BIN, *range(len(BINS) + 1))}
    wrong = sorted(mix.keys() - names.keys())
    if wrong:
        msg = f"there is no predicted difficulty {wrong[0]!r}; name some of {', '.join(names)}"
        raise ReportError(msg)
    return {names[name]: factor for name, factor in mix.items()}
