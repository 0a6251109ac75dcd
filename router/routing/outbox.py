"""Work for the ledger, gathered over the turns of the event loop and sent in one go.

A busy loop has more to write in its next turn, and each commit has a price that does not depend on
how much is in it. So what one turn gives is sent when the next gives nothing more: a lone request
waits for no one, and a crowd shares its commits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from storage.errors import LedgerBusyError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from storage.store import Ledger
    from storage.writer import Job, Opening

QUIET_TURNS = 3
"""Turns of the loop without anything new after which what is there is sent."""
LONGEST_S = 0.005
"""For how long a loop that always has more is waited for."""


class Outbox:
    """Sends from one event loop to the ledger's thread, and brings back what came of it.

    Answers that are there together wake the loop once.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._jobs: list[Job | Opening] = []
        self._began_s = 0.0
        self._n_seen = 0
        self._n_quiet = 0
        self._came: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._waking = False

    def send(self, *jobs: Job | Opening) -> asyncio.Future[Any]:
        """Send pieces of work, next to each other; the future gives what came of the last one.

        It raises LedgerBusyError where the ledger's queue is full.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        jobs[-1].future.add_done_callback(partial(self._bring, loop, answer))
        if not self._jobs:
            self._began_s = loop.time()
            self._n_seen = self._n_quiet = 0
            loop.call_soon(self._turn, loop)
        self._jobs += jobs
        return answer

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look once in every turn of the loop, until it gives nothing more."""
        n_jobs = len(self._jobs)
        self._n_quiet = self._n_quiet + 1 if n_jobs == self._n_seen else 0
        self._n_seen = n_jobs
        if self._n_quiet < QUIET_TURNS and loop.time() - self._began_s < LONGEST_S:
            loop.call_soon(self._turn, loop)
            return
        jobs, self._jobs = self._jobs, []
        try:
            self._ledger.submit(*jobs)
        except LedgerBusyError as error:
            for job in jobs:
                job.future.set_exception(copy(error))

    def _bring(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Any], done: Future[Any]
    ) -> None:
        """Take note of an answer, in whichever thread it comes; nobody is left in a closed loop."""
        if loop.is_closed():
            return
        self._came.append((answer, done))
        if not self._waking:
            self._waking = True
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False
        while self._came:
            answer, done = self._came.popleft()
            if answer.done():
                continue
            error = done.exception()
            if error is None:
                answer.set_result(done.result())
            else:
                answer.set_exception(error)
