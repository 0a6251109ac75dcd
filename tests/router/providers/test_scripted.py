"""The double does what its script says, as a real upstream would."""

from __future__ import annotations

import pytest

from cost_models.types import Usage
from router.errors import ProviderError
from router.providers.base import Tally
from router.providers.scripted import Reply, ScriptedProvider
from router.types import Message, SampleRequest

pytestmark = pytest.mark.anyio

MESSAGES = (Message("user", "how many legs?"),)
DOWN = ProviderError("scripted", "down", status=500)


def asks(n: int = 1, max_tokens: int = 10) -> SampleRequest:
    """Ask for n completions."""
    return SampleRequest(MESSAGES, max_tokens, n=n)


async def test_replies_come_in_order_and_requests_are_kept() -> None:
    """A call for n completions takes n replies."""
    provider = ScriptedProvider(["a", "b", "c"])
    tally = Tally()
    assert [s.text for s in await provider.sample(asks(2), tally)] == ["a", "b"]
    assert tally == Tally(Usage(1, 3, completion_tokens=2), final=True)
    assert [s.text for s in await provider.sample(asks(), tally)] == ["c"]
    assert [request.n for request in provider.requests] == [2, 1]
    with pytest.raises(ProviderError, match="no reply left"):
        await provider.sample(asks(), tally)


async def test_a_function_sees_the_request() -> None:
    """It can answer by seed, so that samples differ and repeat."""
    provider = ScriptedProvider(lambda request, i: f"{request.max_tokens + i}")
    assert [s.text for s in await provider.sample(asks(3), Tally())] == ["10", "11", "12"]


async def test_a_long_reply_is_cut_at_the_cap() -> None:
    """The cap holds as at a real upstream, and the reason says so."""
    provider = ScriptedProvider(lambda *_: "one two three four")
    tally = Tally()
    (sample,) = await provider.sample(asks(max_tokens=2), tally)
    assert (sample.text, sample.finish_reason, sample.n_tokens) == ("one two", "length", 2)
    assert tally.usage.completion_tokens == 2
    chunks = [chunk async for chunk in provider.stream(asks(max_tokens=2), tally)]
    assert "".join(chunk.delta.get("content", "") for chunk in chunks) == "one two"
    assert chunks[-1].finish_reason == "length"


async def test_an_error_ends_a_draw() -> None:
    """What came before it is given; with nothing before it, it is raised."""
    provider = ScriptedProvider(["a", DOWN, DOWN])
    tally = Tally()
    assert len(await provider.sample(asks(3), tally)) == 1
    with pytest.raises(ProviderError, match="down"):
        await provider.sample(asks(), tally)
    assert tally == Tally(final=True)


async def test_a_stream_gives_its_text_before_its_error() -> None:
    """A cut stream in one line."""
    provider = ScriptedProvider([Reply("half an", error=DOWN, reports_usage=False)])
    tally = Tally()
    words: list[str] = []

    async def read() -> None:
        async for chunk in provider.stream(asks(), tally):
            words.append(chunk.delta.get("content", ""))  # noqa: PERF401 - kept when it fails

    with pytest.raises(ProviderError, match="down"):
        await read()
    assert "".join(words) == "half an"
    assert not tally.final


async def test_several_calls_for_several_completions() -> None:
    """Without native n each completion is billed its own prompt."""
    provider = ScriptedProvider(["a", "b"], native_n=False)
    tally = Tally()
    await provider.sample(asks(2), tally)
    assert tally.usage == Usage(2, 6, completion_tokens=2)
