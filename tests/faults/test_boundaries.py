"""A day that ends in the middle of the load, in zones and on days whose midnights are odd."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from faults.gateways import LONG
from sqlalchemy import select

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.ledger import Asked, Call, OpenEntry, SettleEntry
from storage.models import BudgetWindowRow
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

HOLD, COST = 10, 7
N_FIT, N_ASKED = 15, 25
"""Requests that the money of one day is for, and those that ask on each side of its end."""

LIMIT = (N_FIT - 1) * COST + HOLD
ONE_TICK = timedelta(microseconds=1)
BOUNDARIES = [
    pytest.param("Europe/Berlin", "2026-03-29T22:00Z", id="the end of a day of 23 hours"),
    pytest.param("Europe/Berlin", "2026-10-25T23:00Z", id="the end of a day of 25 hours"),
    pytest.param("Asia/Kolkata", "2026-05-01T18:30Z", id="a zone of half an hour"),
    pytest.param("Asia/Kathmandu", "2026-05-01T18:15Z", id="a zone of a quarter of an hour"),
    pytest.param("Australia/Lord_Howe", "2026-04-05T13:30Z", id="a change of half an hour"),
    pytest.param("Africa/Cairo", "2026-04-23T22:00Z", id="a midnight that is skipped"),
    pytest.param("America/Havana", "2026-11-01T04:00Z", id="a midnight that comes twice"),
    pytest.param("UTC", "2017-01-01T00:00Z", id="after a leap second"),
]


def entry(name: str) -> OpenEntry:
    """Build an entry that holds more than it will cost."""
    decision = Decision(arm=Arm("small", "direct"), propensity=1.0, policy_version="fixed")
    return OpenEntry(Asked(Query(name, "2+2?")), decision, HOLD)


def settle(ledger: Ledger, entry_id: int, now: datetime) -> None:
    """Settle at the true cost."""
    call = Call("small", "answer", Usage(n_calls=1), COST, 0.1)
    ledger.settle(SettleEntry(entry_id, (call,), 0.1), now)


def windows(ledger: Ledger) -> dict[datetime, tuple[int, int]]:
    """Give what was spent and is held in each window, by its start."""
    found = ledger.read(lambda s: s.scalars(select(BudgetWindowRow)).all())
    return {row.window_start: (row.spent_nano_usd, row.held_nano_usd) for row in found}


@pytest.mark.parametrize(("zone", "boundary"), BOUNDARIES)
def test_a_clock_around_midnight_spends_each_day_once(
    sqlite_ledger: Ledger, zone: str, boundary: str
) -> None:
    """The last tick is the old day's; a clock that steps back finds that day as it left it."""
    midnight = datetime.fromisoformat(boundary)
    sqlite_ledger.declare_budgets([Budget("organisation", Period.DAY, 2 * HOLD, zone)])
    before, after = midnight - ONE_TICK, midnight
    first = sqlite_ledger.open(entry("old day"), before)
    sqlite_ledger.open(entry("new day"), after)
    sqlite_ledger.open(entry("stepped back"), before)
    with pytest.raises(BudgetExceededError):
        sqlite_ledger.open(entry("stepped back too far"), before)
    settle(sqlite_ledger, first, after)
    assert len(windows(sqlite_ledger)) == 2
    assert min(windows(sqlite_ledger).items())[1] == (COST, HOLD)
    assert windows(sqlite_ledger)[midnight] == (0, HOLD)
    (status,) = sqlite_ledger.budget_status(after)
    assert status.window_start == midnight
    assert sqlite_ledger.examine() == []


@pytest.mark.parametrize(("zone", "boundary"), BOUNDARIES if LONG else [BOUNDARIES[4]])
def test_a_day_that_ends_under_load_is_spent_to_its_end_and_no_further(
    new_ledger: Callable[[], Ledger], zone: str, boundary: str
) -> None:
    """Clocks of two replicas run apart by minutes, and step back; each day pays for its own."""
    midnight = datetime.fromisoformat(boundary)
    ledger = new_ledger()
    replicas = [ledger, Ledger(ledger.engine)]
    ledger.declare_budgets([Budget("organisation", Period.DAY, LIMIT, zone)])
    chance = random.Random(boundary)
    step = timedelta(minutes=2)
    times = [midnight + step * i + timedelta(minutes=1) for i in range(-N_ASKED, N_ASKED)]
    times = sorted(times, key=lambda t: t + timedelta(minutes=chance.uniform(-15, 15)))

    def ask(i: int) -> bool:
        replica, now = replicas[i % 2], times[i]
        try:
            entry_id = replica.opening(entry(f"q{i}"), now, 60.0).future.result()
        except BudgetExceededError:
            return False
        settle(replica, entry_id, now + timedelta(hours=1))
        return True

    with ThreadPoolExecutor(8) as threads:
        served = list(threads.map(ask, range(len(times))))
    by_day = [
        sum(s for s, t in zip(served, times, strict=True) if (t >= midnight) is new)
        for new in (False, True)
    ]
    assert by_day == [N_FIT, N_FIT]
    assert list(windows(ledger).values()) == [(N_FIT * COST, 0)] * 2
    assert ledger.examine() == []
    replicas[1].close()
