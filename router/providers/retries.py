"""Trying again where nothing was billed: how often in one request, and after which wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from random import SystemRandom
from typing import TYPE_CHECKING, TypeVar

from router.errors import ProviderError, ProviderTimeoutError
from router.providers.base import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from router.providers.base import Tally
    from router.providers.deployments import Deployment

T = TypeVar("T")
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
JITTER = SystemRandom()


class UnreachableError(ProviderError):
    """No connection to the upstream: nothing was sent, so nothing was billed."""


class ConnectTimeoutError(UnreachableError, ProviderTimeoutError):
    """No connection to the upstream in time."""


@dataclass(slots=True)
class RetryBudget:
    """How often one request may still try again, all of its calls together.

    ``failed_at`` are the deployments that failed it: they are the last to be asked again.
    """

    n_left: int
    failed_at: set[Deployment] = field(default_factory=set)

    def take(self) -> bool:
        """Use one of the retries; False when there is none left."""
        if self.n_left < 1:
            return False
        self.n_left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Retries:
    """How long to wait before the same upstream is tried again.

    The wait is random between half and all of ``first_wait_s`` doubled each time, and at least
    what the upstream asks for; an upstream that asks for more than ``max_wait_s`` is not tried
    again. ``max_retries`` is for a call that is part of no request with a budget of its own.
    """

    max_retries: int = 2
    first_wait_s: float = 0.25
    max_wait_s: float = 8.0

    def wait_s(self, n_rounds: int, error: ProviderError, rng: Random = JITTER) -> float | None:
        """Seconds to wait after all was tried ``n_rounds`` >= 1 times; None to give up."""
        if error.status not in RETRIED_STATUSES and not isinstance(error, UnreachableError):
            return None
        asked_s = error.retry_after_s or 0.0
        if asked_s > self.max_wait_s:
            return None
        backoff_s = min(self.max_wait_s, self.first_wait_s * 2.0 ** (n_rounds - 1))
        return max(asked_s, backoff_s * rng.uniform(0.5, 1.0))

    async def run(self, attempt: Callable[[], Awaitable[T]], tally: Tally) -> T:
        """Await ``attempt()`` of an upstream's only deployment until it succeeds, or give up.

        Those before the last one are turned away in ``tally``.
        """
        for n_rounds in range(1, self.max_retries + 1):
            began_s = time.monotonic()
            try:
                return await attempt()
            except ProviderError as error:
                wait_s = self.wait_s(n_rounds, error)
                if wait_s is None:
                    raise
                latency_s = time.monotonic() - began_s
                tally.turned_away.append(TurnedAway(str(error), latency_s))
            await asyncio.sleep(wait_s)
        return await attempt()
