"""The direct client against a real server: what is sent, what comes back, what goes wrong."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from cost_models.types import Usage
from router.errors import ConfigError, ProviderError, ProviderTimeoutError, RequestError
from router.providers.base import Tally
from router.providers.openai_compatible import OpenAICompatibleProvider
from router.providers.retries import UnreachableError
from router.providers.timeouts import Phase, Timeouts
from router.types import Message, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from upstream import Upstream

pytestmark = pytest.mark.anyio

KEY = "sk-secret-canary-123456"
MESSAGES = (Message("system", "be brief"), Message("user", "how many legs?"))


def asks(n: int = 1, **further: Any) -> SampleRequest:  # noqa: ANN401 - any field
    """Ask for n completions."""
    return SampleRequest(MESSAGES, max_tokens=20, n=n, **further)


@asynccontextmanager
async def client(
    upstream: Upstream,
    **further: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[OpenAICompatibleProvider]:
    """Connect to the upstream."""
    provider = OpenAICompatibleProvider(
        "small", "vendor-small", upstream.base_url, api_key=KEY, **further
    )
    try:
        yield provider
    finally:
        await provider.aclose()


async def test_a_completion_and_its_usage_come_back(upstream: Upstream) -> None:
    """Text, reason, reasoning, tool calls and log-probabilities are read; usage is final."""
    upstream.replies.append(
        upstream.Served(
            texts=("eight legs",),
            message={"reasoning_content": "spiders", "tool_calls": [{"id": "1"}]},
            logprobs={"content": [{"token": "a", "logprob": -1.0}, {"logprob": -3.0}]},
        )
    )
    tally = Tally()
    async with client(upstream) as provider:
        (sample,) = await provider.sample(asks(logprobs=True, top_logprobs=2), tally)
    assert (sample.text, sample.finish_reason, sample.n_tokens) == ("eight legs", "stop", 2)
    assert (sample.reasoning, sample.tool_calls) == ("spiders", ({"id": "1"},))
    assert sample.mean_logprob == -2.0
    assert tally.final
    assert tally.usage == Usage(1, 5, completion_tokens=2)


async def test_every_field_of_the_request_is_sent(upstream: Upstream) -> None:
    """Own fields and further ones; none that the request leaves open."""
    further = {"tools": [{"type": "function"}], "presence_penalty": 0.5, "user": None}
    request = asks(temperature=0.2, top_p=0.9, seed=7, stop=("\n",), extra=further)
    async with client(upstream) as provider:
        await provider.sample(request, Tally())
        await provider.sample(asks(), Tally())
    assert upstream.requests[0] == {
        "model": "vendor-small",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "how many legs?"},
        ],
        "max_tokens": 20,
        "temperature": 0.2,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n"],
        "tools": [{"type": "function"}],
        "presence_penalty": 0.5,
    }
    assert set(upstream.requests[1]) == {"model", "messages", "max_tokens"}
    assert upstream.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "further",
    [
        {"best_of": 20},
        {"models": ["dear/model"]},
        {"plugins": [{"id": "web"}]},
        {"chat_template": "{% for i in range(10**9) %}x{% endfor %}"},
        {"service_tier": "priority"},
        {"modalities": ["text", "audio"]},
        {"tools": [{"type": "web_search"}]},
        {"api_base": "http://elsewhere"},
        {"max_completion_tokens": 10**6},
    ],
    ids=lambda further: next(iter(further)),
)
async def test_a_field_with_unbounded_cost_is_refused(
    upstream: Upstream, further: dict[str, Any]
) -> None:
    """The client is told which field; nothing is sent, and nothing is in doubt."""
    tally = Tally()
    async with client(upstream) as provider:
        with pytest.raises(RequestError) as told:
            await provider.sample(asks(extra=further), tally)
    assert told.value.param == next(iter(further))
    assert not upstream.requests
    assert tally == Tally(final=True)


async def test_a_content_part_without_a_bound_is_refused(upstream: Upstream) -> None:
    """A file's tokens cannot be told from its bytes."""
    request = SampleRequest((Message("user", [{"type": "file"}]),), max_tokens=5)
    async with client(upstream) as provider:
        with pytest.raises(RequestError, match="file"):
            await provider.sample(request, Tally())


async def test_n_completions_are_one_call_where_the_server_gives_them(upstream: Upstream) -> None:
    """The prompt is billed once."""
    upstream.default = upstream.Served(texts=("a", "b", "c"))
    tally = Tally()
    async with client(upstream) as provider:
        samples = await provider.sample(asks(3), tally)
    assert [sample.text for sample in samples] == ["a", "b", "c"]
    assert upstream.requests[0]["n"] == 3
    assert tally.usage == Usage(1, 5, completion_tokens=3)


