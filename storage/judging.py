"""What a trial has shown so far, and its end where that is enough; safe to look at all the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import func, or_, select

from cost_models.money import NANO_PER_USD
from policies.sequential import bounded_mean, unbounded_mean
from storage.models import EntryRow, OutcomeRow, RequestRow
from storage.outcomes import entry_quality
from storage.policies import promote_policy
from storage.trials import end_trial, running_trial

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from policies.sequential import Interval
    from storage.trials import Trial

AUTO = "auto"
SIDES = 4
"""Intervals that have to hold together: quality and cost of two policies."""


@dataclass(frozen=True, slots=True)
class Side:
    """What came of one policy's decisions since the trial began; intervals hold at every look.

    ``cost_usd`` is the mean of a request.
    """

    n_served: int
    n_graded: int
    quality: float | None
    quality_interval: Interval
    cost_usd: float | None
    cost_interval: Interval


@dataclass(frozen=True, slots=True)
class TrialState:
    """Both sides of a trial; ``failed`` or ``passed`` says why it is over, or both are None.

    ``agreed`` is, for a shadow, the share of decisions in which it would have picked what was
    served; None before the first.
    """

    trial: Trial
    candidate: Side
    baseline: Side
    agreed: float | None
    failed: str | None
    passed: str | None

    @property
    def is_over(self) -> bool:
        """Whether the rule ends the trial: it failed, or it passed and was to be promoted then."""
        return self.failed is not None or (self.passed is not None and self.trial.terms.promotes)


def trial_state(session: Session) -> TrialState | None:
    """Tell what the trial under way has shown; None without one."""
    trial = running_trial(session)
    if trial is None:
        return None
    candidate = _side(session, trial, trial.version)
    baseline = _side(session, trial, trial.baseline)
    failed, passed = _told(trial, candidate, baseline) if trial.terms.share else (None, None)
    return TrialState(trial, candidate, baseline, _agreed(session, trial), failed, passed)


def judge_trial(session: Session, now: datetime) -> str | None:
    """End the trial under way if enough is known, and give what was done; None if nothing was.

    A policy that failed gets no more traffic; one that passed is put in service where the trial
    promotes.
    """
    state = trial_state(session)
    if state is None or not state.is_over:
        return None
    version = state.trial.version
    if state.failed is not None:
        end_trial(session, state.failed, now)
        return f"policy {version} gets no more traffic: {state.failed}"
    promote_policy(session, version, now, reason=state.passed or "")
    return f"policy {version} is in service: {state.passed}"


def _told(trial: Trial, candidate: Side, baseline: Side) -> tuple[str | None, str | None]:
    terms = trial.terms
    low, high = candidate.quality_interval
    base_low, base_high = baseline.quality_interval
    lost_least, lost_most = base_low - high, base_high - low
    dearest = (1.0 + terms.max_rise) * baseline.cost_interval[1]
    cheapest = (1.0 + terms.max_rise) * baseline.cost_interval[0]
    if lost_least > terms.max_loss:
        return f"its quality is at least {lost_least:.3f} below that of the other", None
    if candidate.cost_interval[0] > dearest:
        return f"it costs more than {terms.max_rise:.0%} above the other", None
    if lost_most <= terms.max_loss and candidate.cost_interval[1] <= cheapest:
        return None, (
            f"its quality is at most {max(0.0, lost_most):.3f} below that of the other, and its "
            f"cost at most {terms.max_rise:.0%} above"
        )
    return None, None


def _of(trial: Trial, version: str) -> ColumnElement[bool]:
    """Entries that a policy decided since the trial began, also as an operator adjusts it."""
    named = or_(
        EntryRow.policy_version == version, EntryRow.policy_version.startswith(f"{version}:")
    )
    return (
        named
        & (EntryRow.started_at >= trial.started_at)
        & EntryRow.finished_at.is_not(None)
        & (RequestRow.model_asked == AUTO)
    )


def _side(session: Session, trial: Trial, version: str) -> Side:
    joined = select(EntryRow.cost_nano_usd).join(RequestRow, RequestRow.id == EntryRow.request_id)
    costs = _array(session.scalars(joined.where(_of(trial, version)).order_by(EntryRow.id)).all())
    cost_usd = costs / NANO_PER_USD
    quality = entry_quality()
    first = (
        select(OutcomeRow.entry_id, func.min(OutcomeRow.id).label("graded"))
        .group_by(OutcomeRow.entry_id)
        .subquery("first_grade")
    )
    graded = (
        select(quality.c.quality)
        .join(EntryRow, EntryRow.id == quality.c.entry_id)
        .join(first, first.c.entry_id == EntryRow.id)
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .where(_of(trial, version))
        .order_by(first.c.graded)
    )
    grades = _array(session.scalars(graded).all())
    delta = trial.terms.delta / SIDES
    return Side(
        n_served=len(costs),
        n_graded=len(grades),
        quality=float(grades.mean()) if len(grades) else None,
        quality_interval=bounded_mean(grades, delta),
        cost_usd=float(cost_usd.mean()) if len(costs) else None,
        cost_interval=unbounded_mean(cost_usd, delta),
    )


def _agreed(session: Session, trial: Trial) -> float | None:
    same = EntryRow.model + "|" + EntryRow.strategy == EntryRow.shadow_arm
    found = select(func.count(), func.count().filter(same)).where(
        EntryRow.started_at >= trial.started_at, EntryRow.shadow_arm.is_not(None)
    )
    n, agreed = session.execute(found).one()
    return int(agreed) / int(n) if n else None


def _array(values: object) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)
