"""Several deployments of one model, each a real server: balance, retries, breakers, money."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from parts import price
from upstream import Upstream

from cost_models.pricing import dearest
from cost_models.types import Usage
from router.errors import (
    AllowanceExceededError,
    ProviderError,
    RequestError,
    UpstreamUnavailableError,
)
from router.providers.base import Tally
from router.providers.breaker import Breaker, BreakerSettings, BreakerState
from router.providers.deployments import Deployment
from router.providers.metered import Allowance, Meter
from router.providers.openai_compatible import OpenAICompatibleProvider
from router.providers.pool import Pool
from router.providers.retries import Retries, RetryBudget
from router.providers.scripted import ScriptedProvider
from router.providers.timeouts import Timeouts
from router.types import Message, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from router.types import Chunk

pytestmark = pytest.mark.anyio

QUICK = Retries(max_retries=2, first_wait_s=0.001, max_wait_s=0.5)
MESSAGES = (Message("user", "how many legs?"),)
DOWN = "http://127.0.0.1:9/v1"
"""The discard port: nothing listens there."""


def asks(n: int = 1) -> SampleRequest:
    """Ask for n completions."""
    return SampleRequest(MESSAGES, max_tokens=20, n=n)


@asynccontextmanager
async def places(n: int) -> AsyncIterator[list[Upstream]]:
    """Run so many upstreams."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Upstream().running()) for _ in range(n)]


@asynccontextmanager
async def pool(
    *urls: str,
    failures: int = 5,
    open_s: float = 5.0,
    prices: tuple[int, ...] = (),
    **further: Any,  # noqa: ANN401 - settings of the providers
) -> AsyncIterator[Pool]:
    """Put a model over deployments called a, b, c, with quick retries and seeded chance."""
    breaker = BreakerSettings(failures=failures, open_s=open_s)
    made = Pool(
        "small",
        [
            Deployment(
                "abc"[i] if len(urls) > 1 else "",
                OpenAICompatibleProvider("small", "vendor-small", url, **further),
                "openai",
                price(prices[i]) if prices else None,
                Breaker(breaker),
            )
            for i, url in enumerate(urls)
        ],
        QUICK,
        Random(7),
    )
    try:
        yield made
    finally:
        await made.aclose()


async def hear(stream: AsyncIterator[Chunk], heard: list[str]) -> None:
    """Read a stream to its end, and keep what it said."""
    async for chunk in stream:
        heard.append(chunk.delta.get("content", ""))  # noqa: PERF401 - it may end in an error


def states(made: Pool) -> list[str]:
    """Give the state of each deployment."""
    return [state.state for state in made.states()]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_call_that_was_turned_away_is_tried_again(upstream: Upstream, status: int) -> None:
    """Nothing was billed, so it is safe; the second attempt's usage counts alone."""
    upstream.replies.append(upstream.error(status, "later"))
    tally = Tally()
    async with pool(upstream.base_url) as made:
        await made.sample(asks(), tally)
    assert len(upstream.requests) == 2
    assert tally.usage.n_calls == 1


async def test_retries_end_and_say_when_to_come_back(upstream: Upstream) -> None:
    """After the last attempt the error carries the upstream's wait."""
    upstream.default = upstream.error(429, "slow down", **{"Retry-After": "0.01"})
    async with pool(upstream.base_url) as made:
        with pytest.raises(ProviderError) as told:
            await made.sample(asks(), Tally())
    assert (told.value.status, told.value.retry_after_s) == (429, 0.01)
    assert len(upstream.requests) == 3


async def test_a_long_wait_is_the_clients_to_decide(upstream: Upstream) -> None:
    """The deployment rests meanwhile: the next call is refused, and nothing is sent."""
    upstream.default = upstream.error(429, "slow down", **{"Retry-After": "300"})
    tally = Tally()
    async with pool(upstream.base_url) as made:
        with pytest.raises(ProviderError, match="slow down") as told:
            await made.sample(asks(), tally)
        assert told.value.retry_after_s == 300
        assert states(made) == [BreakerState.RESTING]
        with pytest.raises(UpstreamUnavailableError, match="resting") as refused:
            await made.sample(asks(), tally)
    assert 299 < (refused.value.retry_after_s or 0) <= 300
    assert tally.final
    assert len(upstream.requests) == 1


