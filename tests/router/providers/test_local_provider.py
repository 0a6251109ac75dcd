"""An embedded model: the smallest one when it is installed; what needs no model is always run."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import stat
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from router.errors import OverloadedError, ProviderError, RequestError
from router.providers import weights
from router.providers.base import Tally, bytes_bound
from router.providers.local import LocalProvider, measure_throughput
from router.providers.machine import Machine
from router.types import Chunk, Message, Sample, SampleRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

SMALLEST = "smollm2-135m"
QUESTION = (Message("user", "What is 2 + 2? Explain."),)
needs_model = pytest.mark.local_model


@pytest.fixture(scope="module")
def small() -> Iterator[LocalProvider]:
    """Load the smallest model once, on one thread, with two slots and a short queue."""
    path = weights.find(SMALLEST, weights.default_directory())
    if path is None:
        pytest.skip(f"{SMALLEST} is not installed; run: rheostat models fetch {SMALLEST}")
    pytest.importorskip("xllamacpp", reason="not installed; run: pip install 'rheostat[local]'")
    machine = Machine(max_queue=4)
    provider = LocalProvider("small", path, machine, threads=1, slots=2, context_tokens=512)
    yield provider
    anyio.run(provider.aclose)


async def ask(provider: LocalProvider, **fields: object) -> tuple[tuple[Sample, ...], Tally]:
    """Draw samples for a short question; further fields of the request override the defaults."""
    tally = Tally()
    defaults: dict[str, Any] = {"messages": QUESTION, "max_tokens": 8}
    return await provider.sample(SampleRequest(**{**defaults, **fields}), tally), tally


@needs_model
async def test_one_call_draws_n_completions_and_counts_every_token(small: LocalProvider) -> None:
    """The prompt is counted once, completion tokens over all n, machine time above zero."""
    samples, tally = await ask(small, n=2, seed=1)
    assert [sample.n_tokens for sample in samples] == [8, 8]
    assert all(sample.finish_reason == "length" and sample.text for sample in samples)
    assert all(sample.mean_logprob is not None and sample.mean_logprob < 0 for sample in samples)
    assert all(sample.logprobs is None for sample in samples)
    assert tally.final
    assert tally.usage.n_calls == 1
    assert tally.usage.completion_tokens == 16
    assert tally.usage.cached_prompt_tokens == 0
    assert tally.usage.machine_ns > 0


@needs_model
async def test_more_completions_than_slots_are_drawn_in_rounds(small: LocalProvider) -> None:
    """Five completions on two slots; the same seed gives the same five again."""
    first, tally = await ask(small, n=5, seed=7, max_tokens=6)
    again, _ = await ask(small, n=5, seed=7, max_tokens=6)
    assert len(first) == 5
    assert tally.usage.completion_tokens == 30
    assert tally.usage.n_calls == 1
    assert [sample.text for sample in first] == [sample.text for sample in again]
    assert len({sample.text for sample in first}) > 1


@needs_model
async def test_the_prompt_is_counted_as_the_model_counts_it(small: LocalProvider) -> None:
    """Once loaded, the count is exact; it is never above the bound by bytes."""
    await small.load()
    _, tally = await ask(small, max_tokens=1)
    counted = small.count_prompt_tokens(QUESTION)
    assert counted == tally.usage.prompt_tokens
    assert counted <= bytes_bound(QUESTION)
    assert small.count_prompt_tokens(QUESTION) == counted


@needs_model
async def test_generation_stops_at_a_stop_text(small: LocalProvider) -> None:
    """The stop text itself is left out."""
    free, _ = await ask(small, temperature=0.0, max_tokens=12)
    stop = free[0].text.split()[1]
    (stopped,), _ = await ask(small, temperature=0.0, max_tokens=12, stop=(stop,))
    assert stopped.finish_reason == "stop"
    assert stop not in stopped.text


@needs_model
async def test_log_probabilities_are_shown_when_asked_for(small: LocalProvider) -> None:
    """In OpenAI's form: one entry a token, with as many alternatives as were asked for."""
    (sample,), _ = await ask(small, logprobs=True, top_logprobs=2, max_tokens=3)
    assert sample.logprobs is not None
    content = sample.logprobs["content"]
    assert "".join(entry["token"] for entry in content) == sample.text
    assert [len(entry["top_logprobs"]) for entry in content] == [2, 2, 2]
    assert set(content[0]) == {"token", "logprob", "bytes", "top_logprobs"}
    (plain,), _ = await ask(small, logprobs=True, max_tokens=3)
    assert plain.logprobs is not None
    assert [entry["top_logprobs"] for entry in plain.logprobs["content"]] == [[], [], []]


