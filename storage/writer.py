"""Group commit: one thread writes for all callers, as much as is there in one transaction.

A lone piece of work is committed at once. What arrives while a commit is under way shares the
next one. Openings that are held back wait here, in order, until money comes free: they are tried
again after each settlement of this process, and every now and then for those of others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cost_models.errors import BudgetExceededError
from storage.bulk import settle_together
from storage.errors import (
    EntryExistsError,
    EntryNotFoundError,
    HeldBackError,
    LedgerBusyError,
    LedgerError,
    LedgerUnavailableError,
    RateLimitedError,
    WithdrawnError,
)
from storage.holds import lock_in_order, may_take
from storage.rates import hold_subjects
from storage.waits import Place, leave, renew, stand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.ledger import OpenEntry, SettleEntry

    Together = Callable[[Session, Sequence[tuple[OpenEntry, datetime]]], list[int] | None]
    Run = Callable[[Callable[[Session], Any]], Any]

MAX_QUEUED = 10_000
MAX_BATCH = 128
IDLE_S = 2.0
LEASE_S = 5.0
RENEW_S = 1.5
FIRST_POLL_S = 0.01
LAST_POLL_S = 0.25
POLL_GROWTH = 1.5

REFUSALS = (BudgetExceededError, EntryExistsError, EntryNotFoundError, RateLimitedError)
"""Errors of one piece of work that has then written nothing: they do not undo the others."""


@dataclass(slots=True, eq=False)
class Job:
    """One piece of work. ``run`` writes all or, where it raises one of `REFUSALS`, nothing."""

    run: Callable[[Session], Any]
    future: Future[Any] = field(default_factory=Future)

    def attempt(self, session: Session) -> _Outcome:
        """Do the work inside a batch."""
        try:
            return _Outcome(self.run(session))
        except REFUSALS as error:
            return _Outcome(error=error)


@dataclass(slots=True, eq=False)
class Settling(Job):
    """An entry to settle at a time."""

    settle: SettleEntry = field(kw_only=True)
    now: datetime = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Rating(Job):
    """A request to count, or to end, in the limits of a subject."""

    subject: str = field(kw_only=True)


@dataclass(slots=True, eq=False)
class Opening:
    """An entry to open that may wait for money until ``deadline_s`` of ``time.monotonic``.

    ``budget_id`` names the budget that holds it back while it waits in ``place``.
    """

    entry: OpenEntry
    open: Callable[[Session, OpenEntry, datetime, Place], int]
    replica_id: str
    asked_at: datetime
    deadline_s: float
    asked_s: float = field(default_factory=time.monotonic)
    future: Future[int] = field(default_factory=Future)
    place: Place = field(default_factory=Place)
    budget_id: int = -1
    held_back: HeldBackError | None = None
    withdrawn: bool = False

    @property
    def now(self) -> datetime:
        """The caller's time when it asked, and what has passed while it waits for money."""
        if self.place.ticket is None:
            return self.asked_at
        return self.asked_at + timedelta(seconds=time.monotonic() - self.asked_s)

    def attempt(self, session: Session) -> _Outcome:
        """Open the entry, or take a place in the queue."""
        now = self.now
        try:
            entry_id = self.open(session, self.entry, now, self.place)
        except HeldBackError as error:
            if time.monotonic() < self.deadline_s and not self.withdrawn:
                expires_at = now + timedelta(seconds=LEASE_S)
                place = stand(session, self.place, error.budget_id, self.replica_id, expires_at)
                return _Outcome(error=error, place=place)
            outcome = _Outcome(error=error)
        except REFUSALS as error:
            outcome = _Outcome(error=error)
        else:
            outcome = _Outcome(entry_id)
        if self.place.ticket is not None:
            leave(session, [self.place.ticket])
        return outcome


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one piece of work; ``place`` says that it goes on waiting there."""

    value: Any = None
    error: Exception | None = None
    place: Place | None = None


class Writer:
    """The thread, started by the first piece of work; it ends when there was none for a while.

    ``write`` runs one transaction and commits it, ``read`` one that only reads; ``open_together``
    is as in `storage.bulk`. At most ``max_queued`` pieces of work wait for their commit, not
    counting the queue for money.
    """

    def __init__(
        self, write: Run, read: Run, open_together: Together, max_queued: int = MAX_QUEUED
    ) -> None:
        self._run = write
        self._read = read
        self._open_together = open_together
        self._max_queued = max_queued
        self._changed = threading.Condition()
        self._jobs: deque[Job | Opening] = deque()
        self._waiting: list[Opening] = []
        self._thread: threading.Thread | None = None
        self._closing = False
        self._poll_s = FIRST_POLL_S
        self._next_poll_s = 0.0
        self._renewed_s = 0.0

    def submit(self, *jobs: Job | Opening) -> None:
        """Queue pieces of work, next to each other; LedgerBusyError when the queue is full."""
        with self._changed:
            if len(self._jobs) >= self._max_queued:
                msg = f"{self._max_queued} requests wait for the ledger already; try again"
                raise LedgerBusyError(msg)
            self._jobs.extend(jobs)
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
                self._thread.start()
            self._changed.notify()

    def withdraw(self, opening: Opening) -> None:
        """Take an opening back; WithdrawnError for its caller, unless it is made already."""
        with self._changed:
            opening.withdrawn = True
            self._changed.notify()

    def close(self) -> None:
        """Finish what is queued, turn away what waits for money, and end the thread."""
        with self._changed:
            thread = self._thread
            self._closing = True
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            self._write(batch)

    def _next_batch(self) -> list[Job | Opening] | None:
        """Wait for something to do; None when the thread shall end."""
        with self._changed:
            while not self._jobs and not self._due():
                if self._closing or not self._changed.wait(self._pause_s()):
                    if self._jobs or self._waiting:
                        break
                    self._thread = None
                    return None
            n = min(len(self._jobs), MAX_BATCH)
            return [self._jobs.popleft() for _ in range(n)]

    def _due(self) -> bool:
        now_s = time.monotonic()
        return bool(self._waiting) and (
            self._closing
            or now_s >= self._next_poll_s
            or any(opening.withdrawn for opening in self._waiting)
        )

    def _pause_s(self) -> float:
        return max(0.0, self._next_poll_s - time.monotonic()) if self._waiting else IDLE_S

    def _write(self, batch: list[Job | Opening]) -> None:
        """Commit a batch and what may enter from the queue; deliver to each what came of it."""
        fresh = [job for job in batch if not _taken_back(job)]
        leaving = [o for o in self._waiting if self._is_over(o)]
        retried = self._retried(fresh, leaving)
        if not fresh and not leaving and not retried and not self._renewal_due():
            return
        work: list[Job | Opening] = [*retried, *fresh]
        try:
            outcomes = self._run(lambda session: self._transaction(session, work, leaving))
        except LedgerUnavailableError as error:
            self._fail(fresh, error)
            self._poll_later()
        except Exception as error:  # noqa: BLE001 - delivered to whoever asked
            if len(work) > 1:
                for job in work:
                    self._write_alone(job)
            else:
                self._fail(work, error)
        else:
            self._deliver(work, outcomes)
        for opening in leaving:
            self._turn_away(opening)

    def _write_alone(self, job: Job | Opening) -> None:
        """Commit one of a batch that could not be committed together."""
        try:
            outcomes = self._run(lambda session: self._transaction(session, [job], []))
        except Exception as error:  # noqa: BLE001 - delivered to whoever asked
            self._fail([job], error)
        else:
            self._deliver([job], outcomes)

    def _transaction(
        self, session: Session, work: Sequence[Job | Opening], leaving: Sequence[Opening]
    ) -> list[_Outcome | None]:
        if len(work) > 1:
            lock_in_order(
                session,
                [job.settle.entry_id for job in work if isinstance(job, Settling)],
                [(o.entry.asked.scopes, o.now) for o in work if isinstance(o, Opening)],
            )
            hold_subjects(session, {job.subject for job in work if isinstance(job, Rating)})
        if leaving:
            leave(session, [o.place.ticket for o in leaving if o.place.ticket is not None])
        if self._waiting and self._renewal_due():
            now = self._waiting[0].now
            until = now + timedelta(seconds=LEASE_S)
            renew(session, self._waiting[0].replica_id, now, until)
        together = self._together(session, work)
        stuck: set[int] = set()
        outcomes: list[_Outcome | None] = []
        for job in work:
            outcome = together.get(job)
            if outcome is None:
                if isinstance(job, Opening) and job.budget_id in stuck:
                    outcomes.append(None)
                    continue
                outcome = job.attempt(session)
            outcomes.append(outcome)
            if isinstance(outcome.error, HeldBackError):
                stuck.add(outcome.error.budget_id)
        return outcomes

    def _together(
        self, session: Session, work: Sequence[Job | Opening]
    ) -> dict[Job | Opening, _Outcome]:
        """Settle, and then open, in a few statements what can be; the others are left."""
        done: dict[Job | Opening, _Outcome] = {}
        settling = {job.settle.entry_id: job for job in work if isinstance(job, Settling)}
        if len(settling) > 1:
            asked = [(job.settle, job.now) for job in settling.values()]
            settled = settle_together(session, asked)
            for one in settled or ():
                done[settling[one.entry_id]] = _Outcome(one)
        fresh = [o for o in work if isinstance(o, Opening) and o.place.ticket is None]
        if len(fresh) > 1 and not self._waiting:
            ids = self._open_together(session, [(o.entry, o.now) for o in fresh])
            for opening, entry_id in zip(fresh, ids or (), strict=ids is not None):
                done[opening] = _Outcome(entry_id)
        return done

    def _deliver(self, work: Iterable[Job | Opening], outcomes: Iterable[_Outcome | None]) -> None:
        if self._waiting and self._renewal_due():
            self._renewed_s = time.monotonic()
        moved = False
        for job, outcome in zip(work, outcomes, strict=True):
            if outcome is None:
                continue
            if outcome.place is not None and isinstance(job, Opening):
                self._park(job, outcome)
                continue
            moved = True
            if isinstance(job, Opening):
                self._forget(job)
            if outcome.error is None:
                job.future.set_result(outcome.value)
            else:
                job.future.set_exception(outcome.error)
        if moved:
            self._poll_s = FIRST_POLL_S
            self._next_poll_s = 0.0 if self._waiting else time.monotonic()
        else:
            self._poll_later()

    def _park(self, opening: Opening, outcome: _Outcome) -> None:
        if opening.place.ticket is None:
            if not self._waiting:
                self._renewed_s = time.monotonic()
            self._waiting.append(opening)
        if outcome.place is not None and isinstance(outcome.error, HeldBackError):
            opening.place = outcome.place
            opening.budget_id = outcome.error.budget_id
            opening.held_back = outcome.error

    def _forget(self, opening: Opening) -> None:
        if opening in self._waiting:
            self._waiting.remove(opening)

    def _poll_later(self) -> None:
        self._next_poll_s = time.monotonic() + self._poll_s
        self._poll_s = min(LAST_POLL_S, self._poll_s * POLL_GROWTH)

    def _retried(self, fresh: Sequence[Job | Opening], leaving: Sequence[Opening]) -> list[Opening]:
        """Give those in the queue that may be let in now, in their order."""
        staying = [opening for opening in self._waiting if opening not in leaving]
        if not staying:
            return []
        if any(isinstance(job, Settling) for job in fresh):
            return staying
        if time.monotonic() < self._next_poll_s:
            return []
        heads: dict[int, Opening] = {}
        for opening in staying:
            heads.setdefault(opening.budget_id, opening)
        asked = [(o.budget_id, o.entry.hold_nano_usd, o.place, o.now) for o in heads.values()]
        try:
            open_to = self._read(lambda session: may_take(session, asked))
        except LedgerError:
            open_to = set()
        if not open_to:
            self._poll_later()
        return [opening for opening in staying if opening.budget_id in open_to]

    def _renewal_due(self) -> bool:
        return bool(self._waiting) and time.monotonic() - self._renewed_s > RENEW_S

    def _is_over(self, opening: Opening) -> bool:
        return self._closing or opening.withdrawn or time.monotonic() >= opening.deadline_s

    def _turn_away(self, opening: Opening) -> None:
        self._forget(opening)
        if opening.withdrawn:
            opening.future.set_exception(_withdrawn(opening))
        elif opening.held_back is not None:
            opening.future.set_exception(opening.held_back)

    def _fail(self, work: Iterable[Job | Opening], error: Exception) -> None:
        for job in work:
            if isinstance(job, Opening):
                self._forget(job)
            own = copy(error)
            own.__cause__ = error.__cause__
            job.future.set_exception(own)


def _taken_back(job: Job | Opening) -> bool:
    if not isinstance(job, Opening) or not job.withdrawn:
        return False
    job.future.set_exception(_withdrawn(job))
    return True


def _withdrawn(opening: Opening) -> WithdrawnError:
    request_id = opening.entry.asked.query.query_id
    return WithdrawnError(f"request {request_id!r} was taken back before it was opened")