async def test_a_short_pause_is_waited_out_by_others_too(upstream: Upstream) -> None:
    """Both are served once the pause that the first was told of is over."""
    upstream.replies.append(upstream.error(503, "restarting", **{"Retry-After": "0.1"}))
    async with pool(upstream.base_url) as made:
        first = asyncio.create_task(made.sample(asks(), Tally()))
        while states(made) != [BreakerState.RESTING]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
        await asyncio.gather(first, made.sample(asks(), Tally()))
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [400, 422, 500])
async def test_what_another_attempt_cannot_cure_is_raised_at_once(
    upstream: Upstream, status: int
) -> None:
    """A request that is wrong stays wrong; a sole deployment that broke is not asked again."""
    upstream.default = upstream.error(status, "no")
    async with pool(upstream.base_url) as made:
        with pytest.raises(ProviderError, match="no"):
            await made.sample(asks(), Tally())
    assert len(upstream.requests) == 1


async def test_a_wrong_request_does_not_open_the_breaker(upstream: Upstream) -> None:
    """Ten clients who are wrong do not take the model away from the others."""
    upstream.default = upstream.error(400, "no")
    async with pool(upstream.base_url) as made:
        for _ in range(10):
            with pytest.raises(ProviderError):
                await made.sample(asks(), Tally())
        with pytest.raises(RequestError):
            await made.sample(SampleRequest(MESSAGES, 5, extra={"audio": {"voice": "x"}}), Tally())
        assert states(made) == [BreakerState.CLOSED]


async def test_a_failing_deployment_is_replaced_at_once_and_then_left_alone() -> None:
    """A broken, a misconfigured and an absent one: every call is served by the fourth."""
    async with places(2) as (broken, whole):
        broken.default = broken.error(500, "broken")
        async with pool(broken.base_url, DOWN, whole.base_url, failures=2) as made:
            for _ in range(20):
                tally = Tally(retries=RetryBudget(2))
                (sample,) = await made.sample(asks(), tally)
                assert (sample.text, tally.deployment) == ("ok", "c")
                assert tally.final
        assert len(whole.requests) == 20
        assert len(broken.requests) <= 2


@pytest.mark.parametrize("failing", [False, True], ids=["slow", "failing"])
def test_a_deployment_that_did_badly_is_asked_again_some_time(*, failing: bool) -> None:
    """What is known of it fades while it is left alone."""
    now_s = 100.0
    good, bad = (Deployment(n, ScriptedProvider([]), clock=lambda: now_s) for n in ("good", "bad"))
    made = Pool("small", [good, bad])
    good.latency_s[False], bad.latency_s[False] = 0.1, 0.1 if failing else 2.0
    good.note(failed=False)
    bad.note(failed=failing)
    assert {made.balanced([good, bad], streamed=False).name for _ in range(9)} == {"good"}
    now_s += 60
    good.note(failed=False)
    assert {made.balanced([good, bad], streamed=False).name for _ in range(9)} == {"bad"}


async def test_all_calls_of_a_request_share_its_retries() -> None:
    """Two retries, whatever the number of calls: after them the first error stands."""
    async with places(2) as servers:
        for server in servers:
            server.default = server.error(503, "busy")
        budget = RetryBudget(2)
        async with pool(*(server.base_url for server in servers), failures=20) as made:
            for _ in range(3):
                with pytest.raises(ProviderError, match="busy"):
                    await made.sample(asks(), Tally(retries=budget))
        assert sum(len(server.requests) for server in servers) == 3 + 2


async def test_what_may_have_been_billed_is_not_asked_for_elsewhere() -> None:
    """A lost connection and a time-out are in doubt: nobody pays twice here."""
    async with places(2) as (first, second):
        for server in (first, second):
            server.default = server.Served(cut_after=0)
        tally = Tally()
        async with pool(first.base_url, second.base_url) as made:
            with pytest.raises(ProviderError, match="lost the connection"):
                await made.sample(asks(), tally)
        assert not tally.final
        assert len(first.requests) + len(second.requests) == 1


