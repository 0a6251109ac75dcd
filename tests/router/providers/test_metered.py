"""The meter: caps hold exactly, and everything used is counted."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.estimates import CallBound, Throughput, worst_case_nano_usd
from cost_models.pricing import Price
from cost_models.types import Usage
from router.errors import (
    AllowanceExceededError,
    ProviderError,
    ProviderTimeoutError,
    RequestError,
)
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.types import CallRole, Message, SampleRequest

if TYPE_CHECKING:
    from router.providers.scripted import Scripted

pytestmark = pytest.mark.anyio

PRICE = Price(
    input_usd_per_million_tokens=Decimal("0.1"), output_usd_per_million_tokens=Decimal("0.4")
)
MESSAGES = (Message("user", "How many legs has a spider?"),)
FREE = Price(free=True)


def asks(max_tokens: int = 8, n: int = 1, **further: object) -> SampleRequest:
    """Ask for n short completions."""
    return SampleRequest(MESSAGES, max_tokens, n=n, extra=further)


def worst(provider: ScriptedProvider, request: SampleRequest, price: Price = PRICE) -> int:
    """Worst case of one call in nano-USD, without further fields."""
    bound = CallBound(provider.count_prompt_tokens(request.messages), request.max_tokens, request.n)
    return worst_case_nano_usd(price, [bound], None, native_n=provider.native_n)


@given(
    replies=st.lists(st.text(alphabet="ab ", max_size=30), min_size=1, max_size=12),
    asked=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 4)), min_size=1, max_size=6),
    allowed=st.integers(0, 200_000),
    native_n=st.booleans(),
    concurrent=st.booleans(),
)
def test_money_never_exceeds_the_allowance(
    replies: list[str],
    asked: list[tuple[int, int]],
    allowed: int,
    native_n: bool,  # noqa: FBT001 - drawn by hypothesis
    concurrent: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    """Whatever is asked, one after the other or at once, the sum stays within the cap."""

    async def run() -> None:
        provider = ScriptedProvider(lambda _, i: replies[i % len(replies)], native_n=native_n)
        meter = Meter(provider, PRICE, Allowance(max_cost_nano_usd=allowed))

        async def ask(max_tokens: int, n: int) -> None:
            request = asks(max_tokens, n)
            fits = meter.cost_nano_usd + worst(provider, request) <= allowed
            try:
                await meter.sample(request)
            except AllowanceExceededError:
                assert not fits
            else:
                assert fits

        if concurrent:
            await asyncio.gather(*(ask(*each) for each in asked))
        else:
            for each in asked:
                await ask(*each)
        assert meter.cost_nano_usd <= allowed
        assert meter.cost_nano_usd == sum(call.cost_nano_usd for call in meter.calls)
        assert len(meter.calls) == len(provider.requests)

    anyio.run(run)


@given(allowed=st.integers(0, 60), asked=st.lists(st.integers(1, 20), max_size=8))
def test_a_call_is_admitted_exactly_when_its_tokens_fit(allowed: int, asked: list[int]) -> None:
    """The meter agrees with one line of arithmetic on completion tokens."""

    async def run() -> None:
        provider = ScriptedProvider(lambda request, _: "a " * (request.max_tokens - 1) + "a")
        meter = Meter(provider, FREE, Allowance(max_completion_tokens=allowed))
        used = 0
        for max_tokens in asked:
            if used + max_tokens <= allowed:
                await meter.sample(asks(max_tokens))
                used += max_tokens
            else:
                with pytest.raises(AllowanceExceededError):
                    await meter.sample(asks(max_tokens))
            assert meter.usage.completion_tokens == used

    anyio.run(run)


async def test_never_one_call_more_than_allowed() -> None:
    """The call after the last is refused before anything is sent."""
    provider = ScriptedProvider(lambda *_: "eight")
    meter = Meter(provider, FREE, Allowance(max_calls=2))
    await meter.sample(asks())
    await meter.sample(asks(n=3))
    with pytest.raises(AllowanceExceededError, match="2 of 2 calls"):
        await meter.sample(asks())
    assert len(provider.requests) == 2


async def test_the_last_nano_usd_decides() -> None:
    """A call fits a cap equal to its worst case, and not one a nano-USD lower."""
    provider = ScriptedProvider(lambda *_: "eight")
    cap = worst(provider, asks())
    with pytest.raises(AllowanceExceededError):
        await Meter(provider, PRICE, Allowance(max_cost_nano_usd=cap - 1)).sample(asks())
    assert await Meter(provider, PRICE, Allowance(max_cost_nano_usd=cap)).sample(asks())


async def test_calls_in_flight_hold_their_worst_case() -> None:
    """Of two calls made at once, only as many go out as fit together."""
    provider = ScriptedProvider(lambda *_: Reply("eight", delay_s=0.01))
    cap = 2 * worst(provider, asks()) - 1
    meter = Meter(provider, PRICE, Allowance(max_cost_nano_usd=cap))
    results = await asyncio.gather(
        meter.sample(asks()), meter.sample(asks()), return_exceptions=True
    )
    assert [isinstance(result, AllowanceExceededError) for result in results] == [False, True]
    assert len(provider.requests) == 1


async def test_tools_count_towards_the_worst_case() -> None:
    """A tool's schema reaches the prompt, so a cap that fits the messages alone refuses it."""
    provider = ScriptedProvider(lambda *_: "eight")
    meter = Meter(provider, PRICE, Allowance(max_cost_nano_usd=worst(provider, asks())))
    with pytest.raises(AllowanceExceededError):
        await meter.sample(asks(tools=[{"type": "function", "function": {"name": "f"}}]))