@needs_model
async def test_text_outside_ascii_arrives_whole(small: LocalProvider) -> None:
    """A character of several tokens is not cut, and every token is counted."""
    prompt = (Message("user", "Repeat exactly, nothing else: 🦊🐼🦄🐙"),)
    (sample,), tally = await ask(small, messages=prompt, temperature=0.0, max_tokens=24)
    assert "\ufffd" not in sample.text
    assert tally.usage.completion_tokens == sample.n_tokens <= 24


@needs_model
async def test_an_answer_can_be_held_to_a_json_schema(small: LocalProvider) -> None:
    """``response_format`` reaches the runtime."""
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    (sample,), _ = await ask(small, extra={"response_format": form, "user": "u"}, max_tokens=24)
    assert sample.text.lstrip().startswith("{")


@needs_model
async def test_concurrent_calls_share_the_machine_and_its_time_exactly(
    small: LocalProvider,
) -> None:
    """Four calls on two slots all end, and their shares are the time the machine was busy."""
    machine = small.machine
    before_ns = machine.busy_ns
    results = await asyncio.gather(*(ask(small, seed=i) for i in range(4)))
    shares = [tally.usage.machine_ns for _, tally in results]
    assert min(shares) > 0
    assert sum(shares) == machine.busy_ns - before_ns


@needs_model
async def test_a_call_beyond_the_queue_is_refused_and_costs_nothing(small: LocalProvider) -> None:
    """Two run, four wait, the seventh is told to come back later."""
    calls = [asyncio.create_task(ask(small, n=1, max_tokens=20)) for _ in range(6)]
    await asyncio.sleep(0.01)
    tally = Tally()
    with pytest.raises(OverloadedError) as refusal:
        await small.sample(SampleRequest(messages=QUESTION, max_tokens=1), tally)
    assert refusal.value.retry_after_s
    assert tally.final
    assert tally.usage.n_calls == 0
    assert len(await asyncio.gather(*calls)) == 6


@needs_model
async def test_a_call_stops_at_its_machine_time_with_what_it_has(small: LocalProvider) -> None:
    """The answer is cut and says so; it did not run on to its token limit."""
    samples, tally = await ask(small, n=4, max_tokens=400, max_machine_s=0.3)
    assert 1 <= len(samples) <= 4
    assert samples[0].finish_reason == "length"
    assert tally.final
    assert tally.usage.completion_tokens < 800


@needs_model
async def test_a_cancelled_call_frees_the_machine_and_is_charged_for_its_time(
    small: LocalProvider,
) -> None:
    """The model stops mid-way; the tally is the last word."""
    tally = Tally()
    request = SampleRequest(messages=QUESTION, max_tokens=400, n=2)
    task = asyncio.create_task(small.sample(request, tally))
    while not small.machine.n_running:  # noqa: ASYNC110 - the machine has no event to wait for
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert small.machine.n_running == 0
    assert tally.final
    assert tally.usage.machine_ns > 0
    assert tally.usage.completion_tokens < 800


@needs_model
async def test_a_stream_carries_the_role_then_the_text_then_the_reason(
    small: LocalProvider,
) -> None:
    """Joined, the pieces are the text that the same seed gives in one piece."""
    request = SampleRequest(messages=QUESTION, max_tokens=6, temperature=0.0)
    tally = Tally()
    chunks = [chunk async for chunk in small.stream(request, tally)]
    assert chunks[0] == Chunk(delta={"role": "assistant", "content": ""})
    assert [chunk.finish_reason for chunk in chunks[-2:]] == [None, "length"]
    text = "".join(chunk.delta.get("content", "") for chunk in chunks)
    (sample,), _ = await ask(small, max_tokens=6, temperature=0.0)
    assert text == sample.text
    assert tally.final
    assert tally.usage.completion_tokens == 6


@needs_model
async def test_a_stream_that_is_closed_early_stops_the_model(small: LocalProvider) -> None:
    """Closing waits until the machine is free, and the tally is the last word."""
    request = SampleRequest(messages=QUESTION, max_tokens=400)
    tally = Tally()
    async with aclosing(small.stream(request, tally)) as chunks:
        async for chunk in chunks:
            if chunk.delta.get("content"):
                break
    assert small.machine.n_running == 0
    assert tally.final
    assert 0 < tally.usage.completion_tokens < 400


@needs_model
async def test_a_stream_stops_at_its_machine_time(small: LocalProvider) -> None:
    """The last chunk says that the answer was cut."""
    request = SampleRequest(messages=QUESTION, max_tokens=400, max_machine_s=0.2, logprobs=True)
    chunks = [chunk async for chunk in small.stream(request, Tally())]
    assert chunks[-1] == Chunk(delta={}, finish_reason="length")
    assert any(chunk.logprobs for chunk in chunks)


@needs_model
async def test_a_prompt_that_does_not_fit_its_slot_is_the_clients_mistake(
    small: LocalProvider,
) -> None:
    """The message says how long it is and how much room there is."""
    with pytest.raises(RequestError, match="has room for 512") as refusal:
        await ask(small, messages=(Message("user", "a b " * 600),))
    assert (refusal.value.param, refusal.value.code) == ("messages", "context_length_exceeded")


