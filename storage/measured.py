"""Measured savings and the frontier of arms, from hourly sums of decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import and_, case, func, literal_column, select

from cost_models.accuracy import MIN_GRADED
from cost_models.errors import NotEnoughDataError
from cost_models.money import NANO_PER_USD
from cost_models.savings import MIN_PICKS, Savings, SavingsSums, savings
from cost_models.types import Arm
from cost_models.unit_costs import FrontierPoint
from storage.models import EntryRow, RollupDecisionRow
from storage.rollups import BINS, DECISION_FIGURES, decision_figures, difficulty_bin
from storage.series import Hour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from storage.sums import Sources, Sums

ASKED_ONCE = "direct"
N_BINS = len(BINS) + 2
WEIGHED = ("inverse_sum", "inverse_cost", "inverse_weight", "inverse_quality")
"""Figures of an arm over all questions, which another mix of questions changes."""

_ONE: ColumnElement[int] = literal_column("1")
SEED = 0
"""Of resampling: a report gives the same figures each time it is asked."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A figure that is not given, and why."""

    reason: str

    def to_dict(self) -> dict[str, str]:
        """Give plain values for JSON."""
        return {"refused": self.reason}


def largest_asked_once(decisions: Sums) -> Arm | None:
    """Find the arm that the savings are against: a model asked once, the dearest a decision.

    None where no model was asked once.
    """
    sums: dict[Arm, list[int]] = {}
    for (model, strategy, _), figures in decisions.items():
        if strategy == ASKED_ONCE:
            into = sums.setdefault(Arm(model, strategy), [0, 0])
            into[0] += figures["cost_nano_usd"] or 0
            into[1] += figures["n_entries"] or 0
    return max(sums, key=lambda arm: (sums[arm][0] / max(1, sums[arm][1]), arm), default=None)


def read_savings(
    session: Session, where: Sources, baseline: Arm
) -> tuple[Savings | Refused, Savings | Refused]:
    """Estimate savings against ``baseline`` in two tiers: measured by chance, and estimated.

    The first is of decisions with a choice and weighs random picks of the baseline; the second is
    of all decisions, and takes any pick of the baseline for one by chance.
    """
    cells = _by_hour(session, where, baseline)
    hours = {hour: i for i, hour in enumerate(dict.fromkeys(cell[0] for cell in cells))}
    sums = {name: np.zeros((2, len(hours), N_BINS)) for name in DECISION_FIGURES}
    for hour, number, is_baseline, figures in cells:
        for name, value in zip(DECISION_FIGURES, figures, strict=True):
            sums[name][int(is_baseline), hours[hour], int(number) + 1] += float(value or 0)

    def both(name: str) -> NDArray[np.float64]:
        return np.asarray(sums[name].sum(axis=0))

    def ours(name: str) -> NDArray[np.float64]:
        return np.asarray(sums[name][1])

    counts = (int(both("n_graded").sum()), int(ours("n_graded").sum()))
    measured = SavingsSums(
        both("n_random"),
        both("random_cost_nano_usd"),
        both("random_weight"),
        both("random_quality"),
        ours("n_random"),
        ours("inverse_sum"),
        ours("inverse_cost"),
        ours("inverse_weight"),
        ours("inverse_quality"),
        *counts,
    )
    estimated = SavingsSums(
        both("n_entries"),
        both("cost_nano_usd"),
        both("weight_sum"),
        both("weighted_quality"),
        ours("n_entries"),
        ours("n_entries"),
        ours("cost_nano_usd"),
        ours("weight_sum"),
        ours("weighted_quality"),
        *counts,
    )
    return _tried(measured, measured_tier=True), _tried(estimated, measured_tier=False)


def mixed(hours: Sequence[Hour], factors: Mapping[int, float]) -> list[Hour]:
    """Weigh hours by difficulty as if questions of a bin were ``factors`` times as frequent.

    Bins that are not named keep their weight. Pieces of one hour and arm become one again, so that
    hours stay the clusters of `frontier_points`; counts stay what was seen.
    """
    sums: dict[tuple[datetime, str, str], dict[str, Any]] = {}
    for hour in hours:
        factor = 1.0 if hour.difficulty is None else factors.get(hour.difficulty, 1.0)
        into = sums.setdefault(
            (hour.start, hour.model, hour.strategy), dict.fromkeys(hour.figures, 0)
        )
        for name, value in hour.figures.items():
            into[name] += value * factor if name in WEIGHED else value
    return [Hour(*key, figures) for key, figures in sums.items()]


def frontier_points(hours: Sequence[Hour]) -> list[FrontierPoint]:
    """Give each arm's mean cost and accuracy over all decisions with a choice, by propensities.

    Standard errors are linearised over hours, as clusters. Arms with too few random picks or
    grades are left out.
    """
    by_arm: dict[Arm, list[dict[str, Any]]] = {}
    for hour in hours:
        by_arm.setdefault(Arm(hour.model, hour.strategy), []).append(hour.figures)
    points = []
    for arm, figures in sorted(by_arm.items()):
        n_random = sum(f["n_random"] for f in figures)
        n_graded = sum(f["n_graded"] for f in figures if f["n_random"])
        if n_random < MIN_PICKS or n_graded < MIN_GRADED:
            continue
        cost, cost_error = _ratio(figures, "inverse_cost", "inverse_sum")
        right, right_error = _ratio(figures, "inverse_quality", "inverse_weight")
        points.append(
            FrontierPoint(
                str(arm),
                cost / NANO_PER_USD,
                cost_error / NANO_PER_USD,
                right,
                right_error,
                n_random,
            )
        )
    return points


def _ratio(figures: Sequence[dict[str, Any]], over: str, under: str) -> tuple[float, float]:
    above = np.array([f[over] for f in figures], dtype=float)
    below = np.array([f[under] for f in figures], dtype=float)
    ratio = float(above.sum() / below.sum()) if below.sum() > 0 else float("nan")
    n = len(figures)
    spread = float(((above - ratio * below) ** 2).sum()) * n / max(1, n - 1)
    return ratio, float(np.sqrt(spread) / below.sum())


def _by_hour(
    session: Session, where: Sources, baseline: Arm
) -> list[tuple[datetime | None, int, bool, Sequence[Any]]]:
    """Sum decisions up by hour, bin, and whether the baseline was picked; rows are one cluster."""
    row = RollupDecisionRow
    picked = case((and_(row.model == baseline.model, row.strategy == baseline.strategy), _ONE))
    found = session.execute(
        select(
            row.hour,
            row.difficulty,
            picked,
            *(func.sum(getattr(row, name)) for name in DECISION_FIGURES),
        )
        .where(*where.rolled(row.hour))
        .group_by(row.hour, row.difficulty, picked)
    )
    cells: list[tuple[datetime | None, int, bool, Sequence[Any]]] = [
        (hour, number, bool(is_it), rest) for hour, number, is_it, *rest in found
    ]
    if where.spans:
        ran = and_(EntryRow.model == baseline.model, EntryRow.strategy == baseline.strategy)
        keys = (difficulty_bin(), case((ran, _ONE)))
        for number, is_it, *rest in session.execute(decision_figures(where.spans, keys)):
            cells.append((None, number, bool(is_it), rest))
    return cells


def _tried(sums: SavingsSums, *, measured_tier: bool) -> Savings | Refused:
    try:
        return savings(sums, np.random.default_rng(SEED), measured=measured_tier)
    except NotEnoughDataError as error:
        return Refused(str(error))