async def test_each_call_is_recorded_with_its_exact_cost_rounded_up() -> None:
    """Cost is that of the reported usage, in whole nano-USD, with role and model."""
    usage = Usage(n_calls=1, prompt_tokens=3, completion_tokens=1)
    provider = ScriptedProvider([Reply("eight", usage=usage)], model="small")
    price = Price(
        input_usd_per_million_tokens=Decimal("0.00015"),
        output_usd_per_million_tokens=Decimal("0.0006"),
    )
    meter = Meter(provider, price, Allowance())
    await meter.sample(asks(), CallRole.EXTRACT)
    (call,) = meter.calls
    assert (call.model, call.role, call.status) == ("small", CallRole.EXTRACT, "ok")
    assert call.usage == usage
    assert call.cost_nano_usd == 2  # 1.05 nano-USD
    assert not call.in_doubt


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        pytest.param(ProviderError("scripted", "down", status=500), "error", id="an error"),
        pytest.param(Reply("eight", reports_usage=False), "ok", id="no word on usage"),
        pytest.param(
            Reply(error=ProviderError("scripted", "cut"), reports_usage=False),
            "error",
            id="a cut connection",
        ),
    ],
)
async def test_a_call_without_a_last_word_is_charged_its_worst_case(
    reply: Scripted, status: str
) -> None:
    """In doubt means charged in full; an error that says it costs nothing is free."""
    provider = ScriptedProvider([reply])
    meter = Meter(provider, PRICE, Allowance())
    try:
        await meter.sample(asks())
    except ProviderError:
        assert status == "error"
    (call,) = meter.calls
    in_doubt = isinstance(reply, Reply)
    assert (call.status, call.in_doubt) == (status, in_doubt)
    assert call.cost_nano_usd == (worst(provider, asks()) if in_doubt else 0)
    assert call.usage.estimated is in_doubt


async def test_a_cancelled_call_is_recorded_in_doubt() -> None:
    """Cancelling leaves one record, charged at its worst case."""
    provider = ScriptedProvider(lambda *_: Reply("eight", delay_s=60))
    meter = Meter(provider, PRICE, Allowance())
    running = asyncio.create_task(meter.sample(asks()))
    await asyncio.sleep(0)
    assert meter.cost_nano_usd == worst(provider, asks())  # already while it runs
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (call,) = meter.calls
    assert (call.status, call.in_doubt) == ("cancelled", True)
    assert call.cost_nano_usd == worst(provider, asks())


async def test_the_deadline_ends_a_call() -> None:
    """A slow upstream is a timeout, recorded; the next call is not made at all."""
    provider = ScriptedProvider(lambda *_: Reply("eight", delay_s=60))
    meter = Meter(provider, PRICE, Allowance(deadline=time.monotonic() + 0.02))
    with pytest.raises(ProviderTimeoutError, match="deadline"):
        await meter.sample(asks())
    with pytest.raises(AllowanceExceededError, match="time"):
        await meter.sample(asks())
    (call,) = meter.calls
    assert (call.status, call.in_doubt) == ("error", True)
    assert meter.upstream_s > 0


async def test_the_deadline_ends_a_stream() -> None:
    """A stream that stalls is a timeout too."""
    provider = ScriptedProvider(lambda *_: Reply("eight", delay_s=60))
    meter = Meter(provider, PRICE, Allowance(deadline=time.monotonic() + 0.02))
    with pytest.raises(ProviderTimeoutError):
        _ = [chunk async for chunk in meter.stream(asks())]
    assert meter.calls[0].in_doubt


