"""The queue for money: who would fit waits in order, who never will is refused at once."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from storage.engine import create_ledger_engine
from storage.errors import HeldBackError, LedgerUnavailableError, WithdrawnError
from storage.ledger import SettleEntry
from storage.models import WaitRow
from storage.store import Ledger
from storage.writer import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from storage.ledger import Call, OpenEntry

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]

LONG_S = 60.0
"""A bound that no test waits for."""


@pytest.fixture
def other(ledger: Ledger) -> Iterator[Ledger]:
    """Another process's view of the same ledger."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    view = Ledger(create_ledger_engine(url))
    yield view
    view.close()


def total(limit: int, scope: str = "organisation") -> Budget:
    """Make a budget that never resets."""
    return Budget(scope, Period.TOTAL, limit)


def n_waiting(ledger: Ledger) -> int:
    """Count the places in the queue."""
    return ledger.read(lambda session: session.scalar(select(func.count(WaitRow.id))) or 0)


def until_waiting(ledger: Ledger, n: int) -> None:
    """Wait until so many places are taken."""
    end = time.monotonic() + 30
    while n_waiting(ledger) != n:
        assert time.monotonic() < end, f"{n_waiting(ledger)} wait, not {n}"
        time.sleep(0.005)


def still_waits(future: Future[int]) -> bool:
    """Tell that nothing was decided within a moment."""
    return not wait([future], timeout=0.1).done


def pay(ledger: Ledger, entry_id: int, calls: tuple[Call, ...], now: datetime) -> None:
    """Settle an entry."""
    ledger.settle(SettleEntry(entry_id, calls, latency_s=0), now)


