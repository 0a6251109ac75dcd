"""What every provider must hold, against a real server where it speaks to one."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from router.errors import RequestError
from router.providers.base import Tally
from router.providers.registry import Providers
from router.providers.scripted import ScriptedProvider
from router.types import Message, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from upstream import Upstream

    from router.providers.base import Provider

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # litellm's own
]

TEXT = "it has eight legs"
REQUEST = SampleRequest(
    messages=(Message("system", "be brief"), Message("user", "how many legs has a spider?")),
    max_tokens=12,
    seed=5,
)
KINDS = ["scripted", "scripted without n", "openai", "litellm"]
if find_spec("router.providers.simulated"):
    KINDS.append("simulated")


@pytest.fixture(params=KINDS)
async def provider(
    request: pytest.FixtureRequest, upstream: Upstream, anyio_backend: str
) -> AsyncIterator[Provider]:
    """Give one provider of each kind, all answering the same text where they are told one."""
    upstream.default = upstream.Served(texts=(TEXT,))
    providers = Providers()
    made: Provider
    if request.param == "scripted":
        made = ScriptedProvider(lambda *_: TEXT)
    elif request.param == "scripted without n":
        made = ScriptedProvider(lambda *_: TEXT, native_n=False)
    elif request.param == "openai":
        made = providers.build("m", "openai/x", base_url=upstream.base_url, api_key="k")
    elif request.param == "litellm":
        made = providers.build("m", "hosted_vllm/x", base_url=upstream.base_url, api_key="k")
    else:
        made = providers.build("m", "simulated/small")
    yield made
    await made.aclose()


@pytest.mark.parametrize("n", [1, 3])
async def test_up_to_n_completions_with_their_usage(provider: Provider, n: int) -> None:
    """At least one; usage is final, and within the bounds of the call."""
    tally = Tally()
    samples = await provider.sample(replace(REQUEST, n=n), tally)
    assert 1 <= len(samples) <= n
    assert all(sample.text for sample in samples)
    assert tally.final
    usage = tally.usage
    n_calls = 1 if provider.native_n else n
    assert usage.n_calls == n_calls
    assert 0 < usage.prompt_tokens <= n_calls * provider.count_prompt_tokens(REQUEST.messages)
    assert 0 < usage.completion_tokens <= n * REQUEST.max_tokens


async def test_the_same_seed_gives_the_same_completions(provider: Provider) -> None:
    """A run can be repeated."""
    request = replace(REQUEST, n=2)
    first = await provider.sample(request, Tally())
    second = await provider.sample(request, Tally())
    assert [sample.text for sample in first] == [sample.text for sample in second]


async def test_a_stream_joins_to_a_completion_with_the_same_usage(provider: Provider) -> None:
    """One reason at the end; the tally is final then."""
    whole, streamed = Tally(), Tally()
    (sample,) = await provider.sample(REQUEST, whole)
    chunks = [chunk async for chunk in provider.stream(REQUEST, streamed)]
    assert "".join(chunk.delta.get("content") or "" for chunk in chunks) == sample.text
    reasons = [chunk.finish_reason for chunk in chunks if chunk.finish_reason]
    assert reasons == [sample.finish_reason]
    assert streamed.final
    assert streamed.usage.prompt_tokens == whole.usage.prompt_tokens
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens


async def test_a_stream_left_early_is_in_doubt_or_says_what_it_used(provider: Provider) -> None:
    """Closing it raises nothing, and never claims that it was free."""
    tally = Tally()
    async with aclosing(provider.stream(REQUEST, tally)) as chunks:
        async for chunk in chunks:
            if chunk.delta.get("content"):
                break
    assert not tally.final or tally.usage.n_calls == 1


async def test_cancelling_a_call_raises_cancelled(provider: Provider) -> None:
    """The provider works on afterwards."""
    running = asyncio.create_task(provider.sample(REQUEST, Tally()))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert await provider.sample(REQUEST, Tally())


async def test_several_completions_cannot_be_streamed(provider: Provider) -> None:
    """The protocol streams one; more is the caller's mistake, said as such."""
    with pytest.raises(RequestError) as told:
        _ = [chunk async for chunk in provider.stream(replace(REQUEST, n=2), Tally())]
    assert told.value.param == "n"


async def test_the_bound_of_a_prompt_grows_with_it(provider: Provider) -> None:
    """Every message and every part counts; odd text does not raise."""
    short = provider.count_prompt_tokens(REQUEST.messages)
    more = (*REQUEST.messages, Message("assistant", "eight"), Message("user", "\ud800 ü 🕷"))
    assert provider.count_prompt_tokens(more) > short
    assert provider.count_prompt_tokens((Message("assistant", None),)) >= 0


async def test_closing_twice_is_fine(provider: Provider) -> None:
    """Whether it was used or not."""
    await provider.aclose()
    await provider.aclose()