async def test_a_stream_is_counted_like_a_sample() -> None:
    """The same reply costs the same either way."""
    meter = Meter(ScriptedProvider(["it has eight legs"] * 2), PRICE, Allowance())
    (sample,) = await meter.sample(asks())
    chunks = [chunk async for chunk in meter.stream(asks())]
    assert "".join(chunk.delta.get("content", "") for chunk in chunks) == sample.text
    assert chunks[-1].finish_reason == "stop"
    assert meter.calls[0].usage == meter.calls[1].usage
    assert meter.calls[0].cost_nano_usd == meter.calls[1].cost_nano_usd


async def test_a_stream_left_early_is_charged_its_worst_case() -> None:
    """Closing the generator settles the call as cancelled and in doubt."""
    provider = ScriptedProvider(["it has eight legs"])
    meter = Meter(provider, PRICE, Allowance())
    async with aclosing(meter.stream(asks())) as chunks:
        async for _ in chunks:
            break
    (call,) = meter.calls
    assert (call.status, call.in_doubt) == ("cancelled", True)
    assert call.cost_nano_usd == worst(provider, asks())


async def test_a_stream_abandoned_without_closing_still_counts() -> None:
    """A caller that forgets to close it sees the worst case at once."""
    provider = ScriptedProvider(["it has eight legs"])
    meter = Meter(provider, PRICE, Allowance())
    chunks = meter.stream(asks())
    await anext(chunks)
    assert meter.cost_nano_usd == worst(provider, asks())
    assert meter.calls[0].in_doubt
    await chunks.aclose()


async def test_a_provider_that_bills_above_its_cap_is_recorded_in_full() -> None:
    """The overshoot is written down, and nothing more is admitted."""
    usage = Usage(n_calls=1, prompt_tokens=10, completion_tokens=5_000_000)
    provider = ScriptedProvider([Reply("eight", usage=usage), "more"])
    cap = 3 * worst(provider, asks())
    meter = Meter(provider, PRICE, Allowance(max_cost_nano_usd=cap))
    await meter.sample(asks())
    assert meter.usage == usage
    assert meter.cost_nano_usd == 2_000_001_000
    with pytest.raises(AllowanceExceededError):
        await meter.sample(asks())


async def test_an_owned_machine_is_told_when_to_stop() -> None:
    """The machine time in the worst case is the cap that the provider gets."""
    price = Price(usd_per_machine_hour=Decimal(1))
    speed = Throughput(100.0, 10.0, worst_case_slowdown=2.0)
    provider = ScriptedProvider(lambda *_: "eight")
    bound = CallBound(provider.count_prompt_tokens(MESSAGES), 8)
    cap = worst_case_nano_usd(price, [bound], speed, native_n=True)
    meter = Meter(provider, price, Allowance(max_cost_nano_usd=cap), speed)
    await meter.sample(asks())
    cap_s = provider.requests[0].max_machine_s
    assert cap_s == pytest.approx(speed.worst_case_s(bound, native_n=True), abs=1e-8)


def test_machine_time_without_a_speed_has_no_bound() -> None:
    """An owned model without a measured speed is refused when the meter is made."""
    price = Price(usd_per_machine_hour=Decimal(1))
    with pytest.raises(ValueError, match="throughput"):
        Meter(ScriptedProvider([]), price, Allowance())


@pytest.mark.parametrize("request_", [asks(0), asks(n=0), asks(-5)])
async def test_a_call_for_nothing_is_refused(request_: SampleRequest) -> None:
    """A cap or a count below one cannot lower the worst case of the others."""
    with pytest.raises(RequestError, match="at least 1"):
        await Meter(ScriptedProvider(["x"]), PRICE, Allowance()).sample(request_)


async def test_upstream_time_counts_overlapping_calls_once() -> None:
    """Two calls side by side take the wall time of one."""
    meter = Meter(ScriptedProvider(lambda *_: Reply("x", delay_s=0.05)), FREE, Allowance())
    started = time.monotonic()
    await asyncio.gather(*(meter.sample(asks()) for _ in range(4)))
    assert 0.04 < meter.upstream_s <= time.monotonic() - started
    assert sum(call.latency_s for call in meter.calls) > meter.upstream_s


async def test_a_later_call_that_is_too_long_does_not_fit_and_a_first_one_is_wrong() -> None:
    """After an answer a prompt past the window ends the strategy with what it has; before, 400."""
    too_long = RequestError("too long", code="context_length_exceeded")

    def answer_then_refuse(_request: SampleRequest, _i: int) -> str:
        if len(provider.requests) > 1:
            raise too_long
        return "8"

    provider = ScriptedProvider(answer_then_refuse)
    meter = Meter(provider, PRICE, Allowance())
    assert await meter.sample(asks())
    with pytest.raises(AllowanceExceededError, match="too long"):
        await meter.sample(asks())
    with pytest.raises(RequestError):
        await Meter(provider, PRICE, Allowance()).sample(asks())
