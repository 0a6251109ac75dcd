"""The meter: it counts what a request uses and refuses the call that could break a cap.

A call is admitted only if everything used, everything in flight and this call's own worst case
together fit every cap, so that the hold on the budget is a true upper bound whatever the
strategy does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from cost_models.errors import RheostatError
from cost_models.estimates import NS_PER_S, CallBound, worst_case_usage
from cost_models.money import NANO_PER_USD, to_nano_usd
from cost_models.types import TURNED_AWAY, Usage
from router.errors import AllowanceExceededError, ProviderTimeoutError, RequestError
from router.providers.alarm import Alarm
from router.providers.base import Tally
from router.providers.hedging import first_of_two
from router.providers.usage import extra_bound
from router.types import CallRecord, CallRole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cost_models.estimates import Throughput
    from cost_models.pricing import Price
    from router.providers.base import OutsideCall, Provider
    from router.providers.retries import RetryBudget
    from router.types import Chunk, Sample, SampleRequest

T = TypeVar("T")

TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The caps of one request; None is no cap.

    ``max_cost_nano_usd`` is whole nano-USD. ``max_calls`` counts the calls of the strategy: one
    for n completions counts once, however the provider serves it. ``max_completion_tokens`` is
    over all calls. ``deadline`` is in seconds of ``time.monotonic``. A call that takes
    ``hedge_after_s`` seconds gets a second one beside it, which the other caps must have room for;
    None never does that.
    """

    max_cost_nano_usd: int | None = None
    max_calls: int | None = None
    max_completion_tokens: int | None = None
    deadline: float | None = None
    hedge_after_s: float | None = None


@dataclass(slots=True, eq=False)
class _Flight:
    """One admitted call: the most it can use, at which price, and what it has used."""

    model: str
    role: CallRole
    price: Price
    worst: Usage
    worst_nano_usd: int
    tally: Tally
    started_s: float = field(default_factory=time.monotonic)


