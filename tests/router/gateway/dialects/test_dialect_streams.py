"""Streams that mix reasoning, text and pieces of several tool calls, in each dialect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from scripted_engine import ScriptedEngine

from router.gateway.dialects.messages_wire import MessageWire
from router.gateway.dialects.responses_wire import ResponseWire
from router.routing.types import ChatRequest
from router.types import Message, Task

if TYPE_CHECKING:
    from router.gateway.sse import EventWire
    from router.routing.types import Served

pytestmark = pytest.mark.anyio

DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": ""},
    {"reasoning_content": "hm"},
    {"reasoning": "m"},
    {"content": "I "},
    {"content": "add"},
    {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "add", "arguments": ""}}]},
    {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "sub", "arguments": "{"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":1}'}}]},
    {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    {},
]


async def served() -> Served:
    """Serve something, for the figures at the end of a stream."""
    task = Task(messages=(Message("user", "hello"),))
    return await ScriptedEngine().answer(ChatRequest("r1", "auto", task))


async def events(wire: EventWire, deltas: list[dict[str, Any]], reason: str) -> list[Any]:
    """Write a whole stream and read it again."""
    told = wire.start() + b"".join(wire.delta(d) for d in deltas)
    told += wire.last(await served(), reason)
    blocks = [block.split("\n") for block in told.decode().strip().split("\n\n")]
    read = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [e["type"] for e in read]
    return read


async def test_a_message_keeps_blocks_apart() -> None:
    """Each block has its own index; pieces of mixed calls reach their own; each ends once."""
    read = await events(MessageWire("r1", "auto"), DELTAS, "tool_calls")
    begun = [e["content_block"]["type"] for e in read if e["type"] == "content_block_start"]
    assert begun == ["thinking", "text", "tool_use", "tool_use"]
    joined = ["", "", "", ""]
    for event in read:
        if event["type"] == "content_block_delta":
            (said,) = (v for k, v in event["delta"].items() if k != "type")
            joined[event["index"]] += said
    assert joined == ["hmm", "I add", '{"x":1}', "{}"]
    ends = [e["index"] for e in read if e["type"] == "content_block_stop"]
    assert sorted(ends) == [0, 1, 2, 3]
    assert read[-2]["delta"]["stop_reason"] == "tool_use"


async def test_a_response_keeps_items_apart() -> None:
    """The last event's response has every item whole; so has each item's own end."""
    read = await events(ResponseWire("r1", "auto", 0, {}), DELTAS, "tool_calls")
    output = read[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    assert output[0]["summary"][0]["text"] == "hmm"
    assert output[1]["content"][0]["text"] == "I add"
    assert [(c["call_id"], c["name"], c["arguments"]) for c in output[2:]] == [
        ("a", "add", '{"x":1}'),
        ("b", "sub", "{}"),
    ]
    done = {e["output_index"]: e["item"] for e in read if e["type"] == "response.output_item.done"}
    assert [done[i] for i in range(4)] == output


async def test_a_refusal_is_told_in_each_dialect() -> None:
    """Anthropic has a reason for it, OpenAI a part."""
    deltas: list[dict[str, Any]] = [{"refusal": "no"}]
    message = await events(MessageWire("r1", "auto"), deltas, "stop")
    assert message[-2]["delta"]["stop_reason"] == "refusal"
    response = await events(ResponseWire("r1", "auto", 0, {}), deltas, "stop")
    content = response[-1]["response"]["output"][0]["content"]
    assert content == [{"type": "refusal", "refusal": "no"}]


async def test_a_stream_that_says_nothing_is_whole() -> None:
    """An empty answer is an empty text, not a broken stream."""
    message = await events(MessageWire("r1", "auto"), [], "stop")
    assert [e["type"] for e in message] == ["message_start", "message_delta", "message_stop"]
    response = await events(ResponseWire("r1", "auto", 0, {}), [], "length")
    assert response[-1]["type"] == "response.incomplete"
    assert response[-1]["response"]["output"][0]["content"][0]["text"] == ""
