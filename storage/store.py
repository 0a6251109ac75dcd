"""The ledger with its transactions: what the service calls, from any thread."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import sessionmaker

from storage.budgets import BudgetStatus, budget_status, declare_budgets
from storage.doctor import Finding, examine
from storage.engine import READ_ONLY
from storage.errors import LedgerBusyError, LedgerConflictError
from storage.ledger import (
    OpenEntry,
    Refusal,
    SettleEntry,
    Settlement,
    open_entry,
    record_refusal,
    settle_entry,
)
from storage.outcomes import Grade, record_outcome
from storage.recovery import Recovered, beat, recover_dead, register_replica, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Engine
    from sqlalchemy.orm import Session

    from cost_models.budgets import Budget

T = TypeVar("T")

RETRY_PAUSES_S = (0.01, 0.05, 0.25)


class Ledger:
    """One process's view of a ledger: each method is one transaction, and any thread may call it.

    ``replica_id`` names this process in the ledger. A method that raises has written nothing.
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
        """Hold the worst case and write the decision; see `storage.ledger.open_entry`."""
        self._register(now)
        return self.write(lambda session: open_entry(session, entry, self.replica_id, now))

    def settle(self, settle: SettleEntry, now: datetime) -> Settlement:
        """Write calls and true cost and free the rest; see `storage.ledger.settle_entry`."""
        return self.write(lambda session: settle_entry(session, settle, now))

    def refuse(self, refusal: Refusal, now: datetime) -> None:
        """Write down a request that was turned away."""
        self.write(lambda session: record_refusal(session, refusal, now))

    def record_outcome(
        self, request_id: str, grade: Grade, now: datetime, *, attempt: int | None = None
    ) -> int:
        """Add a grade; see `storage.outcomes.record_outcome`."""
        return self.write(
            lambda session: record_outcome(session, request_id, grade, now, attempt=attempt)
        )

    def declare_budgets(self, budgets: Iterable[Budget]) -> None:
        """Make ``budgets`` the ones in force, and no others."""
        declared = tuple(budgets)
        self.write(lambda session: declare_budgets(session, declared))

    def budget_status(
        self, now: datetime, scopes: Sequence[str] | None = None
    ) -> list[BudgetStatus]:
        """Where each budget of ``scopes`` (None: of every scope) stands at ``now``."""
        return self.read(lambda session: budget_status(session, now, scopes))

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

    def examine(self, *, repair: bool = False) -> list[Finding]:
        """Check the whole ledger, putting counters right with ``repair``; see `storage.doctor`."""
        if repair:
            return self.write(lambda session: examine(session, repair=True))
        return self.read(examine)

    def close(self) -> None:
        """Close every connection. Idempotent."""
        self.engine.dispose()

    def _write_once(self, work: Callable[[Session], T]) -> T:
        with self._turn, _pool_errors(), self._writers.begin() as session:
            return work(session)

    def _register(self, now: datetime) -> None:
        if not self._registered:
            replica = this_process(self.replica_id)
            self.write(lambda session: register_replica(session, replica, now))
            self._registered = True


@contextmanager
def _pool_errors() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        msg = "every connection to the ledger is in use; try again, or raise the pool's size"
        raise LedgerBusyError(msg) from error