class Meter:
    """The `Sampler` over one provider at one price, for one request.

    ``throughput`` is given for a model on an owned machine: each call is then told to stop at
    its worst-case machine time. ``retries`` is what the request may still try again, None where
    each call has a budget of its own. An upstream that uses more than the cap it was given is
    recorded in full, and the next call is refused if nothing is left.
    """

    def __init__(
        self,
        provider: Provider,
        price: Price,
        allowance: Allowance,
        throughput: Throughput | None = None,
        retries: RetryBudget | None = None,
    ) -> None:
        if price.owned and throughput is None:
            msg = (
                f"model {provider.model!r} is paid by machine time, which has no bound without a "
                "throughput; measure or configure its tokens per second"
            )
            raise ValueError(msg)
        self.model = provider.model
        self.allowance = allowance
        self._provider = provider
        self._price = price
        self._throughput = throughput
        self._retries = retries
        self._in_flight: list[_Flight] = []
        self._landed: list[CallRecord] = []
        self._upstream_s = 0.0
        self._busy_since_s = 0.0

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """Every call, in the order of its end; one still in flight is in doubt, at its worst.

        Behind a call stand the attempts at it that were turned away.
        """
        pending = (
            record
            for flight in self._in_flight
            for record in self._records(flight, "cancelled", in_doubt=True)
        )
        return (*self._landed, *pending)

    @property
    def usage(self) -> Usage:
        """Sum over ``calls``."""
        return Usage.total(call.usage for call in self.calls)

    @property
    def cost_nano_usd(self) -> int:
        """Sum over ``calls``, each rounded up to whole nano-USD."""
        return sum(call.cost_nano_usd for call in self.calls)

    @property
    def upstream_s(self) -> float:
        """Wall time in seconds during which at least one call was in flight."""
        running_s = time.monotonic() - self._busy_since_s if self._in_flight else 0.0
        return self._upstream_s + running_s

    async def sample(
        self, request: SampleRequest, role: CallRole = CallRole.ANSWER
    ) -> tuple[Sample, ...]:
        """Draw 1 to ``request.n`` completions.

        Raises AllowanceExceededError before a call that does not fit, ProviderTimeoutError when
        the deadline ends one, and what the provider raises. A later call whose prompt is too long
        for the model does not fit either: what was found before it is kept.
        """
        after_s = self.allowance.hedge_after_s
        try:
            if after_s is None:
                return await self._draw(request, role, [])
            return await self._hedged(request, role, after_s)
        except RequestError as error:
            if error.code == TOO_LONG and any(call.status == "ok" for call in self._landed):
                raise AllowanceExceededError(str(error)) from error
            raise

    async def outside(self, call: OutsideCall[T], role: CallRole) -> T:
        """Make a call to another server at its own price, within the same caps.

        Raises AllowanceExceededError before one that does not fit, ProviderTimeoutError when the
        deadline ends it, and what the call raises.
        """
        worst_nano_usd = to_nano_usd(call.price.worst_case_usd(call.worst))
        self._check_caps(call.worst, worst_nano_usd)
        tally = Tally(vendor=call.provider, price_source=call.price.source)
        admitted = _Flight(call.model, role, call.price, call.worst, worst_nano_usd, tally)
        with self._flying(admitted) as flight, self._in_time():
            return await call.make(flight.tally)

    async def _draw(
        self, request: SampleRequest, role: CallRole, beside: list[_Flight]
    ) -> tuple[Sample, ...]:
        """Make one call, elsewhere than those it is made ``beside``, and count it among them."""
        capped, admitted = self._admitted(request, role)
        with self._flying(admitted) as flight:
            flight.tally.elsewhere = beside[0].tally.deployment if beside else None
            beside.append(flight)
            with self._in_time():
                return await self._provider.sample(capped, flight.tally)

    async def _hedged(
        self, request: SampleRequest, role: CallRole, after_s: float
    ) -> tuple[Sample, ...]:
        """Draw with a second call beside the first if it takes long; both are counted.

        The one that is not taken is cancelled, in doubt at its worst case unless it had ended.
        """
        beside: list[_Flight] = []
        return await first_of_two(
            self._draw(request, role, beside),
            lambda: self._draw(request, CallRole.HEDGE, beside),
            after_s,
        )

    async def stream(
        self, request: SampleRequest, role: CallRole = CallRole.ANSWER
    ) -> AsyncGenerator[Chunk, None]:
        """Yield the pieces of one completion; raises as ``sample`` does.

        Close the generator (``contextlib.aclosing``) when leaving it early: the call is settled
        then, and is in doubt at its worst case before.
        """
        capped, admitted = self._admitted(request, role)
        alarm = self._alarm()
        with closing(alarm), self._flying(admitted) as flight:
            chunks = self._provider.stream(capped, flight.tally)
            try:
                while True:
                    try:
                        with alarm:
                            chunk = await anext(chunks, None)
                    except TimeoutError as error:
                        if alarm.rang:
                            raise self._too_late() from error
                        raise
                    if chunk is None:
                        return
                    yield chunk
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

    @contextmanager
    def _flying(self, flight: _Flight) -> Iterator[_Flight]:
        """Count an admitted call whatever becomes of it, and write its record."""
        if not self._in_flight:
            self._busy_since_s = flight.started_s
        self._in_flight.append(flight)
        status, error = "ok", None
        try:
            yield flight
        except (asyncio.CancelledError, GeneratorExit):
            status = "cancelled"
            raise
        except BaseException as raised:
            status = "error"
            error = str(raised) if isinstance(raised, RheostatError) else type(raised).__name__
            raise
        finally:
            self._in_flight.remove(flight)
            in_doubt = not flight.tally.final
            self._landed += self._records(flight, status, error, in_doubt=in_doubt)
            if not self._in_flight:
                self._upstream_s += time.monotonic() - self._busy_since_s

    def _admitted(self, request: SampleRequest, role: CallRole) -> tuple[SampleRequest, _Flight]:
        """Admit one call of the model, and give the request with its cap of machine time."""
        if min(request.n, request.max_tokens) < 1:
            msg = f"n and max_tokens are at least 1, got {request.n} and {request.max_tokens}"
            raise RequestError(msg, param="n" if request.n < 1 else "max_tokens")
        worst = worst_case_usage(
            CallBound(
                self._provider.count_prompt_tokens(request.messages) + extra_bound(request.extra),
                request.max_tokens,
                request.n,
            ),
            self._throughput,
            native_n=self._provider.native_n,
        )
        worst_nano_usd = to_nano_usd(self._price.worst_case_usd(worst))
        self._check_caps(worst, worst_nano_usd)
        if self._throughput is not None:
            cap_s = worst.machine_ns / NS_PER_S
            if request.max_machine_s is not None:
                cap_s = min(cap_s, request.max_machine_s)
            request = replace(request, max_machine_s=cap_s)
        tally = Tally(retries=self._retries)
        return request, _Flight(self.model, role, self._price, worst, worst_nano_usd, tally)

    def _check_caps(self, worst: Usage, worst_nano_usd: int) -> None:
        """Refuse the call unless it fits every cap, with all that was used or is in flight."""
        allowance = self.allowance
        calls = self.calls
        n_calls = sum(call.status != TURNED_AWAY for call in calls)
        _fit("calls", allowance.max_calls, n_calls, 1)
        _fit(
            "completion tokens",
            allowance.max_completion_tokens,
            sum(call.usage.completion_tokens for call in calls),
            worst.completion_tokens,
        )
        _fit(
            "nano-USD",
            allowance.max_cost_nano_usd,
            sum(call.cost_nano_usd for call in calls),
            worst_nano_usd,
        )
        if allowance.deadline is not None and allowance.deadline <= time.monotonic():
            msg = "the time for this request is over; allow more time or a faster arm"
            raise AllowanceExceededError(msg)

    def _records(
        self, flight: _Flight, status: str, error: str | None = None, *, in_doubt: bool
    ) -> tuple[CallRecord, ...]:
        tally = flight.tally
        usage, cost_usd = tally.usage, tally.cost_usd
        cost_nano_usd = to_nano_usd(flight.price.cost_usd(usage) if cost_usd is None else cost_usd)
        if in_doubt and cost_nano_usd <= flight.worst_nano_usd:
            usage, cost_nano_usd = flight.worst, flight.worst_nano_usd
        call = CallRecord(
            model=flight.model,
            role=flight.role,
            usage=usage,
            cost_nano_usd=cost_nano_usd,
            latency_s=time.monotonic() - flight.started_s,
            status=status,
            in_doubt=in_doubt,
            error=error,
            price_source=tally.price_source or flight.price.source,
            deployment=tally.deployment,
            vendor=tally.vendor,
        )
        return (call, *(each.record(call, flight.price.source) for each in tally.turned_away))

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Cancel what runs inside at the deadline, and say so as an upstream timeout."""
        alarm = self._alarm()
        try:
            with closing(alarm), alarm:
                yield
        except TimeoutError as error:
            if alarm.rang:
                raise self._too_late() from error
            raise

    def _alarm(self) -> Alarm:
        """Make the alarm of the deadline."""
        deadline = self.allowance.deadline
        if deadline is None:
            return Alarm(None)
        return Alarm(asyncio.get_running_loop().time() + deadline - time.monotonic())

    def _too_late(self) -> ProviderTimeoutError:
        msg = "the request's deadline came before the answer; allow more time or a faster arm"
        return ProviderTimeoutError(self.model, msg)


def _fit(what: str, cap: int | None, used: int, asked: int) -> None:
    if cap is None or used + asked <= cap:
        return
    shown = what if what != "nano-USD" else f"nano-USD ({cap / NANO_PER_USD:.9f} USD)"
    msg = f"a call for up to {asked} more does not fit: {used} of {cap} {shown} are taken"
    raise AllowanceExceededError(msg)
