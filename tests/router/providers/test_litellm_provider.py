"""litellm behind its door: real litellm, against a real server."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cost_models.types import Usage
from router.errors import ProviderError, ProviderTimeoutError, RequestError
from router.providers.base import Tally
from router.providers.litellm_provider import LiteLLMProvider
from router.providers.retries import Retries, UnreachableError
from router.types import Message, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from upstream import Upstream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # litellm's own
]

KEY = "sk-secret-canary-654321"
QUICK = Retries(max_retries=2, first_wait_s=0.001, max_wait_s=0.05)
MESSAGES = (Message("user", "how many legs?"),)


def asks(n: int = 1, **further: Any) -> SampleRequest:  # noqa: ANN401 - any field
    """Ask for n completions."""
    return SampleRequest(MESSAGES, max_tokens=20, n=n, **further)


@asynccontextmanager
async def client(
    base_url: str,
    model: str = "openai/vendor-small",
    **further: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[LiteLLMProvider]:
    """Connect to the upstream, with quick retries."""
    provider = LiteLLMProvider(
        "small", model, base_url=base_url, api_key=KEY, retries=QUICK, **further
    )
    try:
        yield provider
    finally:
        await provider.aclose()


async def test_a_completion_and_its_usage_come_back(upstream: Upstream) -> None:
    """The request is sent as it is, n completions in one call for a vendor that has them."""
    upstream.default = upstream.Served(texts=("eight", "six legs"))
    tally = Tally()
    async with client(upstream.base_url) as provider:
        samples = await provider.sample(asks(2, seed=3, temperature=0.5), tally)
    assert [sample.text for sample in samples] == ["eight", "six legs"]
    assert tally == Tally(Usage(1, 3, completion_tokens=3), final=True)
    (body,) = upstream.requests
    assert (body["model"], body["n"], body["max_tokens"]) == ("vendor-small", 2, 20)
    assert (body["seed"], body["temperature"]) == (3, 0.5)
    assert upstream.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_a_stream_gives_its_pieces_and_its_usage(upstream: Upstream) -> None:
    """Usage is asked for and is the last word."""
    upstream.default = upstream.Served(texts=("it has eight legs",))
    tally = Tally()
    async with client(upstream.base_url) as provider:
        chunks = [chunk async for chunk in provider.stream(asks(), tally)]
    assert "".join(c.delta.get("content", "") for c in chunks) == "it has eight legs"
    assert chunks[-1].finish_reason == "stop"
    assert tally == Tally(Usage(1, 3, completion_tokens=4), final=True)


async def test_errors_carry_status_and_wait_and_only_ours_are_retried(upstream: Upstream) -> None:
    """429 three times is three attempts and not more; the key never shows."""
    upstream.default = upstream.error(429, f"slow down, {KEY}", **{"Retry-After": "0.01"})
    tally = Tally()
    async with client(upstream.base_url) as provider:
        with pytest.raises(ProviderError, match="slow down") as told:
            await provider.sample(asks(), tally)
        assert (told.value.status, told.value.retry_after_s) == (429, 0.01)
        assert KEY not in str(told.value) + repr(provider)
        assert len(upstream.requests) == 3
        assert tally == Tally(final=True)
        upstream.default = upstream.error(500, "broken")
        with pytest.raises(ProviderError, match="broken") as told:
            await provider.sample(asks(), tally)
    assert told.value.status == 500
    assert len(upstream.requests) == 4


async def test_what_may_have_been_billed_is_in_doubt(upstream: Upstream) -> None:
    """A malformed reply, a lost connection, a cut stream, a timeout: not tried again."""
    async with client(upstream.base_url, timeout_s=0.3) as provider:
        for served in (
            upstream.Served(raw=b"<html>oops"),
            upstream.Served(cut_after=0),
            upstream.Served(delay_s=30),
        ):
            upstream.default = served
            upstream.requests.clear()
            tally = Tally()
            with pytest.raises(ProviderError):
                await provider.sample(asks(), tally)
            assert not tally.final, served
            assert len(upstream.requests) == 1, served
        upstream.default = upstream.Served(texts=("it has eight legs",), cut_after=2)
        with pytest.raises(ProviderError):
            _ = [chunk async for chunk in provider.stream(asks(), tally)]
        assert not tally.final
        upstream.default = upstream.Served(delay_s=30)
        with pytest.raises(ProviderTimeoutError):
            await provider.sample(asks(), tally)


async def test_an_unreachable_vendor_is_not_in_doubt() -> None:
    """Nothing was sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tally = Tally()
    async with client(f"http://127.0.0.1:{port}/v1") as provider:
        with pytest.raises(UnreachableError):
            await provider.sample(asks(), tally)
    assert tally == Tally(final=True)


async def test_sampling_fields_that_a_model_does_not_know_are_left_out(upstream: Upstream) -> None:
    """A reasoning model takes no temperature; anything else unknown is an error."""
    async with client(upstream.base_url, "openai/gpt-5") as provider:
        await provider.sample(asks(temperature=0.2), Tally())
        assert "temperature" not in upstream.requests[0]
        with pytest.raises(ProviderError, match="logprobs"):
            await provider.sample(asks(logprobs=True), Tally())


async def test_addresses_and_keys_cannot_come_from_the_client(upstream: Upstream) -> None:
    """The library would take them from the request; they are refused before."""
    async with client(upstream.base_url) as provider:
        for name in ("api_base", "base_url", "api_key", "mock_response", "fallbacks", "timeout"):
            with pytest.raises(RequestError) as told:
                await provider.sample(asks(extra={name: "x"}), Tally())
            assert told.value.param == name
    assert not upstream.requests


async def test_a_vendor_without_n_is_asked_n_times() -> None:
    """Each call is one completion; litellm's own mock answers."""
    tally = Tally()
    provider = LiteLLMProvider(
        "claude", "anthropic/claude-3-haiku-20240307", further={"mock_response": "eight legs"}
    )
    assert not provider.native_n
    samples = await provider.sample(asks(3), tally)
    await provider.aclose()
    assert [sample.text for sample in samples] == ["eight legs"] * 3
    assert tally.usage.n_calls == 3
    assert tally.final


def test_litellm_is_not_loaded_before_its_first_use() -> None:
    """Making a provider is cheap."""
    program = (
        "import sys; from router.providers.litellm_provider import LiteLLMProvider; "
        "LiteLLMProvider('a', 'openai/b'); sys.exit('litellm' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter, with a fixed program
        [sys.executable, "-c", program], check=False
    )
    assert done.returncode == 0


async def test_an_image_is_not_fetched_for_a_client(upstream: Upstream) -> None:
    """Its address goes to who takes addresses; for another vendor litellm would follow it."""
    target = f"{upstream.base_url}/secret.png"

    def shows(url: str) -> SampleRequest:
        part = {"type": "image_url", "image_url": {"url": url}}
        return SampleRequest((Message("user", [part]),), max_tokens=20)

    async with client(upstream.base_url, "anthropic/some-model") as provider:
        with pytest.raises(RequestError, match="data:image"):
            await provider.sample(shows(target), Tally())
        with pytest.raises(RequestError, match="data:image"):
            await anext(aiter(provider.stream(shows(target), Tally())))
    assert not upstream.requests
    async with client(upstream.base_url) as provider:
        await provider.sample(shows(target), Tally())
    (body,) = upstream.requests
    assert body["messages"][0]["content"][0]["image_url"]["url"] == target
