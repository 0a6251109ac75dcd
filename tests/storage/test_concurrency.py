"""Races: threads and processes at one budget, decided by the database alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from databases import contender
from sqlalchemy import event

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from storage.engine import create_ledger_engine, migrate
from storage.errors import LedgerBusyError, LedgerConflictError
from storage.holds import charge_held
from storage.ledger import SettleEntry
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from storage.ledger import Call, OpenEntry

HOLD = 7


def test_100_threads_at_a_budget_for_40_get_exactly_40(
    ledger: Ledger,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    now: datetime,
) -> None:
    """No overshoot and no false refusal, while others settle at their hold."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 40 * HOLD)])

    def request(i: int) -> bool:
        try:
            entry_id = ledger.open(opening(f"q{i}", HOLD), now)
        except BudgetExceededError:
            return False
        if i % 2:
            ledger.settle(SettleEntry(entry_id, (call(HOLD),), latency_s=0), now)
        return True

    with ThreadPoolExecutor(100) as threads:
        admitted = sum(threads.map(request, range(100)))
    (status,) = ledger.budget_status(now)
    assert admitted == 40
    assert status.facts.spent_nano_usd + status.facts.held_nano_usd == 40 * HOLD
    assert status.overshoot_nano_usd == 0
    assert ledger.examine() == []


def test_4_processes_that_start_at_once_share_one_budget(empty_url: str, now: datetime) -> None:
    """They make the schema together, and exactly what fits is admitted, on one file or server."""
    engine = create_ledger_engine(empty_url)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.DAY, 25 * HOLD)])
    running = [contender("race", empty_url, f"p{i}", "10", str(HOLD)) for i in range(4)]
    admitted = [int(process.communicate(timeout=100)[0]) for process in running]
    assert sum(admitted) == 25
    (status,) = ledger.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (25 * HOLD, 0)
    assert ledger.examine() == []
    ledger.close()


def test_processes_that_find_no_schema_make_it_once(empty_url: str) -> None:
    """Two first starts at the same moment both serve."""
    running = [contender("race", empty_url, f"p{i}", "1", "0") for i in range(3)]
    assert [process.communicate(timeout=100)[0] for process in running] == ["1\n"] * 3


@pytest.mark.postgres
@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
def test_a_transaction_that_lost_a_deadlock_is_run_again(empty_url: str, now: datetime) -> None:
    """Two transactions that lock in opposite order both end well."""
    engine = create_ledger_engine(empty_url)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget(scope, Period.DAY, 100) for scope in ("a", "b")])
    keys = ledger.write(lambda session: _open_windows(session, now))
    started = [False, False]

    def move(mine: int) -> None:
        def work(session: Session) -> None:
            charge_held(session, keys[mine], 0)
            if not started[mine]:
                started[mine] = True
                while not all(started):
                    pass
            charge_held(session, keys[1 - mine], 0)

        ledger.write(work)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(move, range(2)))
    assert started == [True, True]
    ledger.close()


def _open_windows(session: Session, now: datetime) -> list[tuple[int, datetime]]:
    from storage.budgets import budgets_in_force  # noqa: PLC0415
    from storage.holds import open_window  # noqa: PLC0415

    keys = []
    for known in budgets_in_force(session):
        start = known.window(now).start
        open_window(session, known, start)
        keys.append((known.budget_id, start))
    return keys


def test_a_conflict_that_does_not_end_is_reported(ledger: Ledger) -> None:
    """The transaction is tried a few times, then the caller hears of it."""
    runs = []

    def work(_: Session) -> None:
        runs.append(1)
        msg = "in the way"
        raise LedgerConflictError(msg)

    with pytest.raises(LedgerConflictError):
        ledger.write(work)
    assert len(runs) == 4


def test_waiting_for_a_lock_or_a_connection_ends(empty_url: str) -> None:
    """A caller is told that the ledger is busy instead of hanging."""
    engine = create_ledger_engine(empty_url, pool_size=1, wait_s=0.05)
    ledger = Ledger(engine)
    with engine.connect(), pytest.raises(LedgerBusyError, match="every connection"):
        ledger.read(lambda session: session.connection())
    ledger.close()


def test_a_locked_sqlite_file_is_busy(tmp_path: Path) -> None:
    """Another process that keeps the write lock is named as the reason."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    first, second = (create_ledger_engine(url, wait_s=0.05) for _ in range(2))
    with first.begin(), pytest.raises(LedgerBusyError, match="keeps it locked"):
        migrate(second)
    first.dispose()
    second.dispose()


def test_a_busy_sqlite_file_starves_nobody(tmp_path: Path) -> None:
    """Beside one who leaves short gaps between long transactions every writer gets its turn."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = create_ledger_engine(url, wait_s=0.6)
    migrate(engine)
    ledger = Ledger(engine)
    over, inside = threading.Event(), threading.Event()

    def write_on_and_on() -> None:
        connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, timeout=0)
        while not over.is_set():
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                time.sleep(0.0005)
                continue
            inside.set()
            time.sleep(0.05)
            connection.execute("COMMIT")
            inside.clear()
            time.sleep(0.004)
        connection.close()

    hog = threading.Thread(target=write_on_and_on)
    hog.start()
    try:
        for _ in range(10):
            inside.wait()
            ledger.write(lambda session: session.connection())
    finally:
        over.set()
        hog.join()
    ledger.close()


@pytest.mark.postgres
@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
def test_money_that_comes_free_while_a_hold_is_refused_is_used(
    empty_url: str,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    now: datetime,
) -> None:
    """No refusal says in its own figures that the request would have fitted."""
    mine, others = (Ledger(create_ledger_engine(empty_url)) for _ in range(2))
    migrate(mine.engine)
    mine.declare_budgets([Budget("organisation", Period.DAY, HOLD)])
    entry_id = others.open(opening("first", HOLD), now)
    settled = []

    @event.listens_for(mine.engine, "before_cursor_execute")
    def settle_the_other(*arguments: object) -> None:
        statement = str(arguments[2])
        if "FROM budget_windows" in statement and not settled:
            settled.append(others.settle(SettleEntry(entry_id, (call(0),), latency_s=0), now))

    mine.open(opening("second", HOLD), now)
    assert len(settled) == 1
    (status,) = mine.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (0, HOLD)
    assert mine.examine() == []
    mine.close()
    others.close()