async def test_n_completions_are_n_calls_side_by_side_otherwise(upstream: Upstream) -> None:
    """Each has its own seed and its own usage; none asks for n."""
    upstream.default = upstream.Served(delay_s=0.05)
    tally = Tally()
    async with client(upstream, native_n=False) as provider:
        samples = await provider.sample(asks(4, seed=10), tally)
    assert len(samples) == 4
    assert sorted(body["seed"] for body in upstream.requests) == [10, 11, 12, 13]
    assert all("n" not in body for body in upstream.requests)
    assert upstream.peak_in_flight == 4
    assert tally.usage == Usage(4, 20, completion_tokens=4)
    assert tally.final


async def test_a_failed_call_of_several_leaves_its_completion_out(upstream: Upstream) -> None:
    """The others are given; when all fail, the error is."""
    upstream.replies.append(upstream.error(500, "broken"))
    async with client(upstream, native_n=False) as provider:
        assert len(await provider.sample(asks(3), Tally())) == 2
        upstream.default = upstream.error(500, "broken")
        with pytest.raises(ProviderError, match="broken"):
            await provider.sample(asks(3), Tally())


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses n", "ignores n"])
async def test_a_server_without_n_is_found_out(upstream: Upstream, *, refuses: bool) -> None:
    """The first call stays within its worst case with one completion; later ones fan out."""
    if refuses:
        upstream.replies.append(upstream.error(400, "'n' : number must be at most 1"))
    else:
        upstream.default = upstream.Served(ignores_n=True)
    tally = Tally()
    async with client(upstream) as provider:
        assert len(await provider.sample(asks(3), tally)) == 1
        assert tally.usage.n_calls == 1
        assert not provider.native_n
        assert len(await provider.sample(asks(3), tally)) == 3


@pytest.mark.parametrize(
    ("said", "present", "absent"),
    [
        pytest.param(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_completion_tokens",
            "max_tokens",
            id="max_tokens is renamed",
        ),
        pytest.param(
            "Unsupported value: 'temperature' does not support 0.2 with this model.",
            "max_tokens",
            "temperature",
            id="temperature is left out",
        ),
    ],
)
async def test_an_unsupported_field_is_adapted_once(
    upstream: Upstream, said: str, present: str, absent: str
) -> None:
    """The call is sent again without it, and so are later calls."""
    upstream.replies.append(upstream.error(400, said))
    async with client(upstream) as provider:
        for _ in range(2):
            await provider.sample(asks(temperature=0.2), Tally())
    assert len(upstream.requests) == 3
    for body in upstream.requests[1:]:
        assert absent not in body
        assert body[present] == 20


async def test_an_invalid_value_changes_nothing_for_others(upstream: Upstream) -> None:
    """A value out of range is the client's error, not a missing feature."""
    upstream.replies.append(upstream.error(400, "'temperature' must be at most 2"))
    async with client(upstream) as provider:
        with pytest.raises(ProviderError) as told:
            await provider.sample(asks(temperature=9.0), Tally())
        await provider.sample(asks(temperature=0.2), Tally())
    assert told.value.status == 400
    assert upstream.requests[1]["temperature"] == 0.2


async def test_a_missing_usage_is_estimated(upstream: Upstream) -> None:
    """Final, but marked."""
    upstream.default = upstream.Served(texts=("eight legs",), usage=False)
    tally = Tally()
    async with client(upstream) as provider:
        await provider.sample(asks(), tally)
        assert tally.final
        assert tally.usage.estimated
        assert tally.usage.completion_tokens == 4
        _ = [chunk async for chunk in provider.stream(asks(), tally)]
    assert tally.usage.estimated
    assert tally.usage.completion_tokens == 4


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_errors_are_raised_at_once(upstream: Upstream, status: int) -> None:
    """With the status and the upstream's words; an answer that is an error costs nothing."""
    upstream.default = upstream.error(status, "no such thing")
    tally = Tally()
    async with client(upstream) as provider:
        with pytest.raises(ProviderError, match="no such thing") as told:
            await provider.sample(asks(), tally)
    assert told.value.status == status
    assert len(upstream.requests) == 1
    assert tally == Tally(final=True)


async def test_an_error_carries_the_wait_that_the_upstream_asks_for(upstream: Upstream) -> None:
    """Whoever tries again can keep it."""
    upstream.default = upstream.error(429, "slow down", **{"Retry-After": "0.01"})
    async with client(upstream) as provider:
        with pytest.raises(ProviderError) as told:
            await provider.sample(asks(), Tally())
    assert (told.value.status, told.value.retry_after_s) == (429, 0.01)


