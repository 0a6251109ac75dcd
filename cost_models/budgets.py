"""Budgets and the windows they are counted in: pure calendar arithmetic, no clock, no counters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAYS_PER_WEEK = 7


class Period(StrEnum):
    """How long money lasts before a fresh window opens; a week starts on Monday.

    ``total`` never ends; nor does ``prepaid``, whose limit is the sum of its grants.
    """

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"
    PREPAID = "prepaid"


class Window(NamedTuple):
    """The time from ``start`` (inside) to ``end`` (outside), in UTC; ``end`` None never comes."""

    start: datetime
    end: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether an aware ``now`` is inside."""
        return self.start <= now and (self.end is None or now < self.end)


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``limit_nano_usd`` of ``scope``'s money in each ``period``.

    ``scope`` is ``organisation`` or text that names something in it, such as ``key:abc``. Days
    begin at midnight in ``time_zone`` (an IANA name). A ``soft`` one warns and refuses nothing.
    """

    scope: str
    period: Period
    limit_nano_usd: int
    time_zone: str = "UTC"
    soft: bool = False

    def __post_init__(self) -> None:
        if not self.scope or self.limit_nano_usd < 0:
            msg = f"a budget needs a scope and a limit of at least 0, got {self!r}"
            raise ValueError(msg)
        zone(self.time_zone)


def zone(name: str) -> tzinfo:
    """Time zone called ``name``; ValueError when nobody knows it. UTC needs no zone database."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = f"no time zone is called {name!r}; use an IANA name such as 'Europe/Berlin' or 'UTC'"
        raise ValueError(msg) from error


def window(period: Period, now: datetime, tz: tzinfo) -> Window:
    """Window of ``period`` that holds ``now``; its days are those of ``tz``.

    Windows of one period and zone follow each other without gap or overlap, also where a clock
    change falls on midnight or a day is left out. ValueError if ``now`` has no time zone.
    """
    if now.tzinfo is None:
        msg = f"a time needs a time zone, got {now.isoformat()}"
        raise ValueError(msg)
    if period in {Period.TOTAL, Period.PREPAID}:
        return Window(EPOCH, None)
    first = _first_day(period, now.astimezone(tz).date())
    if now < _midnight(first, tz):
        first = _first_day(period, first - timedelta(days=1))
    if now >= _midnight(_next_first_day(period, first), tz):
        first = _next_first_day(period, first)
    return Window(_midnight(first, tz), _midnight(_next_first_day(period, first), tz))


def _first_day(period: Period, day: date) -> date:
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else day


def _next_first_day(period: Period, first: date) -> date:
    if period is Period.WEEK:
        return first + timedelta(days=DAYS_PER_WEEK)
    if period is Period.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=1)


def _midnight(day: date, tz: tzinfo) -> datetime:
    """First instant of local ``day``; where midnight is skipped, the instant of the change."""
    return datetime.combine(day, time(), tz).astimezone(UTC)
