"""One place where a model is served: how it has done lately, and whether it is asked now."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from cost_models.types import Usage
from router.errors import ProviderError
from router.providers.breaker import Breaker, BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from cost_models.pricing import Price
    from router.providers.base import Provider, Tally

MEMORY = 0.2
"""Weight of the newest latency or outcome in its moving average."""

LEAST_SHARE = 0.05
"""A deployment is taken to succeed at this share of its calls at least."""

HALF_LIFE_S = 10.0
"""Seconds without news after which half as much is made of what is known."""

THEIRS = frozenset({401, 403, 404, 408, 429})
"""Statuses below 500 that say something of the deployment, and nothing of the request."""

BUSY = 429


@dataclass(slots=True, eq=False)
class Deployment:
    """A provider of one model with what is known of it; ``price`` None is that of the model.

    ``latency_s`` are moving averages by kind of call, False for whole replies and True for the
    first piece of a stream; None while nothing is known.
    """

    name: str
    provider: Provider
    vendor: str = ""
    price: Price | None = None
    breaker: Breaker = field(default_factory=Breaker)
    clock: Callable[[], float] = time.monotonic
    latency_s: dict[bool, float | None] = field(
        default_factory=lambda: {False: None, True: None}, init=False
    )
    error_share: float = field(default=0.0, init=False)
    n_in_flight: int = field(default=0, init=False)
    n_succeeded: int = field(default=0, init=False)
    n_failed: int = field(default=0, init=False)
    heard_at_s: float = field(default=0.0, init=False)

    def load(self, usual_s: float, *, streamed: bool) -> float:
        """Seconds to expect from one more call until one succeeds; ``usual_s`` if unknown.

        The latency of its kind, times the calls that it would share the deployment with, over the
        share of calls that succeed. What was learned fades while nothing is heard of it, so that
        one that was slow or failing is asked again some time.
        """
        latency_s = self.latency_s[streamed]
        fading: float = 0.5 ** ((self.clock() - self.heard_at_s) / HALF_LIFE_S)
        each_s = usual_s if latency_s is None else latency_s * fading
        share = 1.0 - self.error_share * fading
        return each_s * (self.n_in_flight + 1) / max(LEAST_SHARE, share)

    def note(self, *, failed: bool) -> None:
        """Count an outcome."""
        self.heard_at_s = self.clock()
        self.n_failed += failed
        self.n_succeeded += not failed
        self.error_share += MEMORY * (failed - self.error_share)


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """A deployment as probes and metrics show it; ``name`` is empty for a model's only one."""

    model: str
    name: str
    state: BreakerState
    n_in_flight: int
    n_succeeded: int
    n_failed: int


class Flight:
    """One call under way at a deployment: a context manager that notes what became of it."""

    __slots__ = ("_deployment", "_is_probe", "_noted", "_started_s", "_streamed", "_tally")

    def __init__(self, deployment: Deployment, tally: Tally, *, streamed: bool) -> None:
        self._deployment = deployment
        self._tally = tally
        self._streamed = streamed
        self._noted = False

    def __enter__(self) -> Self:
        deployment, tally = self._deployment, self._tally
        self._is_probe = deployment.breaker.begin()
        deployment.n_in_flight += 1
        tally.deployment, tally.vendor = deployment.name, deployment.vendor
        tally.cost_usd, tally.price_source = None, ""
        self._started_s = deployment.clock()
        return self

    def began(self) -> None:
        """Take note that the deployment did its work: all of it, or the first of a stream."""
        deployment = self._deployment
        seconds = deployment.clock() - self._started_s
        known_s = deployment.latency_s[self._streamed]
        known_s = seconds if known_s is None else known_s
        deployment.latency_s[self._streamed] = known_s + MEMORY * (seconds - known_s)
        deployment.note(failed=False)
        deployment.breaker.succeeded(is_probe=self._is_probe)
        self._is_probe, self._noted = False, True

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        deployment, tally = self._deployment, self._tally
        deployment.n_in_flight -= 1
        if error is None:
            if not self._noted:
                self.began()
        elif isinstance(error, ProviderError) and is_its_fault(error):
            self._note_failure(error)
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit)) or self._is_probe:
            deployment.breaker.abandoned(is_probe=self._is_probe)
        if deployment.price is not None and tally.usage != NOTHING:
            tally.cost_usd = deployment.price.cost_usd(tally.usage)
            tally.price_source = deployment.price.source

    def _note_failure(self, error: ProviderError) -> None:
        deployment = self._deployment
        deployment.note(failed=True)
        if self._tally.retries is not None:
            self._tally.retries.failed_at.add(deployment)
        if error.retry_after_s:
            deployment.breaker.asked_to_wait(error.retry_after_s)
        if error.status == BUSY:
            deployment.breaker.abandoned(is_probe=self._is_probe)
        else:
            deployment.breaker.failed(is_probe=self._is_probe)


NOTHING = Usage()


def is_its_fault(error: ProviderError) -> bool:
    """Tell whether a failure says something of the deployment; False when the request is wrong."""
    status = error.status
    return status is None or status in THEIRS or status >= 500  # noqa: PLR2004 - the class of HTTP's server errors
