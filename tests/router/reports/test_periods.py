"""Periods by name, and how figures are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reports.errors import ReportError
from router.reports.periods import FORMS, named_period
from router.reports.words import money, money_range, signed

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "first", "days", "before", "after"),
    [
        ("2026", "2026-01-01", 365, "2025", "2027"),
        ("2026-Q1", "2026-01-01", 90, "2025-Q4", "2026-Q2"),
        ("2026-02", "2026-02-01", 28, "2026-01", "2026-03"),
        ("2026-W01", "2025-12-29", 7, "2025-W52", "2026-W02"),
        ("2026-03-29", "2026-03-29", 1, "2026-03-28", "2026-03-30"),
        ("this-month", "2026-03-01", 31, "2026-02", "2026-04"),
        ("last-quarter", "2025-10-01", 92, "2025-Q3", "2026-Q1"),
    ],
)
def test_a_name_is_a_time(name: str, first: str, days: int, before: str, after: str) -> None:
    """With the ones before and after it, which it touches."""
    found = named_period(name, UTC, NOW)
    assert found.since == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert found.end - found.since == timedelta(days=days)
    earlier, later = found.earlier(UTC), found.later(UTC)
    assert (earlier.name, later.name) == (before, after)
    assert (earlier.end, later.since) == (found.since, found.end)


@given(st.integers(0, 36_000 * 24), st.sampled_from(sorted(FORMS)))
def test_periods_of_a_kind_follow_each_other_in_any_zone(hours: int, kind: str) -> None:
    """No gap, no overlap, also where clocks change."""
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    found = named_period(f"this-{kind}", zone, now)
    assert found.since <= now < found.end
    assert found.earlier(zone).end == found.since
    assert found.later(zone).since == found.end
    assert named_period(found.name, zone, now) == found


@pytest.mark.parametrize("name", ["2026-13", "2026-W54", "2026-02-30", "October", "", "last-era"])
def test_what_is_no_period_is_refused(name: str) -> None:
    """The message says how a period is written, or that there is none."""
    with pytest.raises(ReportError, match=r"there is no|a period is written"):
        named_period(name, UTC, NOW)


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (0.0, "$0.00"),
        (1234.5, "$1,234.50"),
        (-3.1, "-$3.10"),
        (0.5, "$0.50"),
        (0.0014523, "$0.001452"),
        (1e-9, "$0.000000001"),
        (None, "not known"),
        (float("inf"), "not known"),
    ],
)
def test_money_is_written_one_way(amount: float | None, written: str) -> None:
    """Two places from a dollar on, four significant digits below; unknown is never $0."""
    assert money(amount) == written


def test_open_intervals_say_so() -> None:
    """An end that the data do not bound is not a figure."""
    assert money_range({"low": 1.0, "high": None}) == "at least $1.00"
    assert money_range({"low": None, "high": 2.0}) == "at most $2.00"
    assert money_range({"low": None, "high": None}) == "not bounded by the data"
    assert (signed(2.0), signed(-2.0)) == ("+$2.00", "-$2.00")
