"""Read all that a report tells, in one view of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cost_models.budgets import zone
from storage.bridges import read_bridge
from storage.facts import Asked, read_facts
from storage.report_extras import next_spend, organisation_limit, read_extras
from storage.rollups import ENTRY_KEYS
from storage.slices import Slice, entry_slices
from storage.sums import entry_sums, sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.bridge import Bridge
    from cost_models.forecast import Forecast
    from cost_models.ownership import Machines, Range
    from cost_models.pricing import PriceBook
    from router.reports.periods import ReportPeriod
    from storage.facts import PeriodFacts
    from storage.measured import Refused
    from storage.report_extras import Extras


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """What a report is asked: a period as it stood at ``as_of``, and what to hold it against.

    ``earlier`` is a time [since, until) to compare with. ``machines`` are what could be owned, with
    what is uncertain of them (``ranges``); None where nobody said. ``reproduce`` are the
    arguments that give the same report again.
    """

    period: ReportPeriod
    as_of: datetime
    earlier: tuple[datetime, datetime]
    time_zone: str = "UTC"
    target: float | None = None
    prices: PriceBook | None = None
    machines: Machines | None = None
    ranges: Mapping[str, Range] | None = None
    reproduce: str = "rheostat report"

    @property
    def until(self) -> datetime:
        """The end of what is told: of the period, or ``as_of`` where that comes first."""
        return min(self.as_of, self.period.end)

    @property
    def over(self) -> bool:
        """Whether the period is over."""
        return self.as_of >= self.period.end

    @property
    def elapsed(self) -> float:
        """Share of the period that is over, in [0, 1]."""
        whole = self.period.end - self.period.since
        return (self.until - self.period.since) / whole


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the time before spent: the ``whole``, and its ``teams``, which add up to it."""

    whole: Slice
    teams: tuple[Slice, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What was read: the facts of the period, what the time before spent, and what goes with them.

    ``limit_nano_usd`` is the organisation's for exactly this period, None without one. ``coming``
    forecasts the next period where this one is over, None otherwise.
    """

    question: ReportQuestion
    facts: PeriodFacts
    before: Earlier
    change: Bridge
    limit_nano_usd: int | None
    coming: Forecast | Refused | None
    coming_limit_nano_usd: int | None
    extras: Extras


def read_material(session: Session, question: ReportQuestion) -> Material:
    """Read a report's material; the caller gives one view of the database."""
    period, until, zone_name = question.period, question.until, question.time_zone
    limit = organisation_limit(session, period.since, period.end)
    asked = Asked(
        period.since,
        until,
        zone_name,
        question.target,
        forecast_to=None if question.over else period.end,
        limit_nano_usd=limit,
    )
    coming, coming_limit = None, None
    if question.over:
        after = period.later(zone(zone_name))
        coming_limit = organisation_limit(session, after.since, after.end)
        coming = next_spend(session, after.since, after.end, zone_name, coming_limit)
    return Material(
        question=question,
        facts=read_facts(session, asked),
        before=_earlier(session, *question.earlier),
        change=read_bridge(session, question.earlier, (period.since, until), question.prices),
        limit_nano_usd=limit,
        coming=coming,
        coming_limit_nano_usd=coming_limit,
        extras=read_extras(session, period.since, until),
    )


def _earlier(session: Session, since: datetime, until: datetime) -> Earlier:
    sums = entry_sums(session, sources(session, since, until), ENTRY_KEYS)
    teams = entry_slices(sums)["team"]
    whole = Slice("whole")
    for team in teams:
        whole = whole.plus(team)
    return Earlier(whole, teams)
