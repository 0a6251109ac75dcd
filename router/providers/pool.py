"""One model behind one or several deployments: balanced, tried again elsewhere, left to rest.

Source of the balancing: Mitzenmacher (2001), the power of two choices; the load is compared as in
`router.providers.deployments.Deployment.load`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from random import SystemRandom
from typing import TYPE_CHECKING

from cost_models.types import Usage
from router.errors import ProviderError, UpstreamUnavailableError
from router.providers.base import TurnedAway
from router.providers.deployments import NOTHING, DeploymentState, Flight, is_its_fault
from router.providers.fan_out import draw_each
from router.providers.hedging import Latencies
from router.providers.retries import Retries, RetryBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from random import Random

    from router.providers.base import Tally
    from router.providers.deployments import Deployment
    from router.types import Chunk, Message, Sample, SampleRequest

CHANCE = SystemRandom()
USUAL_S = 1.0
"""Latency to expect where none of a model's deployments has answered yet."""


class Pool:
    """The `Provider` of a model over its deployments; their names differ.

    A call that failed and was certainly not billed moves to another deployment at once, and when
    all were tried it waits and begins anew, for as long as the request's budget of retries lasts
    (``tally.retries``). A call that may have been billed is never made twice here.

    ``hedge_quantile`` in (0, 1) is the share of calls that end before a second one is to be made
    beside them, None for never; the meter makes it (`router.providers.metered`).
    """

    def __init__(
        self,
        model: str,
        deployments: Sequence[Deployment],
        retries: Retries | None = None,
        rng: Random = CHANCE,
        hedge_quantile: float | None = None,
    ) -> None:
        self.model = model
        self.deployments = tuple(deployments)
        self.retries = retries or Retries()
        self.rng = rng
        self._hedge_quantile = hedge_quantile
        self._latencies = Latencies()

    def __repr__(self) -> str:
        return f"Pool({self.model!r}, {len(self.deployments)} deployments)"

    @property
    def native_n(self) -> bool:
        """Whether every deployment bills the prompt of n completions once."""
        return all(deployment.provider.native_n for deployment in self.deployments)

    @property
    def takes_calls(self) -> bool:
        """False while every deployment is left alone."""
        return any(deployment.breaker.takes_calls for deployment in self.deployments)

    @property
    def hedges(self) -> bool:
        """Whether a second call may be made beside one that takes long."""
        return self._hedge_quantile is not None

    @property
    def hedge_after_s(self) -> float | None:
        """Seconds after which a second call is to be made; None for never."""
        if self._hedge_quantile is None:
            return None
        n_free = sum(deployment.breaker.takes_calls for deployment in self.deployments)
        return self._latencies.quantile(self._hedge_quantile) if n_free > 1 else None

    def states(self) -> tuple[DeploymentState, ...]:
        """Say how each deployment does."""
        return tuple(
            DeploymentState(
                self.model,
                deployment.name,
                deployment.breaker.state,
                deployment.n_in_flight,
                deployment.n_succeeded,
                deployment.n_failed,
            )
            for deployment in self.deployments
        )

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Give the highest of the deployments' bounds."""
        return max(each.provider.count_prompt_tokens(messages) for each in self.deployments)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw completions at one deployment, or each where there is room if n are n calls."""
        if request.n > 1 and not self.native_n:
            return await draw_each(request, tally, self._draw)
        return await self._draw(request, tally)

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield the pieces of one completion; once it has begun it stays where it is."""
        trip = _Trip(self, tally, streamed=True)
        while True:
            deployment = await trip.next()
            begun = False
            try:
                with Flight(deployment, tally, streamed=True) as flight:
                    chunks = deployment.provider.stream(request, tally)
                    try:
                        async for chunk in chunks:
                            if not begun:
                                begun = True
                                flight.began()
                            yield chunk
                    finally:
                        if isinstance(chunks, AsyncGenerator):
                            await chunks.aclose()
            except ProviderError as error:
                if begun:
                    raise
                await trip.after(deployment, error)
            else:
                return

    async def aclose(self) -> None:
        """Close every deployment. Idempotent."""
        for deployment in self.deployments:
            await deployment.provider.aclose()

    async def _draw(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        trip = _Trip(self, tally, streamed=False)
        while True:
            deployment = await trip.next()
            try:
                with Flight(deployment, tally, streamed=False):
                    began_s = time.monotonic()
                    samples = await deployment.provider.sample(request, tally)
                    self._latencies.note(time.monotonic() - began_s)
                    return samples
            except ProviderError as error:
                await trip.after(deployment, error)

    def balanced(self, free: Sequence[Deployment], *, streamed: bool) -> Deployment:
        """Give the less loaded of two that are picked at random."""
        if len(free) == 1:
            return free[0]
        first, second = free if len(free) == 2 else self.rng.sample(free, 2)  # noqa: PLR2004 - two choices
        known = (each.latency_s[streamed] for each in self.deployments)
        usual_s = min((s for s in known if s is not None), default=USUAL_S)
        loads = [each.load(usual_s, streamed=streamed) for each in (first, second)]
        if loads[0] == loads[1]:
            return self.rng.choice((first, second))
        return first if loads[0] < loads[1] else second


class _Trip:
    """The way of one call from deployment to deployment, until one serves it."""

    __slots__ = ("_asked_s", "_budget", "_n_rounds", "_pool", "_streamed", "_tally", "_tried")

    def __init__(self, pool: Pool, tally: Tally, *, streamed: bool) -> None:
        self._pool = pool
        self._tally = tally
        self._streamed = streamed
        self._n_rounds = 0
        self._tried: list[Deployment] = []
        self._budget = tally.retries

    async def next(self) -> Deployment:
        """Choose where to ask; wait out a short pause that the upstream asked for.

        Raises UpstreamUnavailableError when no deployment takes calls.
        """
        while True:
            free = self._free()
            if free:
                self._asked_s = time.monotonic()
                return self._pool.balanced(free, streamed=self._streamed)
            retries = self._pool.retries
            wait_s = min(each.breaker.rests_for_s for each in self._pool.deployments)
            if wait_s > retries.max_wait_s or not self._take():
                self._tally.settle(Usage())
                raise self._unavailable()
            await asyncio.sleep(wait_s + self._pool.rng.uniform(0.0, 0.1 * wait_s))

    async def after(self, deployment: Deployment, error: ProviderError) -> None:
        """Go on after a failure, at once if there is another place, else after a wait.

        The attempt is then one that was turned away; the last one is the call's own.
        Raises ``error`` where the call may have been billed, where it is the request's own fault,
        where nobody would have it tried again, and where the budget of retries is spent.
        """
        tally = self._tally
        if not tally.final or tally.usage != NOTHING or not is_its_fault(error):
            raise error
        self._tried.append(deployment)
        if self._free():
            if not self._take():
                raise error
            self._turned_away(deployment, error)
            return
        self._n_rounds += 1
        self._tried.clear()
        pool = self._pool
        wait_s = pool.retries.wait_s(self._n_rounds, error, pool.rng)
        if wait_s is None or not self._may_wait(wait_s) or not self._take():
            raise error
        self._turned_away(deployment, error)
        await asyncio.sleep(wait_s)

    def _turned_away(self, deployment: Deployment, error: ProviderError) -> None:
        price = deployment.price
        self._tally.turned_away.append(
            TurnedAway(
                str(error),
                time.monotonic() - self._asked_s,
                deployment.name,
                deployment.vendor,
                price.source if price else "",
            )
        )

    def _free(self) -> list[Deployment]:
        free = [
            each
            for each in self._pool.deployments
            if each.breaker.takes_calls and each not in self._tried
        ]
        budget, taken = self._budget, self._tally.elsewhere
        if len(free) < 2 or (taken is None and (budget is None or not budget.failed_at)):  # noqa: PLR2004 - a choice
            return free
        failed = () if budget is None else budget.failed_at
        return [each for each in free if each.name != taken and each not in failed] or free

    def _may_wait(self, wait_s: float) -> bool:
        """Whether a deployment will take calls after a wait."""
        return any(each.breaker.opens_again_in_s <= wait_s for each in self._pool.deployments)

    def _take(self) -> bool:
        if self._budget is None:
            self._budget = RetryBudget(self._pool.retries.max_retries)
        return self._budget.take()

    def _unavailable(self) -> UpstreamUnavailableError:
        pool = self._pool
        soonest_s = min(each.breaker.opens_again_in_s for each in pool.deployments)
        states = ", ".join(
            f"{state.name} {state.state}" if state.name else state.state for state in pool.states()
        )
        msg = f"its upstream failed too often lately and is left alone for now ({states})"
        return UpstreamUnavailableError(pool.model, msg, retry_after_s=max(1.0, soonest_s))
