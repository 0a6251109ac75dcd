"""Group commit: what arrives together is committed together, and each is told its own outcome."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert, text

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from storage.engine import create_ledger_engine
from storage.errors import EntryNotFoundError, LedgerBusyError, LedgerError
from storage.ledger import SettleEntry
from storage.models import RefusalRow
from storage.store import Ledger
from storage.writer import Job, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger import Call, OpenEntry

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]


@contextmanager
def kept_busy(ledger: Ledger) -> Iterator[None]:
    """Keep the writer at one piece of work, so that the next ones share a transaction."""
    begun, go_on = threading.Event(), threading.Event()

    def work(_: Session) -> None:
        begun.set()
        assert go_on.wait(30)

    ledger._writer.submit(Job(work))  # noqa: SLF001 - to line work up behind it
    assert begun.wait(30)
    try:
        yield
    finally:
        go_on.set()


def commits_of(engine: Engine) -> list[object]:
    """Give a list that grows with each commit from now on."""
    seen: list[object] = []
    event.listen(engine, "commit", seen.append)
    return seen


def test_what_arrives_during_a_commit_shares_the_next_one(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """50 openings are one transaction, and so are their settlements."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 500)])
    for whole in (True, False):
        commits = commits_of(ledger.engine)
        with kept_busy(ledger):
            if whole:
                opened = [ledger.opening(opening(f"q{i}", 10), now) for i in range(50)]
            else:
                ids = [opening.future.result() for opening in opened]
                settled = [
                    ledger.settling(SettleEntry(i, (call(3),), latency_s=0), now) for i in ids
                ]
        if whole:
            assert len({opening.future.result(timeout=30) for opening in opened}) == 50
        else:
            assert {s.result(timeout=30).cost_nano_usd for s in settled} == {3}
        assert len(commits) == 1
    (status,) = ledger.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (150, 0)
    assert ledger.examine() == []


def test_a_refusal_does_not_undo_those_it_shares_a_transaction_with(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """What does not fit, what was opened before, what nobody opened: each hears it alone."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    first = ledger.open(opening("q0", 40), now)
    with kept_busy(ledger):
        fits = ledger.opening(opening("q1", 60), now)
        too_much = ledger.opening(opening("q2", 101), now)
        twice = ledger.opening(opening("q1", 0), now)
        unknown = ledger.settling(SettleEntry(999, (call(1),), latency_s=0), now)
        settled = ledger.settling(SettleEntry(first, (call(4),), latency_s=0), now)
    assert fits.future.result(timeout=30) > first
    assert settled.result(timeout=30).cost_nano_usd == 4
    with pytest.raises(BudgetExceededError):
        too_much.future.result(timeout=30)
    with pytest.raises(LedgerError, match="attempt 0 of request 'q1'"):
        twice.future.result(timeout=30)
    with pytest.raises(EntryNotFoundError):
        unknown.result(timeout=30)
    (status,) = ledger.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (4, 60)
    assert ledger.examine() == []


def test_a_defect_in_one_piece_of_work_is_that_ones_alone(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """What the database refuses, or Python, undoes the batch; the others are then run alone."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    orphan = insert(RefusalRow).values(request_id="nobody", reason="?", refused_at=now)
    with kept_busy(ledger):
        good = [ledger.opening(opening(f"q{i}", 10), now) for i in range(3)]
        refused_by_the_database = Job(lambda session: session.execute(orphan))
        broken = Job(lambda _session: 1 // 0)
        for job in (refused_by_the_database, broken):
            ledger._writer.submit(job)  # noqa: SLF001 - no method of the ledger is broken
        last = ledger.opening(opening("q3", 10), now)
    assert len({o.future.result(timeout=30) for o in (*good, last)}) == 4
    with pytest.raises(LedgerError, match=r"(?i)foreign key"):
        refused_by_the_database.future.result(timeout=30)
    with pytest.raises(ZeroDivisionError):
        broken.future.result(timeout=30)
    (status,) = ledger.budget_status(now)
    assert status.facts.held_nano_usd == 40
    assert ledger.examine() == []


def test_when_the_ledger_cannot_be_written_everyone_hears_it_and_nothing_is_there(
    tmp_path: Path, opening: Opening, now: datetime, sqlite_ledger: Ledger
) -> None:
    """Each gets an error of its own, and the next piece of work is committed as ever."""
    impatient = Ledger(create_ledger_engine(str(sqlite_ledger.engine.url), wait_s=0.05))
    sqlite_ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    with sqlite_ledger.engine.begin():
        asked = [impatient.opening(opening(f"q{i}", 10), now) for i in range(5)]
        errors = [o.future.exception(timeout=30) for o in asked]
    assert {type(error) for error in errors} == {LedgerBusyError}
    assert len({id(error) for error in errors}) == 5
    assert sqlite_ledger.budget_status(now)[0].facts.held_nano_usd == 0
    assert impatient.open(opening("q0", 10), now)
    impatient.close()


def test_the_queue_is_bounded(sqlite_ledger: Ledger) -> None:
    """Memory is not filled by those who wait for a database that is slow or gone."""
    begun, go_on = threading.Event(), threading.Event()

    def write(work: Callable[[Session], Any]) -> Any:  # noqa: ANN401 - what the work gives
        begun.set()
        assert go_on.wait(30)
        return sqlite_ledger.write(work)

    writer = Writer(write, write, lambda _session, _entries: None, max_queued=3)
    jobs = [Job(lambda _session: "written") for _ in range(8)]
    taken = jobs[:1]
    writer.submit(jobs[0])
    assert begun.wait(30)
    for job in jobs[1:]:
        with suppress(LedgerBusyError):
            writer.submit(job)
            taken.append(job)
    assert len(taken) == 1 + 3
    go_on.set()
    assert [job.future.result(timeout=30) for job in taken] == ["written"] * len(taken)
    writer.close()


def test_a_closed_ledger_has_written_what_was_queued_and_can_be_used_again(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """Closing ends the thread and the connections; the next use makes new ones."""
    with kept_busy(ledger):
        asked = [ledger.opening(opening(f"q{i}", 0), now) for i in range(5)]
    ledger.close()
    assert all(o.future.done() and o.future.result() for o in asked)
    ledger.close()
    assert ledger.open(opening("q9", 0), now)


@pytest.mark.postgres
@pytest.mark.parametrize("empty_url", ["postgresql"], indirect=True)
def test_batches_of_several_processes_never_deadlock(
    postgres: Any,  # noqa: ANN401 - tests/databases.py
    opening: Opening,
    call: CallOf,
    now: datetime,
    empty_url: str,
) -> None:
    """Rows are locked in one order, whatever the order of the requests in a batch."""
    url = postgres.new_database()
    ledgers = [Ledger(create_ledger_engine(url)) for _ in range(2)]
    scopes = [f"key:{i}" for i in range(6)]
    ledgers[0].declare_budgets([Budget(scope, Period.DAY, 10**9) for scope in scopes])

    def request(i: int) -> None:
        mine = ledgers[i % 2]
        order = scopes if i % 4 < 2 else scopes[::-1]
        asked = opening(f"q{i}", 1, scopes=(order[i % 6],))
        entry_id = mine.opening(asked, now).future.result(timeout=60)
        mine.settling(SettleEntry(entry_id, (call(1),), latency_s=0), now).result(timeout=60)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(request, range(200)))
    seen = ledgers[0].read(
        lambda s: s.scalar(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    )
    assert seen == 0
    assert ledgers[0].examine() == []
    for ledger in ledgers:
        ledger.close()
