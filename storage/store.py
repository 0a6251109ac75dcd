"""The ledger with its transactions: what the service calls, from any thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import sessionmaker

from storage.alerts import NONE_PACED, Alert, alerts_due, take_alerts
from storage.answers import (
    Claim,
    Claimant,
    KeyPlace,
    any_expired,
    claim,
    drop_claim,
    forget_answers,
    keep_answer,
)
from storage.budgets import BudgetStatus, budget_status, declare_budgets
from storage.bulk import open_together
from storage.doctor import Finding, examine
from storage.engine import READ_ONLY
from storage.errors import (
    LedgerBusyError,
    LedgerConflictError,
    LedgerError,
    LedgerUnavailableError,
)
from storage.judging import judge_trial, trial_state
from storage.ledger import (
    OpenEntry,
    Refusal,
    SettleEntry,
    Settlement,
    find_open,
    open_entry,
    record_refusal,
    settle_entry,
)
from storage.outcomes import Grade, check_made_by, record_outcome
from storage.rates import Permit, RateAsk, admit, has_permits, release, tend
from storage.recovery import Recovered, beat, recover_dead, register_replica, this_process
from storage.rollups import next_to_roll_up, roll_up
from storage.writer import Job, Opening, Rating, Settling, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from datetime import datetime

    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session

    from cost_models.budgets import Budget
    from storage.forecasts import Paced
    from storage.waits import Place

T = TypeVar("T")

RETRY_PAUSES_S = (0.01, 0.05, 0.25)


class Ledger:
    """One process's view of a ledger, for any thread; a method that raises has written nothing.

    Openings, settlements and refusals that are asked for at the same time share a transaction; any
    other method is one of its own. ``replica_id`` names this process in the ledger.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.replica_id = uuid4().hex
        self._registered = False
        is_sqlite = engine.dialect.name == "sqlite"
        self._turn = threading.Lock() if is_sqlite else nullcontext()
        self._writers = sessionmaker(engine)
        self._readers = sessionmaker(
            engine.execution_options(**{READ_ONLY: True})
            if is_sqlite
            else engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._writer = Writer(self.write, self.read, self._open_together)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in one write transaction and commit it: the only place that does.

        Run again, from the start, when the database rolled it back because another transaction
        was in the way; LedgerConflictError when that keeps happening. On SQLite the writers of
        this process take turns.
        """
        for pause_s in RETRY_PAUSES_S:
            try:
                return self._write_once(work)
            except LedgerConflictError:
                time.sleep(pause_s)
        return self._write_once(work)

    def read(self, work: Callable[[Session], T]) -> T:
        """Run ``work``, which only reads, on one unchanging view of the ledger."""
        with _pool_errors(), self._readers() as session:
            return work(session)

    def open(self, entry: OpenEntry, now: datetime) -> int:
        """Hold the worst case and write the decision; see `storage.ledger.open_entry`.

        HeldBackError, a kind of BudgetExceededError, when others hold the money or wait for it.
        """
        return self.opening(entry, now).future.result()

    def opening(self, entry: OpenEntry, now: datetime, wait_s: float = 0.0) -> Opening:
        """Open as soon as the money is there, after those who asked before, within ``wait_s``.

        Its future gives the entry's id. BudgetExceededError at once where it would not fit even
        if all that is in flight cost nothing more; HeldBackError when the time is over. A place
        in the queue is given back by ``withdraw``.
        """
        opening = self.to_open(entry, now, wait_s)
        self.submit(opening)
        return opening

    def to_open(self, entry: OpenEntry, now: datetime, wait_s: float = 0.0) -> Opening:
        """Give the work of ``opening``, for `submit`."""
        return Opening(entry, self._open, self.replica_id, now, time.monotonic() + wait_s)

    def submit(self, *jobs: Job | Opening) -> None:
        """Queue pieces of work, next to each other; LedgerBusyError when the queue is full."""
        self._writer.submit(*jobs)

    def withdraw(self, opening: Opening) -> None:
        """Take an opening back: WithdrawnError for who waits for it, unless it was made already."""
        self._writer.withdraw(opening)

    def settle(self, settle: SettleEntry, now: datetime) -> Settlement:
        """Write calls and true cost and free the rest; see `storage.ledger.settle_entry`."""
        return self.settling(settle, now).result()

    def settling(
        self, settle: SettleEntry, now: datetime, ended: tuple[Permit, int] | None = None
    ) -> Future[Settlement]:
        """Settle without waiting for the commit: the future gives what ``settle`` gives.

        A permit that is ``ended``, after so many tokens, goes first, in the same commit.
        """
        jobs = self.to_settle(settle, now, ended)
        self.submit(*jobs)
        return jobs[-1].future

    def to_settle(
        self, settle: SettleEntry, now: datetime, ended: tuple[Permit, int] | None = None
    ) -> list[Job]:
        """Give the work of ``settling``, for `submit`; the settlement is its last piece."""
        job = Settling(lambda session: settle_entry(session, settle, now), settle=settle, now=now)
        return [job] if ended is None else [self._release(*ended, now), job]

    def admitting(self, ask: RateAsk, now: datetime, lapses_at: datetime) -> Future[Permit]:
        """Count a request in its key's limits, in a shared commit; see `storage.rates.admit`."""
        subject = ask.subject
        return self._submit(Rating(lambda s: admit(s, ask, now, lapses_at), subject=subject))

    def releasing(self, permit: Permit, tokens: int, now: datetime) -> Future[None]:
        """End a request that was let in; see `storage.rates.release`."""
        return self._submit(self._release(permit, tokens, now))

    def tend_permits(self, running: Sequence[str], now: datetime, lapses_at: datetime) -> int:
        """Renew permits of requests that run here, end those that lapsed; give how many did."""
        if not self.read(has_permits):
            return 0
        return self.write(lambda session: tend(session, running, now, lapses_at))

    def find_open(self, request_ids: Sequence[str]) -> list[int]:
        """Give the ids of the entries of some requests that this process has open."""
        return self.read(lambda session: find_open(session, self.replica_id, request_ids))

    def refuse(self, refusal: Refusal, now: datetime) -> None:
        """Write down a request that was turned away."""
        self.refusing(refusal, now).result()

    def refusing(self, refusal: Refusal, now: datetime) -> Future[None]:
        """Write a refusal down without waiting for the commit."""
        return self._submit(Job(lambda session: record_refusal(session, refusal, now)))

    def claiming(
        self, place: KeyPlace, now: datetime, keep_s: float, stale_after_s: float
    ) -> Future[Claim]:
        """Claim an idempotency key; see `storage.answers.claim`."""
        claimant = Claimant(self.replica_id, keep_s, stale_after_s)

        def work(session: Session) -> Claim:
            self._introduce(session, now)
            return claim(session, place, claimant, now)

        return self._submit(Job(work))

    def keeping(self, place: KeyPlace, answer: bytes | None) -> Future[None]:
        """Keep the answer to a request whose key was claimed; None gives the key back."""
        if answer is None:
            return self._submit(Job(lambda s: drop_claim(s, place, self.replica_id)))
        return self._submit(Job(lambda s: keep_answer(s, place, self.replica_id, answer)))

    def forget_answers(self, now: datetime) -> None:
        """Remove answers to idempotency keys that have expired."""
        if self.read(lambda session: any_expired(session, now)):
            self.write(lambda session: forget_answers(session, now))

    def recording_hit(self, entry: OpenEntry, settle: SettleEntry, now: datetime) -> Future[None]:
        """Write down a request that was answered from a cache: an entry that cost nothing."""

        def work(session: Session) -> None:
            self._introduce(session, now)
            entry_id = open_entry(session, entry, self.replica_id, now)
            settle_entry(session, replace(settle, entry_id=entry_id), now)

        return self._submit(Job(work))

    def record_outcome(
        self,
        request_id: str,
        grade: Grade,
        now: datetime,
        *,
        attempt: int | None = None,
        tenant: str | None = None,
    ) -> int:
        """Add a grade, if ``tenant`` made the request; see `storage.outcomes.record_outcome`."""

        def add(session: Session) -> int:
            if tenant is not None:
                check_made_by(session, request_id, tenant)
            return record_outcome(session, request_id, grade, now, attempt=attempt)

        return self.write(add)

    def declare_budgets(self, budgets: Iterable[Budget]) -> None:
        """Make ``budgets`` the ones in force, and no others."""
        declared = tuple(budgets)
        self.write(lambda session: declare_budgets(session, declared))

    def budget_status(
        self, now: datetime, scopes: Sequence[str] | None = None
    ) -> list[BudgetStatus]:
        """Where each budget of ``scopes`` (None: of every scope) stands at ``now``."""
        return self.read(lambda session: budget_status(session, now, scopes))

    def alerts(self, now: datetime, paced: Paced = NONE_PACED) -> list[Alert]:
        """Give thresholds passed and forecasts above a limit, each once; see `storage.alerts`."""
        if not self.read(lambda session: alerts_due(session, now, paced)):
            return []
        return self.write(lambda session: take_alerts(session, now, paced))

    def judge_trial(self, now: datetime) -> str | None:
        """End the trial under way if enough is known of it; see `storage.judging.judge_trial`."""
        state = self.read(trial_state)
        if state is None or not state.is_over:
            return None
        return self.write(lambda session: judge_trial(session, now))

    def beat(self, now: datetime) -> None:
        """Say that this process is alive; to be called every few seconds while it serves."""
        self._register(now)
        self.write(lambda session: beat(session, self.replica_id, now))

    def recover(self, now: datetime, stale_after_s: float) -> list[Recovered]:
        """Charge all that dead processes left open; see `storage.recovery.recover_dead`."""
        recovered: list[Recovered] = []
        while batch := self.write(partial(recover_dead, now=now, stale_after_s=stale_after_s)):
            recovered += batch
        return recovered

    def roll_up(self, now: datetime, at_most: int | None = None) -> int:
        """Bring the rollups of hours that are over up to date, one to a transaction; give how many.

        At most ``at_most`` of them, all for None. Reports are exact without it, and slower.
        """
        n_done = 0
        while at_most is None or n_done < at_most:
            hour = self.read(partial(next_to_roll_up, before=now))
            if hour is None:
                break
            self.write(partial(roll_up, hour=hour))
            n_done += 1
        return n_done

    def examine(self, *, repair: bool = False) -> list[Finding]:
        """Check the whole ledger, putting counters right with ``repair``; see `storage.doctor`."""
        if repair:
            return self.write(lambda session: examine(session, repair=True))
        return self.read(examine)

    def close(self) -> None:
        """Write what is queued, turn away what waits, close every connection. Idempotent."""
        self._writer.close()
        self.engine.dispose()

    def _release(self, permit: Permit, tokens: int, now: datetime) -> Rating:
        subject = permit.ask.subject
        return Rating(lambda session: release(session, permit, tokens, now), subject=subject)

    def _submit(self, job: Job) -> Future[Any]:
        self._writer.submit(job)
        return job.future

    def _write_once(self, work: Callable[[Session], T]) -> T:
        try:
            with self._turn, _pool_errors(), self._writers.begin() as session:
                return work(session)
        except LedgerError as error:
            raise _first_of(error) from error.__cause__

    def _open(self, session: Session, entry: OpenEntry, now: datetime, place: Place) -> int:
        self._introduce(session, now)
        return open_entry(session, entry, self.replica_id, now, place)

    def _open_together(
        self, session: Session, entries: Sequence[tuple[OpenEntry, datetime]]
    ) -> list[int] | None:
        self._introduce(session, entries[0][1])
        return open_together(session, entries, self.replica_id)

    def _introduce(self, session: Session, now: datetime) -> None:
        """Say who this process is, in the transaction of its first opening."""
        if not self._registered:
            register_replica(session, this_process(self.replica_id), now)

    def _register(self, now: datetime) -> None:
        if not self._registered:
            replica = this_process(self.replica_id)
            self.write(lambda session: register_replica(session, replica, now))
            self._registered = True


def _first_of(error: LedgerError) -> LedgerError:
    """Give what made a transaction end, not what its savepoints said of it afterwards.

    A database that is full or fails ends the whole transaction, savepoints included.
    """
    earlier: BaseException | None = error
    while earlier is not None:
        if isinstance(earlier, LedgerUnavailableError):
            return earlier
        earlier = earlier.__context__
    return error


@contextmanager
def _pool_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        msg = "every connection to the ledger is in use; try again, or raise the pool's size"
        raise LedgerBusyError(msg) from error
