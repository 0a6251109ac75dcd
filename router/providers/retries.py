"""Retries where nothing was billed: the upstream was never reached, or it turned the call away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, TypeVar

from router.errors import ProviderError, ProviderTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
JITTER = SystemRandom()


class UnreachableError(ProviderError):
    """No connection to the upstream: nothing was sent, so nothing was billed."""


class ConnectTimeoutError(UnreachableError, ProviderTimeoutError):
    """No connection to the upstream in time."""


@dataclass(frozen=True, slots=True)
class Retries:
    """At most ``max_retries`` further attempts, waiting longer each time.

    The wait is random between half and all of ``first_wait_s`` doubled at every attempt, and at
    least what the upstream asks for; an upstream that asks for more than ``max_wait_s`` is not
    tried again.
    """

    max_retries: int = 2
    first_wait_s: float = 0.25
    max_wait_s: float = 8.0

    def wait_s(self, n_tried: int, error: ProviderError) -> float | None:
        """Seconds to wait after attempt ``n_tried`` >= 1 failed; None to give up."""
        retried = error.status in RETRIED_STATUSES or isinstance(error, UnreachableError)
        if not retried or n_tried > self.max_retries:
            return None
        backoff_s = min(self.max_wait_s, self.first_wait_s * 2.0 ** (n_tried - 1))
        asked_s = error.retry_after_s or 0.0
        if asked_s > self.max_wait_s:
            return None
        return max(asked_s, backoff_s * JITTER.uniform(0.5, 1.0))

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await ``attempt()`` until it succeeds or its ProviderError is to be raised."""
        n_tried = 0
        while True:
            try:
                return await attempt()
            except ProviderError as error:
                n_tried += 1
                wait_s = self.wait_s(n_tried, error)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)