def test_what_would_fit_if_others_cost_nothing_more_waits_for_them(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A settlement far below its hold lets the next one in, and no place is left behind."""
    ledger.declare_budgets([total(100)])
    first = ledger.open(opening("q1", 90), now)
    second = ledger.opening(opening("q2", 90), now, LONG_S)
    until_waiting(ledger, 1)
    assert still_waits(second.future)
    pay(ledger, first, (call(10),), now)
    assert second.future.result(timeout=30) > first
    assert n_waiting(ledger) == 0
    assert ledger.examine() == []


def test_what_would_not_fit_even_then_is_refused_at_once(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Also where another budget only holds it back: that wait would be for nothing."""
    ledger.declare_budgets([total(100), total(50, "key:a")])
    first = ledger.open(opening("q1", 20, scopes=("key:a",)), now)
    pay(ledger, first, (call(20),), now)
    ledger.open(opening("q2", 95), now)
    asked = opening("q3", 40, scopes=("organisation", "key:a"))
    with pytest.raises(BudgetExceededError) as refused:
        ledger.opening(asked, now, LONG_S).future.result(timeout=30)
    assert not isinstance(refused.value, HeldBackError)
    assert refused.value.facts.scope == "key:a"
    assert n_waiting(ledger) == 0


def test_a_wait_in_vain_ends_as_soon_as_that_is_known(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """What was held is spent: the next one will never fit."""
    ledger.declare_budgets([total(100)])
    first = ledger.open(opening("q1", 90), now)
    second = ledger.opening(opening("q2", 20), now, LONG_S)
    until_waiting(ledger, 1)
    pay(ledger, first, (call(90),), now)
    with pytest.raises(BudgetExceededError) as refused:
        second.future.result(timeout=30)
    assert not isinstance(refused.value, HeldBackError)
    assert n_waiting(ledger) == 0


def test_a_wait_ends_at_its_bound_with_the_figures(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """It is told that others hold the money, and nothing was written."""
    ledger.declare_budgets([total(100)])
    ledger.open(opening("q1", 90), now)
    began_s = time.monotonic()
    with pytest.raises(HeldBackError, match="held by requests in flight") as held_back:
        ledger.opening(opening("q2", 20), now, 0.3).future.result(timeout=30)
    assert time.monotonic() - began_s >= 0.3
    assert held_back.value.facts.held_nano_usd == 90
    assert n_waiting(ledger) == 0
    (status,) = ledger.budget_status(now)
    assert status.facts.held_nano_usd == 90


def test_without_time_to_wait_it_is_held_back_at_once(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """No place is taken."""
    ledger.declare_budgets([total(100)])
    ledger.open(opening("q1", 90), now)
    with pytest.raises(HeldBackError):
        ledger.open(opening("q2", 20), now)
    with pytest.raises(HeldBackError):
        ledger.opening(opening("q3", 20), now).future.result(timeout=30)
    assert n_waiting(ledger) == 0


def test_a_queue_moves_in_the_order_of_arrival_across_processes(
    ledger: Ledger, other: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Each place is served by the process that took it, none overtakes, also a small one."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q0", 80), now)
    queue = []
    for i, (process, hold) in enumerate(
        [(other, 80), (ledger, 80), (other, 80), (other, 15), (ledger, 80)], start=1
    ):
        queue.append((process, process.opening(opening(f"q{i}", hold), now, LONG_S)))
        until_waiting(ledger, i)
    running = (ledger, entry_id)
    for i, (process, asked) in enumerate(queue):
        pay(*running, (call(1),), now)
        running = (process, asked.future.result(timeout=30))
        if i == 2:
            small = queue[3][1].future.result(timeout=30)
            pay(other, small, (call(1),), now)
        if i == 3:
            continue
        behind = [later.future for _, later in queue[i + 1 :]]
        assert not any(future.done() for future in behind[1 if i == 2 else 0 :])
    pay(*running, (call(1),), now)
    assert n_waiting(ledger) == 0
    assert ledger.examine() == []


def test_a_newcomer_does_not_overtake_the_queue(
    ledger: Ledger, other: Ledger, opening: Opening, now: datetime
) -> None:
    """What is free is kept for the first in the queue, or large requests would starve."""
    ledger.declare_budgets([total(100)])
    ledger.open(opening("q1", 60), now)
    large = other.opening(opening("q2", 90), now, LONG_S)
    until_waiting(ledger, 1)
    small = ledger.opening(opening("q3", 30), now, LONG_S)
    until_waiting(ledger, 2)
    assert still_waits(small.future)
    other.withdraw(large)
    assert small.future.result(timeout=30)


def test_a_queue_at_one_budget_stands_in_nobodys_way_at_another(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """A tenant that waits for its own money does not stop the organisation."""
    ledger.declare_budgets([total(1000), total(50, "key:a")])
    both = ("organisation", "key:a")
    ledger.open(opening("q1", 40, scopes=both), now)
    ledger.opening(opening("q2", 40, scopes=both), now, LONG_S)
    until_waiting(ledger, 1)
    assert ledger.opening(opening("q3", 40), now, LONG_S).future.result(timeout=30)
    assert n_waiting(ledger) == 1


def test_what_costs_nothing_never_waits(ledger: Ledger, opening: Opening, now: datetime) -> None:
    """A free model serves while others queue for money."""
    ledger.declare_budgets([total(100)])
    ledger.open(opening("q1", 90), now)
    ledger.opening(opening("q2", 90), now, LONG_S)
    until_waiting(ledger, 1)
    assert ledger.opening(opening("q3", 0), now, LONG_S).future.result(timeout=30)


def test_who_leaves_the_queue_leaves_nothing(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Neither a place nor a hold; the next one is not kept waiting."""
    ledger.declare_budgets([total(100)])
    first = ledger.open(opening("q1", 90), now)
    second, third = (ledger.opening(opening(f"q{i}", 90), now, LONG_S) for i in (2, 3))
    until_waiting(ledger, 2)
    ledger.withdraw(second)
    with pytest.raises(WithdrawnError):
        second.future.result(timeout=30)
    until_waiting(ledger, 1)
    pay(ledger, first, (call(1),), now)
    pay(ledger, third.future.result(timeout=30), (call(1),), now)
    assert n_waiting(ledger) == 0
    assert ledger.read(lambda s: s.scalar(select(func.count(WaitRow.id)))) == 0
    (status,) = ledger.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (2, 0)


def test_the_place_of_a_dead_process_stands_in_nobodys_way_for_long(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """A place counts while its process renews it; then it is cleared away."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q1", 90), now)
    (status,) = ledger.budget_status(now)
    assert status.facts.held_nano_usd == 90
    lapsed = now + timedelta(seconds=LEASE_S)
    ledger.write(
        lambda s: s.add(WaitRow(budget_id=1, replica_id=ledger.replica_id, expires_at=lapsed))
    )
    pay(ledger, entry_id, (), now)
    with pytest.raises(HeldBackError):
        ledger.opening(opening("q2", 10), now).future.result(timeout=30)
    assert ledger.opening(opening("q3", 10), lapsed).future.result(timeout=30)


def test_a_wait_over_midnight_is_served_by_the_new_day(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """Nobody has to settle for it: the window changes while it waits."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    late = now.replace(hour=23, minute=59, second=59, microsecond=700_000)
    ledger.open(opening("q1", 90), late)
    assert ledger.opening(opening("q2", 90), late, LONG_S).future.result(timeout=30)
    before, after = (
        ledger.budget_status(late)[0],
        ledger.budget_status(late + timedelta(hours=1))[0],
    )
    assert (before.facts.held_nano_usd, after.facts.held_nano_usd) == (90, 90)


def test_closing_turns_away_who_waits(
    ledger: Ledger, other: Ledger, opening: Opening, now: datetime
) -> None:
    """The place is given back, and the caller hears of it."""
    ledger.declare_budgets([total(100)])
    ledger.open(opening("q1", 90), now)
    second = other.opening(opening("q2", 90), now, LONG_S)
    until_waiting(ledger, 1)
    other.close()
    with pytest.raises((HeldBackError, LedgerUnavailableError)):
        second.future.result(timeout=30)
    assert n_waiting(ledger) == 0
