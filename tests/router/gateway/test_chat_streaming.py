"""Streamed chat completions: the exact events, and what happens when it goes wrong."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from scripted_engine import ScriptedEngine, slow

from router.errors import ProviderError, RequestError
from router.gateway.settings import GatewaySettings
from router.providers.scripted import Reply

if TYPE_CHECKING:
    from conftest import Serve

BODY = {
    "model": "auto",
    "messages": [{"role": "user", "content": "what is 2 + 2 ?"}],
    "stream": True,
}
SETTINGS = GatewaySettings(clock=lambda: datetime(2026, 11, 24, tzinfo=UTC))


def stream(client: httpx.Client, **fields: Any) -> list[str]:  # noqa: ANN401 - any JSON
    """Give the blocks of a stream; each must end with an empty line."""
    response = client.post("/v1/chat/completions", json={**BODY, **fields})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *blocks, rest = response.text.split("\n\n")
    assert rest == ""
    return blocks


def data(blocks: list[str]) -> list[Any]:
    """Give the events that are JSON."""
    told = [b.removeprefix("data: ") for b in blocks if b.startswith("data: {")]
    return [json.loads(text) for text in told]


def test_a_stream_has_openais_events_in_order(serve: Serve) -> None:
    """The golden stream: role, deltas, finish with ``compute``, usage without choices, the end."""
    engine = ScriptedEngine(lambda _request, _i: "it is four")
    blocks = stream(serve(engine, SETTINGS), stream_options={"include_usage": True})
    (request_id,) = engine.settled
    shared = {
        "id": request_id,
        "object": "chat.completion.chunk",
        "created": 1795478400,
        "model": "auto",
        "system_fingerprint": None,
    }

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**shared, "choices": [choice], "usage": None}

    *deltas, finish, usage = data(blocks)
    assert deltas == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "it"}),
        chunk({"content": " is"}),
        chunk({"content": " four"}),
    ]
    compute = finish.pop("compute")
    assert finish == chunk({}, "stop")
    assert (compute["arm"], compute["cost_usd"]) == ("small|direct", 0.000012)
    assert usage == {
        **shared,
        "choices": [],
        "usage": {
            "prompt_tokens": 6,
            "completion_tokens": 3,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    assert blocks[-1] == "data: [DONE]"


def test_usage_is_sent_only_when_it_is_asked_for(client: httpx.Client) -> None:
    """Without the option no event has a usage, and the finish is the last one."""
    events = data(stream(client))
    assert all("usage" not in event for event in events)
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert "compute" in events[-1]


def test_a_stream_names_its_request_in_a_header(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    """The id is there from the first byte, and proxies are told not to hold the stream back."""
    response = client.post("/v1/chat/completions", json=BODY)
    assert response.headers["x-rheostat-request-id"] == engine.settled[0]
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


def test_the_end_of_a_stream_follows_the_commit(serve: Serve) -> None:
    """While the cost is being written the client has the text and no finish reason yet."""
    engine = ScriptedEngine(commit_s=0.3)
    with serve(engine).stream("POST", "/v1/chat/completions", json=BODY) as response:
        before = "".join(line for line in response.iter_lines() if not engine.settled)
    assert "four" in before
    assert '"finish_reason":"stop"' not in before
    assert "[DONE]" not in before


def test_a_working_stream_says_that_it_is_alive(serve: Serve) -> None:
    """Comments come while there is nothing else, and clients skip them."""
    engine = ScriptedEngine(lambda _request, _i: slow(0.5))
    blocks = stream(serve(engine, GatewaySettings(progress_s=0.05)))
    assert blocks[0] == ": thinking"
    assert blocks.count(": thinking") >= 2
    assert data(blocks)[1]["choices"][0]["delta"] == {"content": "four"}


def test_several_choices_are_streamed_one_after_the_other(serve: Serve) -> None:
    """Each choice has its index and its own end; ``compute`` comes with the last one."""
    client = serve(ScriptedEngine(lambda _request, i: f"answer {i}"))
    events = data(stream(client, n=2))
    choices = [event["choices"][0] for event in events]
    assert [(c["index"], c["finish_reason"]) for c in choices] == [
        (0, None),
        (0, "stop"),
        (1, None),
        (1, "stop"),
    ]
    assert choices[2]["delta"]["content"] == "answer 1"
    assert ["compute" in event for event in events] == [False, False, False, True]


def test_tool_calls_are_streamed_with_their_index(serve: Serve) -> None:
    """SDKs put the pieces of tool calls together by index."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    engine = ScriptedEngine([Reply(finish_reason="tool_calls", tool_calls=(call,))])
    *_, delta, finish = (event["choices"][0] for event in data(stream(serve(engine))))
    assert delta["delta"]["tool_calls"] == [{"index": 0, **call}]
    assert finish["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("n", [1, 2])
def test_an_error_before_the_first_byte_has_its_own_status(serve: Serve, n: int) -> None:
    """A refusal is a refusal, streamed or not."""
    error = RequestError("too long", param="messages", code="context_length_exceeded")
    client = serve(ScriptedEngine(refusal=error))
    response = client.post("/v1/chat/completions", json={**BODY, "n": n})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_an_error_after_the_first_byte_is_an_event(serve: Serve) -> None:
    """The status is sent by then: the error comes as OpenAI sends it, and nothing follows."""
    engine = ScriptedEngine([Reply("it is", error=ProviderError("small", "it hung up"))])
    blocks = stream(serve(engine))
    assert json.loads(blocks[-1].removeprefix("data: ")) == {
        "error": {
            "message": "model 'small': it hung up",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_error",
        }
    }
    assert "[DONE]" not in blocks[-1]


def test_a_late_error_that_nobody_foresaw_tells_nothing(serve: Serve) -> None:
    """An error inside the server is an event without details; the log has them."""
    engine = ScriptedEngine(late_failure=KeyError("canary"))
    blocks = stream(serve(engine))
    assert "internal_error" in blocks[-1]
    assert "canary" not in "".join(blocks)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(slow(60), id="while the model thinks"),
        pytest.param(slow(0.0, " ".join(["word"] * 2_000_000)), id="while it talks"),
    ],
)
def test_a_client_that_leaves_ends_the_stream(serve: Serve, reply: Reply) -> None:
    """The work is cancelled, whether anything was sent yet or not."""
    engine = ScriptedEngine(lambda _request, _i: reply)
    client = serve(engine, GatewaySettings(progress_s=0.05))
    body = {**BODY, "max_tokens": 10_000_000}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_bytes())
    client.close()
    deadline = time.monotonic() + 10
    while not engine.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.cancelled == [engine.requests[0].request_id]
    assert engine.settled == []


def test_a_client_that_leaves_before_the_first_byte_ends_the_work(serve: Serve) -> None:
    """Also while the status line is still being waited for."""
    engine = ScriptedEngine(lambda _request, _i: slow(60))
    client = serve(engine)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=BODY, timeout=0.3)
    deadline = time.monotonic() + 5
    while not engine.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.cancelled == [engine.requests[0].request_id]
