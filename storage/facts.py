"""The facts of a period, in one document that every report reads: money, counts, and what they say.

Money and counts come from the rollups where these are up to date, and from the rows elsewhere, in
one view of the database; the figures are those of `storage.reports` to the nano-USD. Nothing here
looks at a clock: the same ledger and question give the same document.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select

from cost_models.anomalies import anomalies
from cost_models.budgets import zone
from cost_models.compute_split import RoleSpend, compute_split
from cost_models.errors import NotEnoughDataError
from cost_models.forecast import forecast
from cost_models.money import NANO_PER_USD
from cost_models.unit_costs import marginal_costs
from storage.measured import (
    SEED,
    Refused,
    frontier_points,
    largest_asked_once,
    read_savings,
)
from storage.models import IMPORTED, EntryRow
from storage.rollups import CALL_KEYS, DECISION_KEYS, ENTRY_KEYS
from storage.series import days, hourly, midnights
from storage.simulation import simulated_facts
from storage.slices import DIFFICULTY, UNTAGGED, Slice, difficulty_slices, entry_slices
from storage.sums import call_sums, decision_sums, entry_sums, hour_sums, sources

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.anomalies import Anomaly
    from cost_models.forecast import Forecast
    from cost_models.savings import Savings
    from cost_models.types import Arm
    from cost_models.unit_costs import FrontierPoint, Step
    from storage.series import Day, Hour
    from storage.sums import Figures, Sources, Sums

SCHEMA_VERSION = 1
LOOK_BACK = timedelta(days=90)
"""Days before the end of a period that a forecast learns from."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is about: [``since``, ``until``), its days those of ``time_zone`` (IANA).

    ``target`` is the accuracy in [0, 1] that was promised; ``baseline`` is what savings are
    against, None for the dearest model that was asked once. With ``forecast_to`` the spend from
    ``since`` to then is forecast, and held against ``limit_nano_usd``.
    """

    since: datetime
    until: datetime
    time_zone: str = "UTC"
    target: float | None = None
    baseline: Arm | None = None
    forecast_to: datetime | None = None
    limit_nano_usd: int | None = None

    def __post_init__(self) -> None:
        if self.since >= self.until:
            msg = f"a period ends after it begins, got {self.since} to {self.until}"
            raise ValueError(msg)
        zone(self.time_zone)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much is known: to be shown beside every figure.

    Of ``n_closed`` entries a cost is known, of ``n_open`` not yet; ``in_doubt_nano_usd`` of it is a
    worst case. ``n_estimated`` of ``n_calls`` calls were billed by an estimate of their usage.
    ``n_graded`` answers have a grade, ``n_tagged`` entries a team, ``n_random`` a choice by chance.
    """

    n_closed: int
    n_open: int
    n_in_doubt: int
    in_doubt_nano_usd: int
    n_calls: int
    n_estimated: int
    n_answered: int
    n_graded: int
    n_tagged: int
    n_random: int