async def test_an_unreachable_upstream_says_so() -> None:
    """The message names the address and asks the right question; nothing is in doubt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    provider = OpenAICompatibleProvider("small", "x", f"http://user:{KEY}@127.0.0.1:{port}/v1")
    tally = Tally()
    with pytest.raises(UnreachableError) as told:
        await provider.sample(asks(), tally)
    await provider.aclose()
    assert f"127.0.0.1:{port}: connect call failed" in str(told.value)
    assert "is the server running?" in str(told.value)
    assert KEY not in str(told.value) + repr(provider)
    assert tally == Tally(final=True)


async def test_the_key_never_shows(upstream: Upstream) -> None:
    """Not when the upstream repeats it, and not in the repr."""
    upstream.default = upstream.error(401, f"Incorrect API key provided: {KEY}")
    async with client(upstream) as provider:
        with pytest.raises(ProviderError) as told:
            await provider.sample(asks(), Tally())
        assert KEY not in str(told.value)
        assert KEY not in repr(provider)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>oops",
        b"[1, 2]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"text": "x"}]}',
        b'{"choices": "no"}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
async def test_a_malformed_reply_is_an_error_in_doubt(upstream: Upstream, raw: bytes) -> None:
    """The upstream may have billed it, so the meter charges the worst case."""
    upstream.default = upstream.Served(raw=raw)
    tally = Tally()
    async with client(upstream) as provider:
        with pytest.raises(ProviderError, match="malformed"):
            await provider.sample(asks(), tally)
    assert not tally.final


async def test_an_error_with_status_200_is_an_error(upstream: Upstream) -> None:
    """Some upstreams answer so; the code becomes the status."""
    body = {"error": {"message": "no provider is up", "code": 503}}
    upstream.default = upstream.Served(raw=json.dumps(body).encode())
    tally = Tally()
    async with client(upstream) as provider:
        with pytest.raises(ProviderError, match="no provider is up") as told:
            await provider.sample(asks(), tally)
    assert told.value.status == 503
    assert tally == Tally(final=True)


async def test_a_lost_connection_is_in_doubt_and_not_tried_again(upstream: Upstream) -> None:
    """The request had been sent: a second one might be billed twice."""
    upstream.replies.append(upstream.Served(cut_after=0))
    tally = Tally()
    async with client(upstream) as provider:
        with pytest.raises(ProviderError, match="lost the connection"):
            await provider.sample(asks(), tally)
    assert len(upstream.requests) == 1
    assert not tally.final


@asynccontextmanager
async def full_server() -> AsyncIterator[str]:
    """Give the address of a server that takes no more connections."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - as the library has it
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


async def test_a_connection_that_is_not_taken_is_a_timeout_that_cost_nothing() -> None:
    """Nothing was sent; the error names the phase and its setting."""
    tally = Tally()
    async with full_server() as base_url:
        provider = OpenAICompatibleProvider(
            "small", "vendor", base_url, timeouts=Timeouts(connect_s=0.05)
        )
        with pytest.raises(ProviderTimeoutError, match="connect_s") as told:
            await provider.sample(asks(), tally)
        await provider.aclose()
    assert isinstance(told.value, UnreachableError)
    assert told.value.phase == Phase.CONNECT
    assert tally == Tally(final=True)


async def test_a_slow_reply_is_a_timeout(upstream: Upstream) -> None:
    """One that is not streamed is bounded in all; the upstream sees the client hang up."""
    upstream.default = upstream.Served(delay_s=30)
    tally = Tally()
    limits = Timeouts(first_token_s=0.01, total_s=0.1)
    async with client(upstream, timeouts=limits) as provider:
        with pytest.raises(ProviderTimeoutError, match="total_s") as told:
            await provider.sample(asks(), tally)
    assert told.value.phase == Phase.TOTAL
    assert not tally.final
    await upstream.hung_up.wait()


@pytest.mark.parametrize(
    ("phase", "gap_s", "limits", "heard"),
    [
        pytest.param("first_token", 30, Timeouts(first_token_s=0.05), "", id="no first token"),
        pytest.param(
            "between_tokens", 0.4, Timeouts(between_tokens_s=0.05), "one", id="no second token"
        ),
        pytest.param("total", 30, Timeouts(total_s=0.1), "", id="no end"),
    ],
)
async def test_each_phase_of_a_stream_has_its_limit(
    upstream: Upstream, phase: str, gap_s: float, limits: Timeouts, heard: str
) -> None:
    """A role is no token. The upstream sees the client hang up; what it billed is in doubt."""
    upstream.default = upstream.Served(texts=("one two",), gap_s=gap_s)
    tally, text = Tally(), ""
    told = None
    async with client(upstream, timeouts=limits) as provider:
        try:
            async for chunk in provider.stream(asks(), tally):
                text += chunk.delta.get("content", "")
        except ProviderTimeoutError as error:
            told = error
    assert told is not None
    assert f"{phase}_s" in str(told)
    assert (told.phase, text) == (phase, heard)
    assert not tally.final
    await upstream.hung_up.wait()