@needs_model
async def test_a_field_that_the_runtime_refuses_is_the_clients_mistake(
    small: LocalProvider,
) -> None:
    """Here a JSON schema of an unknown type."""
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "zzz"}}}
    with pytest.raises(RequestError, match="zzz"):
        await ask(small, extra={"response_format": form})


@needs_model
async def test_the_library_s_own_listener_is_no_way_around_the_ledger(
    small: LocalProvider,
) -> None:
    """It is a socket file in a private directory, and without the key it answers 401."""
    await small.load()
    address = small.listening_address
    assert address is not None
    path = Path(address.removeprefix("unix://"))
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IRWXU
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(os.fspath(path))
    connection.request("POST", "/v1/chat/completions", "{}")
    assert connection.getresponse().status == 401
    connection.close()


@needs_model
async def test_throughput_is_measured_with_every_slot_busy(small: LocalProvider) -> None:
    """Both rates are above zero; reading is not slower than a tenth of writing."""
    measured = await measure_throughput(small)
    assert measured.prompt_tokens_per_s > measured.completion_tokens_per_s / 10 > 0


BAD_REQUESTS = [
    pytest.param({"messages": ()}, "messages", id="no messages"),
    pytest.param({"messages": (Message("tool", "4"),)}, "messages", id="a tool's message"),
    pytest.param(
        {"messages": (Message("user", [{"type": "image_url", "image_url": {}}]),)},
        "messages",
        id="an image",
    ),
    pytest.param(
        {"messages": (Message("assistant", None, {"tool_calls": [{}]}),)},
        "messages",
        id="a tool call",
    ),
    pytest.param({"extra": {"tools": [{}]}}, "tools", id="tools"),
    pytest.param({"n": 0}, "n", id="no completions"),
    pytest.param({"max_tokens": 0}, "max_tokens", id="no tokens"),
    pytest.param({"logprobs": True, "top_logprobs": 21}, "top_logprobs", id="too many logprobs"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_REQUESTS)
async def test_what_a_local_model_cannot_do_is_refused_before_it_is_loaded(
    fields: dict[str, Any], param: str
) -> None:
    """The error names the field, and the tally says that nothing was used."""
    provider = LocalProvider("small", Path("never-opened.gguf"), Machine())
    tally = Tally()
    request = SampleRequest(**{"messages": QUESTION, "max_tokens": 1, **fields})
    with pytest.raises(RequestError) as refusal:
        await provider.sample(request, tally)
    assert refusal.value.param == param
    assert tally.final
    assert tally.usage.n_calls == 0
    await provider.aclose()


async def test_only_one_completion_can_be_streamed() -> None:
    """The protocol's limit, named."""
    provider = LocalProvider("small", Path("never-opened.gguf"), Machine())
    request = SampleRequest(messages=QUESTION, max_tokens=1, n=2)
    with pytest.raises(RequestError, match="n=2"):
        await anext(aiter(provider.stream(request, Tally())))
    await provider.aclose()


async def test_a_missing_file_is_named_and_tried_again() -> None:
    """Both the first and the second call say which file is missing."""
    provider = LocalProvider("small", Path("no-such.gguf"), Machine())
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"no-such\.gguf"):
            await provider.load()
    await provider.aclose()


async def test_a_damaged_file_is_named_without_noise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library's own complaints do not reach the terminal."""
    pytest.importorskip("xllamacpp", reason="not installed; run: pip install 'rheostat[local]'")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF, or not")
    provider = LocalProvider("small", damaged, Machine())
    with pytest.raises(ProviderError, match=r"damaged\.gguf could not be loaded"):
        await provider.load()
    await provider.aclose()
    assert capfd.readouterr() == ("", "")


async def test_a_closed_provider_says_so() -> None:
    """Closing twice is fine; calling afterwards is not."""
    provider = LocalProvider("small", Path("never-opened.gguf"), Machine())
    await provider.aclose()
    await provider.aclose()
    with pytest.raises(ProviderError, match="closed"):
        await ask(provider)


async def test_before_loading_a_prompt_is_bounded_by_its_bytes() -> None:
    """Counting never loads a model."""
    provider = LocalProvider("small", Path("never-opened.gguf"), Machine())
    assert provider.count_prompt_tokens(QUESTION) == bytes_bound(QUESTION)
    await provider.aclose()


@pytest.mark.parametrize("field", ["slots", "context_tokens", "threads"])
async def test_a_provider_without_room_is_a_mistake(field: str) -> None:
    """At construction, not at the first request."""
    settings: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match="at least 1"):
        LocalProvider("small", Path("never-opened.gguf"), Machine(), **settings)
