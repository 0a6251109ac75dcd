"""Periods by name: ``2026``, ``2026-Q4``, ``2026-10``, ``2026-W40``, ``last-month``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING

from router.reports.errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = timedelta(days=1)
FORMS = {
    "year": re.compile(r"(\d{4})"),
    "quarter": re.compile(r"(\d{4})-Q([1-4])"),
    "month": re.compile(r"(\d{4})-(\d{2})"),
    "week": re.compile(r"(\d{4})-W(\d{2})"),
    "day": re.compile(r"(\d{4})-(\d{2})-(\d{2})"),
}


@dataclass(frozen=True, slots=True)
class ReportPeriod:
    """The time [``since``, ``end``), in UTC, of a report; ``kind`` None is a free one."""

    name: str
    kind: str | None
    since: datetime
    end: datetime

    def earlier(self, zone: tzinfo) -> ReportPeriod:
        """Give the period before this one: of its kind, or else of its length."""
        if self.kind is None:
            since = self.since - (self.end - self.since)
            return ReportPeriod("the time before", None, since, self.since)
        return _holding(self.kind, self.since.astimezone(zone).date() - DAY, zone)

    def later(self, zone: tzinfo) -> ReportPeriod:
        """Give the period after this one."""
        if self.kind is None:
            end = self.end + (self.end - self.since)
            return ReportPeriod("the time after", None, self.end, end)
        return _holding(self.kind, self.end.astimezone(zone).date(), zone)


def named_period(text: str, zone: tzinfo, now: datetime) -> ReportPeriod:
    """Read the name of a period whose days are those of ``zone``; ReportError says how it goes."""
    when, _, kind = text.partition("-")
    if when in {"this", "last"} and kind in FORMS:
        current = _holding(kind, now.astimezone(zone).date(), zone)
        return current if when == "this" else current.earlier(zone)
    for name, form in FORMS.items():
        match = form.fullmatch(text)
        if match is None:
            continue
        try:
            first = _FIRST_DAY[name](*map(int, match.groups()))
        except ValueError as error:
            msg = f"there is no {name} {text!r}: {error}"
            raise ReportError(msg) from error
        return _holding(name, first, zone)
    msg = (
        f"a period is written 2026, 2026-Q4, 2026-10, 2026-W40, 2026-10-07, this-month or "
        f"last-month, got {text!r}"
    )
    raise ReportError(msg)


_FIRST_DAY: dict[str, Callable[..., date]] = {
    "year": lambda year: date(year, 1, 1),
    "quarter": lambda year, quarter: date(year, 3 * quarter - 2, 1),
    "month": lambda year, month: date(year, month, 1),
    "week": lambda year, week: date.fromisocalendar(year, week, 1),
    "day": date,
}


def _holding(kind: str, day: date, zone: tzinfo) -> ReportPeriod:
    """Give the period of a kind that holds a day."""
    name, first, end = _bounds(kind, day)
    return ReportPeriod(name, kind, _midnight(first, zone), _midnight(end, zone))


def _bounds(kind: str, day: date) -> tuple[str, date, date]:
    """Give the name of a period, its first day, and the first day after it."""
    if kind == "day":
        return day.isoformat(), day, day + DAY
    if kind == "week":
        first = day - timedelta(days=day.weekday())
        year, week, _ = first.isocalendar()
        return f"{year}-W{week:02}", first, first + timedelta(days=7)
    if kind == "month":
        first = day.replace(day=1)
        return f"{first:%Y-%m}", first, (first + timedelta(days=31)).replace(day=1)
    if kind == "quarter":
        number = (day.month - 1) // 3
        first = date(day.year, 3 * number + 1, 1)
        return f"{day.year}-Q{number + 1}", first, (first + timedelta(days=93)).replace(day=1)
    return f"{day.year}", date(day.year, 1, 1), date(day.year + 1, 1, 1)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
