"""Windows of budgets: calendar arithmetic in any zone, through every clock change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cost_models.budgets import EPOCH, Budget, Period, window, zone

ZONES = sorted(available_timezones())
CALENDAR = [Period.DAY, Period.WEEK, Period.MONTH]
INSTANTS = st.datetimes(
    min_value=datetime(1975, 1, 1),  # noqa: DTZ001 - the strategy wants naive bounds
    max_value=datetime(2037, 1, 1),  # noqa: DTZ001 - the strategy wants naive bounds
    timezones=st.just(UTC),
)
ONE_TICK = timedelta(microseconds=1)


@given(now=INSTANTS, name=st.sampled_from(ZONES), period=st.sampled_from(CALENDAR))
@example(datetime(2011, 12, 30, 10, tzinfo=UTC), "Pacific/Apia", Period.DAY)
@example(datetime(1995, 10, 29, 3, 0, tzinfo=UTC), "America/St_Johns", Period.DAY)
@example(datetime(2000, 10, 29, 2, 40, tzinfo=UTC), "America/St_Johns", Period.DAY)
@example(datetime(2018, 11, 4, 3, 0, tzinfo=UTC), "America/Sao_Paulo", Period.DAY)
@example(datetime(2024, 11, 3, 4, 30, tzinfo=UTC), "America/Havana", Period.WEEK)
def test_every_instant_is_in_one_window_and_windows_touch(
    now: datetime, name: str, period: Period
) -> None:
    """No money is counted twice or nowhere, whatever the clocks of a zone do."""
    tz = ZoneInfo(name)
    start, end = window(period, now, tz)
    assert end is not None
    assert start <= now < end
    assert window(period, start, tz) == (start, end)
    assert window(period, end - ONE_TICK, tz) == (start, end)
    assert window(period, end, tz).start == end
    assert window(period, start - ONE_TICK, tz).end == start


@pytest.mark.parametrize(
    ("period", "name", "now", "start", "end"),
    [
        pytest.param(
            Period.DAY,
            "UTC",
            "2026-03-29T23:59:59+00:00",
            "2026-03-29T00:00:00+00:00",
            "2026-03-30T00:00:00+00:00",
            id="a plain day",
        ),
        pytest.param(
            Period.DAY,
            "Europe/Berlin",
            "2026-03-29T12:00:00+02:00",
            "2026-03-28T23:00:00+00:00",
            "2026-03-29T22:00:00+00:00",
            id="spring day of 23 hours",
        ),
        pytest.param(
            Period.DAY,
            "Europe/Berlin",
            "2026-10-25T12:00:00+01:00",
            "2026-10-24T22:00:00+00:00",
            "2026-10-25T23:00:00+00:00",
            id="autumn day of 25 hours",
        ),
        pytest.param(
            Period.DAY,
            "Asia/Kolkata",
            "2026-05-01T18:29:59+00:00",
            "2026-04-30T18:30:00+00:00",
            "2026-05-01T18:30:00+00:00",
            id="half-hour zone",
        ),
        pytest.param(
            Period.DAY,
            "Africa/Cairo",
            "2024-04-26T12:00:00+03:00",
            "2024-04-25T22:00:00+00:00",
            "2024-04-26T21:00:00+00:00",
            id="midnight itself is skipped",
        ),
        pytest.param(
            Period.WEEK,
            "UTC",
            "2026-11-01T10:00:00+00:00",
            "2026-10-26T00:00:00+00:00",
            "2026-11-02T00:00:00+00:00",
            id="a Sunday belongs to the week before",
        ),
        pytest.param(
            Period.MONTH,
            "UTC",
            "2028-02-29T10:00:00+00:00",
            "2028-02-01T00:00:00+00:00",
            "2028-03-01T00:00:00+00:00",
            id="February of a leap year",
        ),
        pytest.param(
            Period.MONTH,
            "America/New_York",
            "2027-01-01T03:00:00+00:00",
            "2026-12-01T05:00:00+00:00",
            "2027-01-01T05:00:00+00:00",
            id="still December in New York",
        ),
    ],
)
def test_windows_are_those_of_the_wall_calendar(
    period: Period, name: str, now: str, start: str, end: str
) -> None:
    """A day, a week and a month begin at local midnight."""
    found = window(period, datetime.fromisoformat(now), zone(name))
    assert found == (datetime.fromisoformat(start), datetime.fromisoformat(end))


def test_the_total_never_ends() -> None:
    """A budget over the total has one window for good."""
    assert window(Period.TOTAL, datetime(2026, 1, 1, tzinfo=UTC), UTC) == (EPOCH, None)


def test_a_time_without_zone_is_refused() -> None:
    """A naive time could mean any window."""
    with pytest.raises(ValueError, match="needs a time zone"):
        window(Period.DAY, datetime(2026, 1, 1), UTC)  # noqa: DTZ001 - the case under test


@pytest.mark.parametrize(
    ("scope", "limit", "time_zone"),
    [
        pytest.param("", 1, "UTC", id="no scope"),
        pytest.param("organisation", -1, "UTC", id="negative limit"),
        pytest.param("organisation", 1, "Mars/Olympus", id="unknown zone"),
        pytest.param("organisation", 1, "../etc/passwd", id="a path is no zone"),
    ],
)
def test_a_malformed_budget_is_refused(scope: str, limit: int, time_zone: str) -> None:
    """A budget is valid from birth."""
    with pytest.raises(ValueError, match=r"budget|time zone"):
        Budget(scope, Period.DAY, limit, time_zone)
