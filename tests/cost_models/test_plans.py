"""What was to be spent by now: shares of a window, by the clock and by the hours of a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.budgets import Period, window
from cost_models.plans import planned_share, projected

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = (0.0,) * 9 + (1.0,) * 8 + (0.0,) * 7
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"])
PERIODS = st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH])
HOURS = st.none() | st.tuples(*[st.integers(1, 5).map(float)] * 24)


@given(now=MOMENTS, zone=ZONES, period=PERIODS, hours=HOURS, later_s=st.integers(0, 90_000))
def test_a_plan_goes_from_nothing_to_all_and_never_back(
    now: datetime, zone: str, period: Period, hours: tuple[float, ...] | None, later_s: int
) -> None:
    """In every zone, over changes of the clock, for every length of month."""
    tz = ZoneInfo(zone)
    found = window(period, now, tz)
    assert found.end is not None
    share = planned_share(found, now, tz, hours)
    assert planned_share(found, found.start, tz, hours) == 0.0
    assert planned_share(found, found.end, tz, hours) == pytest.approx(1.0)
    assert 0.0 <= share <= planned_share(found, now + timedelta(seconds=later_s), tz, hours) + 1e-12
    assert planned_share(found, found.end + timedelta(days=9), tz, hours) == pytest.approx(1.0)


def test_hours_are_those_of_the_zone() -> None:
    """Half of an office day is over at 13:00 in Berlin, also on the day that has 23 hours."""
    for day in (datetime(2026, 7, 1, tzinfo=BERLIN), datetime(2026, 3, 29, tzinfo=BERLIN)):
        found = window(Period.DAY, day + timedelta(hours=12), BERLIN)
        shares = [planned_share(found, day.replace(hour=h), BERLIN, OFFICE) for h in (9, 13, 17)]
        assert shares == pytest.approx([0.0, 0.5, 1.0])
    assert planned_share(found, day.replace(hour=9, minute=30), BERLIN, OFFICE) == 1 / 16


def test_what_never_ends_has_no_plan() -> None:
    """The message says what does."""
    now = datetime(2026, 7, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="day, week or month"):
        planned_share(window(Period.TOTAL, now, UTC), now, UTC)


@given(limit=st.integers(1, 10**12), spent=st.integers(0, 10**12), planned=st.floats(0, 1))
def test_a_projection_goes_on_as_before_once_there_is_enough(
    limit: int, spent: int, planned: float
) -> None:
    """From a tenth of the plan and a fifth of the limit on; never below what is spent."""
    found = projected(spent, limit, planned)
    assert (found is None) == (planned < 0.1 or spent < 0.2 * limit)
    if found is not None:
        assert spent <= found <= 10 * spent + 1