async def test_a_reader_that_is_slow_is_no_slow_upstream(upstream: Upstream) -> None:
    """The wait for the next token begins when it is asked for."""
    upstream.default = upstream.Served(texts=("one two three",), gap_s=0.01)
    limits = Timeouts(first_token_s=5, between_tokens_s=0.2)
    async with client(upstream, timeouts=limits) as provider:
        async for _ in provider.stream(asks(), Tally()):
            await asyncio.sleep(0.25)


async def test_a_stream_gives_its_pieces_and_its_usage(upstream: Upstream) -> None:
    """Usage is asked for; the pieces join to the text."""
    upstream.default = upstream.Served(texts=("it has eight legs",))
    tally = Tally()
    async with client(upstream) as provider:
        chunks = [chunk async for chunk in provider.stream(asks(seed=3), tally)]
    assert upstream.requests[0]["stream_options"] == {"include_usage": True}
    assert upstream.requests[0]["seed"] == 3
    assert "".join(c.delta.get("content", "") for c in chunks) == "it has eight legs"
    assert [c.finish_reason for c in chunks if c.finish_reason] == ["stop"]
    assert tally == Tally(Usage(1, 5, completion_tokens=4), final=True)


async def test_a_stream_that_is_cut_is_an_error_in_doubt(upstream: Upstream) -> None:
    """What had arrived was given; the rest is an error, charged at the worst case."""
    upstream.default = upstream.Served(texts=("it has eight legs",), cut_after=2)
    tally = Tally()
    words: list[str] = []

    async def read() -> None:
        async for chunk in provider.stream(asks(), tally):
            words.append(chunk.delta.get("content", ""))  # noqa: PERF401 - kept when it fails

    async with client(upstream) as provider:
        with pytest.raises(ProviderError):
            await read()
    assert "".join(words) == "it has"
    assert not tally.final


@pytest.mark.parametrize(
    "raw",
    [
        b"data: {not json}\n\n",
        b"data: 12\n\n",
        b'data: {"choices": [3]}\n\n',
        b'data: {"choices": [{"delta": "x"}]}\n\n',
        b": ping\n\ndata: [DONE]\n\n",
        b'data: {"choices": [{"index": 0, "delta": {"content": "half"}}]}\n\n',
        b"garbage without end",
    ],
)
async def test_a_garbled_stream_is_an_error_in_doubt(upstream: Upstream, raw: bytes) -> None:
    """Never a completion without its end, never a foreign exception."""
    upstream.default = upstream.Served(raw=raw)
    tally = Tally()
    async with client(upstream) as provider:
        with pytest.raises(ProviderError):
            _ = [chunk async for chunk in provider.stream(asks(), tally)]
    assert not tally.final


async def test_leaving_a_stream_early_hangs_up(upstream: Upstream) -> None:
    """The upstream stops generating; the usage stays in doubt."""
    upstream.default = upstream.Served(texts=("word " * 1000,), gap_s=0.01)
    tally = Tally()
    async with client(upstream) as provider, aclosing(provider.stream(asks(), tally)) as chunks:
        async for chunk in chunks:
            if chunk.delta.get("content"):
                break
    await upstream.hung_up.wait()
    assert not tally.final


async def test_cancelling_a_call_hangs_up(upstream: Upstream) -> None:
    """The upstream sees it at once."""
    upstream.default = upstream.Served(delay_s=30)
    tally = Tally()
    async with client(upstream) as provider:
        running = asyncio.create_task(provider.sample(asks(), tally))
        await upstream.asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await upstream.hung_up.wait()
    assert not tally.final


async def test_connections_are_kept_alive(upstream: Upstream) -> None:
    """Ten calls, one after the other, streamed or not, need one connection."""
    peers = set()
    async with client(upstream) as provider:
        for i in range(10):
            if i % 2:
                _ = [chunk async for chunk in provider.stream(asks(), Tally())]
            else:
                await provider.sample(asks(), Tally())
            peers.add(upstream.peers[-1])
    assert len(peers) == 1


async def test_a_closed_provider_opens_again(upstream: Upstream) -> None:
    """Closing is idempotent and final only until the next call."""
    async with client(upstream) as provider:
        await provider.sample(asks(), Tally())
        await provider.aclose()
        await provider.aclose()
        assert await provider.sample(asks(), Tally())


@pytest.mark.parametrize("base_url", ["", "localhost:8000", "file:///etc/passwd", "http://"])
def test_an_address_that_is_none_is_refused_at_start(base_url: str) -> None:
    """Before the first request, naming the model and the value."""
    with pytest.raises(ConfigError, match="small"):
        OpenAICompatibleProvider("small", "x", base_url)