async def test_a_breaker_opens_probes_and_closes(upstream: Upstream) -> None:
    """Refused while open; one of many goes ahead when half open; then all do."""
    upstream.default = upstream.error(500, "broken")
    async with pool(upstream.base_url, failures=3, open_s=0.2) as made:
        for _ in range(3):
            with pytest.raises(ProviderError, match="broken"):
                await made.sample(asks(), Tally())
        with pytest.raises(UpstreamUnavailableError, match="open"):
            await made.sample(asks(), Tally())
        assert len(upstream.requests) == 3
        await asyncio.sleep(0.25)
        assert states(made) == [BreakerState.HALF_OPEN]
        upstream.default = upstream.Served(delay_s=0.05)
        done = await asyncio.gather(
            *(made.sample(asks(), Tally()) for _ in range(5)), return_exceptions=True
        )
        refused = [each for each in done if isinstance(each, UpstreamUnavailableError)]
        assert (len(done), len(refused), len(upstream.requests)) == (5, 4, 4)
        await asyncio.gather(*(made.sample(asks(), Tally()) for _ in range(5)))
        assert states(made) == [BreakerState.CLOSED]


async def test_a_cancelled_probe_leaves_the_next_one_to_another(upstream: Upstream) -> None:
    """The client of the probe left; the upstream saw it hang up."""
    upstream.default = upstream.error(500, "broken")
    async with pool(upstream.base_url, failures=1, open_s=0.05) as made:
        with pytest.raises(ProviderError):
            await made.sample(asks(), Tally())
        await asyncio.sleep(0.06)
        upstream.default = upstream.Served(delay_s=30)
        upstream.asked.clear()
        probe = asyncio.create_task(made.sample(asks(), Tally()))
        await upstream.asked.wait()
        probe.cancel()
        await upstream.hung_up.wait()
        upstream.default = upstream.Served()
        await made.sample(asks(), Tally())
        assert states(made) == [BreakerState.CLOSED]


async def test_timeouts_open_the_breaker(upstream: Upstream) -> None:
    """A server that does not answer is broken as one that says so."""
    upstream.default = upstream.Served(delay_s=30)
    async with pool(upstream.base_url, failures=2, timeouts=Timeouts(total_s=0.05)) as made:
        for _ in range(2):
            with pytest.raises(ProviderError, match="total_s"):
                await made.sample(asks(), Tally())
        assert states(made) == [BreakerState.OPEN]


async def test_the_faster_deployment_gets_most_calls() -> None:
    """One that takes 50 times as long is asked once or twice, to know it."""
    async with places(2) as (slow, fast):
        slow.default = slow.Served(delay_s=0.1)
        fast.default = fast.Served(delay_s=0.002)
        async with pool(slow.base_url, fast.base_url) as made:
            for _ in range(30):
                await made.sample(asks(), Tally())
        assert len(slow.requests) <= 2


async def test_calls_side_by_side_are_spread() -> None:
    """As many at each of two that are alike, also those of one request for several."""
    async with places(2) as (first, second):
        for server in (first, second):
            server.default = server.Served(delay_s=0.05)
        async with pool(first.base_url, second.base_url, native_n=False) as made:
            await asyncio.gather(*(made.sample(asks(), Tally()) for _ in range(10)))
            assert len(first.requests) == len(second.requests) == 5
            tally = Tally()
            assert len(await made.sample(asks(6), tally)) == 6
        assert abs(len(first.requests) - len(second.requests)) <= 2
        assert (tally.usage.n_calls, tally.deployment) == (6, "a+b")


async def test_a_stream_is_tried_elsewhere_only_before_it_begins() -> None:
    """A turned-away stream moves on; one that began is cut where it is, in doubt."""
    async with places(2) as (first, second):
        first.default = first.error(503, "busy")
        second.default = second.Served(texts=("a b c",), cut_after=1)
        async with pool(first.base_url, second.base_url) as made:
            for _ in range(4):
                tally, heard = Tally(), []
                with pytest.raises(ProviderError, match="lost the connection"):
                    await hear(made.stream(asks(), tally), heard)
                assert "".join(heard) == "a"
                assert not tally.final
        assert len(second.requests) == 4


async def test_held_at_the_dearest_and_charged_what_it_cost() -> None:
    """Three deployments at three prices: the meter admits by the dearest, books each its own."""
    async with places(3) as servers:
        urls = [server.base_url for server in servers]
        held_at = dearest([price(1), price(5), price(3)])
        assert held_at.output_usd_per_million_tokens == Decimal(10)
        usage = {"prompt_tokens": 10, "completion_tokens": 10}
        for server in servers:
            server.default = server.Served(usage=usage, delay_s=0.02)
        async with pool(*urls, prices=(1, 5, 3)) as made:
            meter = Meter(made, held_at, Allowance())
            await asyncio.gather(*(meter.sample(asks()) for _ in range(6)))
        own = {"a": 30_000, "b": 150_000, "c": 90_000}
        assert {call.deployment for call in meter.calls} == set("abc")
        for call in meter.calls:
            assert call.cost_nano_usd == own[call.deployment]
            assert call.price_source == "test"
        assert meter.cost_nano_usd == sum(own[call.deployment] for call in meter.calls)