@dataclass(frozen=True, slots=True)
class PeriodFacts:
    """What happened in a period; see docs/reports.md for the definition of each figure.

    ``by`` has the slices of each dimension, which add up to ``whole``; ``roles``, ``providers`` and
    ``called_models`` (nano-USD by name) and ``compute`` add up to its cost. ``simulated`` says what
    was made up, None for real requests.
    """

    asked: Asked
    simulated: dict[str, Any] | None
    n_requests: int
    n_refused: int
    n_imported: int
    whole: Slice
    by: dict[str, tuple[Slice, ...]]
    roles: dict[str, int]
    providers: dict[str, int]
    called_models: dict[str, int]
    compute: dict[str, int]
    days: tuple[Day, ...]
    coverage: Coverage
    baseline: Arm | None
    savings: Savings | Refused
    estimated_savings: Savings | Refused
    frontier: tuple[FrontierPoint, ...]
    marginal: tuple[Step, ...]
    anomalies: tuple[tuple[Day, Anomaly], ...]
    forecast: Forecast | Refused | None

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON twin; names say their units, and what is not known is None."""
        asked = self.asked
        target = asked.target
        return {
            "schema_version": SCHEMA_VERSION,
            "since": asked.since.isoformat(),
            "until": asked.until.isoformat(),
            "time_zone": asked.time_zone,
            "accuracy_target": target,
            "simulated": self.simulated,
            "n_requests": self.n_requests,
            "n_refused": self.n_refused,
            "n_imported": self.n_imported,
            "coverage": asdict(self.coverage),
            "whole": self.whole.to_dict(target),
            "by": {
                name: [part.to_dict(target) for part in parts] for name, parts in self.by.items()
            },
            "roles_nano_usd": self.roles,
            "providers_nano_usd": self.providers,
            "called_models_nano_usd": self.called_models,
            "compute_nano_usd": self.compute,
            "days": [{**asdict(day), "day": day.day.isoformat()} for day in self.days],
            "baseline": None if self.baseline is None else str(self.baseline),
            "savings": self.savings.to_dict(),
            "estimated_savings": self.estimated_savings.to_dict(),
            "frontier": [asdict(point) for point in self.frontier],
            "marginal": [
                {
                    "start": step.start,
                    "end": step.end,
                    "usd_per_correct": step.usd_per_correct.to_dict(),
                }
                for step in self.marginal
            ],
            "anomalies": [
                {
                    "day": day.day.isoformat(),
                    **asdict(seen),
                    "impact_usd": seen.impact_usd,
                    "impact_share": seen.impact_share,
                }
                for day, seen in self.anomalies
            ],
            "forecast": None if self.forecast is None else self.forecast.to_dict(),
        }


def read_facts(session: Session, asked: Asked) -> PeriodFacts:
    """Read the facts of a period, in at most 8 statements where its hours are rolled up.

    A forecast may take one more, as do the rows of each kind where an hour is not rolled up yet.
    """
    where = sources(session, asked.since, asked.until)
    by = entry_slices(entry_sums(session, where, ENTRY_KEYS))
    decisions = decision_sums(session, where, DECISION_KEYS)
    by[DIFFICULTY] = difficulty_slices(decisions)
    calls = call_sums(session, where, CALL_KEYS)
    counts = hour_sums(session, where)
    whole = _whole(by)
    baseline = asked.baseline or largest_asked_once(decisions)
    none = Refused("no model was asked once")
    tiers = (none, none) if baseline is None else read_savings(session, where, baseline)
    inside, daily, history = _series(session, asked, where)
    points = frontier_points(inside)
    complete = [day for day in daily if day.complete]
    return PeriodFacts(
        asked=asked,
        simulated=simulated_facts(session),
        n_requests=counts["n_requests"],
        n_refused=counts["n_refused"],
        n_imported=counts["n_imported"],
        whole=whole,
        by=by,
        roles=_costs(calls, "role"),
        providers=_costs(calls, "provider"),
        called_models=_costs(calls, "model"),
        compute=compute_split(_role_spends(calls)),
        days=tuple(daily),
        coverage=_coverage(whole, by, decisions, calls),
        baseline=baseline,
        savings=tiers[0],
        estimated_savings=tiers[1],
        frontier=tuple(points),
        marginal=tuple(marginal_costs(points)),
        anomalies=tuple((complete[seen.day], seen) for seen in _anomalies(complete)),
        forecast=_forecast(asked, whole, daily, history),
    )


def first_start(session: Session) -> datetime | None:
    """Tell when the first entry that was run here began; None for an empty ledger."""
    return session.scalar(
        select(func.min(EntryRow.started_at)).where(EntryRow.replica_id != IMPORTED)
    )


def _series(
    session: Session, asked: Asked, where: Sources
) -> tuple[list[Hour], list[Day], list[Day]]:
    """Read the hours of the period, and its days and those before it that a forecast needs."""
    first, tz = asked.since, zone(asked.time_zone)
    if asked.forecast_to is not None:
        first = min(asked.since, asked.until - LOOK_BACK)
    if first < asked.since:
        where = sources(session, first, asked.until)
    cuts = {*midnights(first, asked.until, tz), asked.since}
    hours = hourly(session, where, cuts)
    inside = [hour for hour in hours if hour.start >= asked.since]
    begun = min((hour.start for hour in hours), default=asked.until)
    return (
        inside,
        days(inside, tz, asked.since, asked.until),
        days(hours, tz, max(first, begun), asked.until),
    )


def _whole(by: dict[str, tuple[Slice, ...]]) -> Slice:
    whole = Slice("whole")
    for part in by["status"]:
        whole = whole.plus(part)
    return whole


def _coverage(
    whole: Slice, by: dict[str, tuple[Slice, ...]], decisions: Sums, calls: Sums
) -> Coverage:
    doubted = next((part for part in by["status"] if part.name == "in_doubt"), Slice("in_doubt"))
    return Coverage(
        n_closed=whole.n_closed,
        n_open=whole.n_open,
        n_in_doubt=whole.n_in_doubt,
        in_doubt_nano_usd=doubted.cost_nano_usd or 0,
        n_calls=_total(calls, "n_calls"),
        n_estimated=_total(calls, "n_estimated"),
        n_answered=whole.n_answered,
        n_graded=whole.grades.n,
        n_tagged=sum(p.n_closed + p.n_open for p in by["team"] if p.name != UNTAGGED),
        n_random=_total(decisions, "n_random"),
    )


def _total(sums: Sums, name: str) -> int:
    return sum(figures[name] or 0 for figures in sums.values())


def _costs(calls: Sums, dimension: str) -> dict[str, int]:
    """Give what calls cost by one dimension, the dearest first."""
    at = CALL_KEYS.index(dimension)
    costs: dict[str, int] = {}
    for key, figures in calls.items():
        name = str(key[at])
        costs[name] = costs.get(name, 0) + (figures["cost_nano_usd"] or 0)
    return dict(sorted(costs.items(), key=lambda item: (-item[1], item[0])))


def _role_spends(calls: Sums) -> list[RoleSpend]:
    at = CALL_KEYS.index("role")

    def spend(role: str, figures: Figures) -> RoleSpend:
        names = ("cost_nano_usd", "first_cost_nano_usd", "failed_cost_nano_usd")
        return RoleSpend(role, *(figures[name] or 0 for name in names))

    return [spend(str(key[at]), figures) for key, figures in sorted(calls.items(), key=str)]


def _usd(daily: Sequence[Day]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([day.cost_nano_usd / NANO_PER_USD for day in daily])


def _anomalies(complete: Sequence[Day]) -> list[Anomaly]:
    return anomalies(_usd(complete), complete[0].day.weekday()) if complete else []


def _forecast(
    asked: Asked, whole: Slice, daily: Sequence[Day], history: Sequence[Day]
) -> Forecast | Refused | None:
    """Forecast the spend from ``since`` to ``forecast_to`` from the complete days before.

    A last day that is not over is forecast whole, in place of what it cost so far.
    """
    if asked.forecast_to is None:
        return None
    complete = [day for day in history if day.complete]
    tz, limit = zone(asked.time_zone), asked.limit_nano_usd
    today = asked.until.astimezone(tz).date()
    ahead = max(0, (asked.forecast_to.astimezone(tz).date() - today).days)
    so_far = sum(day.cost_nano_usd for day in daily if day.day == today)
    try:
        return forecast(
            _usd(complete),
            complete[0].day.weekday() if complete else 0,
            ahead,
            np.random.default_rng(SEED),
            spent_usd=((whole.cost_nano_usd or 0) - so_far) / NANO_PER_USD,
            limit_usd=None if limit is None else limit / NANO_PER_USD,
        )
    except NotEnoughDataError as error:
        return Refused(str(error))
