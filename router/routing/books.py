"""The books of a service: entries opened, settled and refused, and what the ledger lacks still.

A request that reached its hold is settled whatever became of it: what the ledger cannot take now
is tried again, and its hold stays until then.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cost_models.errors import RheostatError
from router.routing.outbox import Outbox
from router.routing.runs import CLIENT_LEFT
from storage.errors import LedgerBusyError, LedgerError, LedgerUnavailableError
from storage.ledger import SettleEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from router.routing.permits import Limited, Permits
    from storage.ledger import OpenEntry, Refusal, Settlement
    from storage.rates import Permit
    from storage.store import Ledger

T = TypeVar("T")
OPENING_LOST = "the ledger failed while the hold was written"
MAX_DOUBTFUL = 10_000
"""Openings without an answer to look for later. The first of an outage are kept: only what was
under way at its beginning can have been written."""

DOUBTFUL_AT_ONCE = 500
BUSY_SETTLEMENTS = 2
BUSY_PAUSE_S = 0.1
"""How often a settlement is tried again at once where others keep the ledger locked, and when."""

LOG = logging.getLogger("rheostat.service")


@dataclass(slots=True)
class Books:
    """What one service writes to the ledger, from its event loop; ``permits`` end with settlements.

    ``doubtful`` are requests whose opening may have been written, ``unsettled`` what is still to
    be settled.
    """

    ledger: Ledger
    clock: Callable[[], datetime]
    permits: Permits
    unsettled: deque[SettleEntry] = field(default_factory=deque, init=False)
    doubtful: deque[str] = field(default_factory=deque, init=False)
    _under_way: set[asyncio.Future[Any]] = field(default_factory=set, init=False)
    _outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self._outbox = Outbox(self.ledger)

    async def open(self, entry: OpenEntry, wait_s: float) -> int:
        """Hold an entry's worst case; one whose client leaves meanwhile is given back."""
        opening = self.ledger.to_open(entry, self.clock(), wait_s)
        opened = self._outbox.send(opening)
        try:
            return await asyncio.shield(opened)
        except LedgerUnavailableError:
            if len(self.doubtful) < MAX_DOUBTFUL:
                self.doubtful.append(entry.asked.query.query_id)
            raise
        except asyncio.CancelledError:
            self.ledger.withdraw(opening)
            self.keep(asyncio.ensure_future(self._undo(opened)))
            raise

    async def refuse(self, refusal: Refusal) -> None:
        """Write a refusal down; a ledger that cannot take it does not change what is answered."""
        try:
            await self.kept(asyncio.wrap_future(self.ledger.refusing(refusal, self.clock())))
        except LedgerError as error:
            LOG.warning("a refusal was not written to the ledger: %s", error)

    async def settle(
        self, settle: SettleEntry, request: Limited, n_tokens: int | None
    ) -> Settlement:
        """Write what an entry used and free the rest; goes on in the background if cancelled.

        With it the request ends, after so many tokens; None where another attempt may follow.
        """
        ended = None
        if n_tokens is not None and (permit := self.permits.take_out(request)) is not None:
            ended = (permit, n_tokens)
        return await self.kept(self._write(settle, ended))

    async def let_go(self, request: Limited, n_tokens: int = 0) -> None:
        """End the permit of a request that used so many tokens, if it still has one."""
        await self.kept(self.permits.end(request, n_tokens))

    async def kept(self, work: Awaitable[T]) -> T:
        """Await ``work`` to its end even if the caller is cancelled meanwhile."""
        return await asyncio.shield(self.keep(asyncio.ensure_future(work)))

    def keep(self, work: asyncio.Future[T]) -> asyncio.Future[T]:
        """Let work in the background end before the service does."""
        self._under_way.add(work)
        work.add_done_callback(self._done)
        return work

    async def all_written(self) -> None:
        """Wait for what is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def settle_again(self) -> None:
        """Settle what the ledger could not take; LedgerUnavailableError if it still cannot."""
        while self.unsettled:
            try:
                self.ledger.settle(self.unsettled[0], self.clock())
            except LedgerUnavailableError:
                raise
            except RheostatError as error:
                LOG.warning("entry %d stays open: %s", self.unsettled[0].entry_id, error)
            self.unsettled.popleft()

    def close_doubtful(self) -> None:
        """Settle at nothing what was opened after all though the ledger failed to say so."""
        while self.doubtful:
            some = [self.doubtful[i] for i in range(min(len(self.doubtful), DOUBTFUL_AT_ONCE))]
            for entry_id in self.ledger.find_open(some):
                lost = SettleEntry(entry_id, (), 0.0, complete=False, error=OPENING_LOST)
                self.ledger.settle(lost, self.clock())
            for _ in some:
                self.doubtful.popleft()

    async def _write(
        self, settle: SettleEntry, ended: tuple[Permit, int] | None = None
    ) -> Settlement:
        """Settle an entry, or keep it for later if the ledger cannot take it now.

        A ledger that is only busy is asked again: the answer is there, and was paid for.
        """
        try:
            for _ in range(BUSY_SETTLEMENTS):
                with suppress(LedgerBusyError):
                    return await self._sent(settle, ended)
                await asyncio.sleep(BUSY_PAUSE_S)
            return await self._sent(settle, ended)
        except LedgerUnavailableError as error:
            LOG.warning("entry %d is not settled yet: %s", settle.entry_id, error)
            self.unsettled.append(settle)
            raise

    def _sent(
        self, settle: SettleEntry, ended: tuple[Permit, int] | None
    ) -> asyncio.Future[Settlement]:
        return self._outbox.send(*self.ledger.to_settle(settle, self.clock(), ended))

    async def _undo(self, opening: asyncio.Future[int]) -> None:
        """Settle at nothing an entry whose client left while its hold was being written."""
        with suppress(RheostatError):
            entry_id = await opening
            settle = SettleEntry(entry_id, (), 0.0, complete=False, error=CLIENT_LEFT)
            await self._write(settle)

    def _done(self, work: asyncio.Future[T]) -> None:
        """Let go of work that has ended; whoever awaited it may be gone, with its error unread."""
        self._under_way.discard(work)
        if not work.cancelled():
            work.exception()