async def test_several_completions_at_several_prices_are_added_up() -> None:
    """One call row, whose cost is the sum of what each place charged."""
    async with places(2) as servers:
        usage = {"prompt_tokens": 10, "completion_tokens": 10}
        for server in servers:
            server.default = server.Served(usage=usage, delay_s=0.02)
        urls = [server.base_url for server in servers]
        async with pool(*urls, prices=(1, 5), native_n=False) as made:
            meter = Meter(made, price(5), Allowance())
            await meter.sample(asks(4))
        (call,) = meter.calls
        assert call.cost_nano_usd == 2 * 30_000 + 2 * 150_000


async def test_a_call_in_doubt_is_charged_at_the_dearest() -> None:
    """Nobody knows what the cheap one billed, and the hold covers it."""
    async with places(1) as (server,):
        server.default = server.Served(cut_after=0)
        async with pool(server.base_url, prices=(1,)) as made:
            meter = Meter(made, price(5), Allowance())
            with pytest.raises(ProviderError):
                await meter.sample(asks())
        (call,) = meter.calls
        bound = made.count_prompt_tokens(MESSAGES)
        assert call.in_doubt
        assert call.cost_nano_usd == 5 * (1_000 * bound + 2_000 * 20)


async def test_waiting_ends_with_the_request() -> None:
    """The deadline cancels a backoff as it cancels a call."""
    async with places(1) as (server,):
        server.default = server.error(503, "busy", **{"Retry-After": "0.4"})
        async with pool(server.base_url) as made:
            meter = Meter(made, price(), Allowance(deadline=time.monotonic() + 0.1))
            with pytest.raises(ProviderError, match="deadline"):
                await meter.sample(asks())
        assert [(call.status, call.cost_nano_usd) for call in meter.calls] == [
            ("error", 0),
            ("turned_away", 0),
        ]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_attempts_that_were_turned_away_are_rows_of_their_own(*, streamed: bool) -> None:
    """Each says where it was made and why it failed; it costs nothing and uses up no call."""
    usage = {"prompt_tokens": 10, "completion_tokens": 10}
    async with places(2) as (first, second):
        first.default = first.error(500, "broken")
        second.replies.append(second.error(429, "slow down", **{"Retry-After": "0"}))
        second.default = second.Served(usage=usage)
        async with pool(first.base_url, second.base_url, prices=(1, 5)) as made:
            made.deployments[1].n_in_flight = 5
            meter = Meter(made, price(5), Allowance(max_calls=1), retries=RetryBudget(5))
            if streamed:
                await hear(meter.stream(asks()), [])
            else:
                await meter.sample(asks())
            with pytest.raises(AllowanceExceededError, match="calls"):
                await meter.sample(asks())
    call, *attempts = meter.calls
    assert (call.status, call.deployment, call.cost_nano_usd) == ("ok", "b", 150_000)
    assert {each.status for each in attempts} == {"turned_away"}
    assert [(each.deployment, "broken" in str(each.error)) for each in attempts[:2]] == [
        ("a", True),
        ("b", False),
    ]
    assert {each.cost_nano_usd for each in attempts} == {0}
    assert {(each.usage, each.in_doubt) for each in attempts} == {(Usage(), False)}
    assert all(0 < each.latency_s <= call.latency_s for each in attempts)
    assert meter.usage == call.usage


async def test_attempts_of_calls_side_by_side_are_all_kept() -> None:
    """Three calls for as many completions, one of which was turned away: one call row and one."""
    async with places(1) as (server,):
        server.replies.append(server.error(429, "slow down", **{"Retry-After": "0"}))
        async with pool(server.base_url, native_n=False) as made:
            meter = Meter(made, price(1), Allowance())
            assert len(await meter.sample(asks(3))) == 3
    assert [call.status for call in meter.calls] == ["ok", "turned_away"]
