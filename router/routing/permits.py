"""Requests of keys with rate limits, from being let in to their end, in this process."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from storage.errors import LedgerError
from storage.rates import RateAsk

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from datetime import datetime

    from cost_models.rates import RateLimits
    from storage.rates import Permit
    from storage.store import Ledger

LOG = logging.getLogger("rheostat.permits")


class Limited(Protocol):
    """A request that may have to keep the limits of its key; see `router.routing.types`."""

    @property
    def request_id(self) -> str:
        """The request's own id."""
        ...

    @property
    def tenant(self) -> str:
        """The name whose limits it shares."""
        ...

    @property
    def likely_tokens(self) -> int:
        """Tokens that it is taken to use, until it ends."""
        ...


@dataclass(slots=True)
class Permits:
    """The permits of one process, renewed by ``tend`` until their requests end.

    One that is not renewed for ``lease_s`` lapses: its process has died.
    """

    ledger: Ledger
    clock: Callable[[], datetime]
    lease_s: float
    _inside: dict[str, Permit] = field(default_factory=dict, init=False)

    async def admit(self, request: Limited, limits: RateLimits) -> Permit:
        """Count a request in the limits of its key's name, shared by all replicas.

        Raises RateLimitedError where it comes too fast. Its tokens are a guess; what was really
        used is counted when it ends.
        """
        now = self.clock()
        ask = RateAsk(request.tenant, request.request_id, limits, request.likely_tokens)
        asked = self.ledger.admitting(ask, now, now + timedelta(seconds=self.lease_s))
        try:
            permit = await asyncio.shield(asyncio.wrap_future(asked))
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back)
            raise
        if permit.is_to_end:
            self._inside[request.request_id] = permit
        return permit

    def take_out(self, request: Limited) -> Permit | None:
        """Give the permit of a request that ends, once; None where there is none to end."""
        return self._inside.pop(request.request_id, None)

    async def end(self, request: Limited) -> None:
        """End a request that used nothing; a permit that the ledger cannot end now lapses."""
        permit = self.take_out(request)
        if permit is None:
            return
        try:
            await asyncio.wrap_future(self.ledger.releasing(permit, 0, self.clock()))
        except LedgerError as error:
            LOG.warning("the permit of request %s is left to lapse: %s", request.request_id, error)

    def tend(self) -> None:
        """Renew what is inside, and take away what lapsed, here or elsewhere."""
        now = self.clock()
        lapsed = self.ledger.tend_permits(
            list(self._inside), now, now + timedelta(seconds=self.lease_s)
        )
        if lapsed:
            LOG.warning("%d permits of requests of dead processes lapsed", lapsed)

    def _give_back(self, asked: Future[Permit]) -> None:
        """End what was let in after its client had left; called by the ledger's writer."""
        if asked.cancelled() or asked.exception() is not None:
            return
        permit = asked.result()
        if permit.is_to_end:
            self.ledger.releasing(permit, 0, self.clock())
