"""Anthropic's own Python client, unmodified, against a real gateway with a changed base URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import httpx
import pytest
from scripted_engine import ScriptedEngine

from cost_models.errors import BudgetExceededError, BudgetFacts
from router.errors import ProviderError
from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings
from router.providers.scripted import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES: list[Any] = [{"role": "user", "content": "what is 2 + 2 ?"}]
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a":2,"b":2}'},
}
TOOL: Any = {
    "name": "add",
    "description": "adds",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


@pytest.fixture
def engine() -> ScriptedEngine:
    """Answer "it is four" to everything."""
    return ScriptedEngine(lambda _request, _i: "it is four")


@pytest.fixture
def address(engine: ScriptedEngine) -> Iterator[str]:
    """Serve ``engine`` to those who have the key."""
    with serving(create_app(engine, GatewaySettings(keys={"acme": "sk-test"}))) as base_url:
        yield base_url


@pytest.fixture
def client(address: str) -> Iterator[anthropic.Anthropic]:
    """Give the plain client, which sends its key as ``x-api-key``."""
    with anthropic.Anthropic(base_url=address, api_key="sk-test", max_retries=0) as client:
        yield client


def says(engine: ScriptedEngine, reply: Reply) -> None:
    """Let the engine give this reply from now on."""
    engine.provider._ask = lambda _request, _i: reply  # noqa: SLF001 - the double's script


def test_a_plain_message(client: anthropic.Anthropic, engine: ScriptedEngine) -> None:
    """The answer, its usage and our extension are where clients look; the tenant is the key's."""
    message = client.messages.create(
        model="auto",
        max_tokens=20,
        messages=MESSAGES,
        system="be brief",
        stop_sequences=["END"],
        metadata={"user_id": "ann"},
        extra_body={"temperature": 0.5, "compute": {"max_cost_usd": 0.01}},
    )
    assert message.content[0].type == "text"
    assert message.content[0].text == "it is four"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (8, 3)
    assert message.model_extra is not None
    assert message.model_extra["compute"]["cost_usd"] == 0.000014
    asked = engine.requests[0]
    assert [(m.role, m.text) for m in asked.task.messages] == [
        ("system", "be brief"),
        ("user", "what is 2 + 2 ?"),
    ]
    assert (asked.tenant, asked.user, asked.task.max_tokens) == ("acme", "ann", 20)
    assert (asked.task.stop, asked.task.temperature) == (("END",), 0.5)
    assert asked.limits.max_cost_usd == 0.01
    assert engine.settled == [message.id]


def test_a_streamed_message(client: anthropic.Anthropic, engine: ScriptedEngine) -> None:
    """The SDK's accumulator puts the events together; usage and cost come at the end."""
    with client.messages.stream(model="auto", max_tokens=20, messages=MESSAGES) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) == 3
    assert "".join(pieces) == "it is four"
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 3
    assert final.content[0].type == "text"
    assert len(engine.settled) == 1


def test_events_of_a_stream_are_anthropics(client: anthropic.Anthropic) -> None:
    """In their order, with our extension beside the last figures."""
    stream = client.messages.create(model="auto", max_tokens=20, messages=MESSAGES, stream=True)
    events = list(stream)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[-2].model_extra is not None
    assert events[-2].model_extra["compute"]["cost_usd"] == 0.000012


def test_tools_and_their_results(client: anthropic.Anthropic, engine: ScriptedEngine) -> None:
    """A call comes as a block, whole and streamed; its result goes back as a tool's message."""
    says(engine, Reply("", "tool_calls", tool_calls=(CALL,)))
    message = client.messages.create(
        model="auto",
        max_tokens=20,
        messages=MESSAGES,
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    (block,) = message.content
    assert block.type == "tool_use"
    assert (block.id, block.name, block.input) == ("call_1", "add", {"a": 2, "b": 2})
    assert message.stop_reason == "tool_use"
    assert engine.requests[0].task.extra == {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "add",
                    "description": "adds",
                    "parameters": TOOL["input_schema"],
                },
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    with client.messages.stream(
        model="auto", max_tokens=20, messages=MESSAGES, tools=[TOOL]
    ) as stream:
        (streamed,) = stream.get_final_message().content
    assert streamed.type == "tool_use"
    assert streamed.input == {"a": 2, "b": 2}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "4"}
    turns: list[Any] = [
        *MESSAGES,
        {"role": "assistant", "content": message.content},
        {"role": "user", "content": [result, {"type": "text", "text": "so?"}]},
    ]
    client.messages.create(model="auto", max_tokens=20, messages=turns, tools=[TOOL])
    _, assistant, tool, user = engine.requests[-1].task.messages
    assert assistant.extra["tool_calls"][0]["function"]["name"] == "add"
    assert (tool.role, tool.content, tool.extra) == ("tool", "4", {"tool_call_id": "call_1"})
    assert user.text == "so?"


def test_images_and_formats_are_translated(
    client: anthropic.Anthropic, engine: ScriptedEngine
) -> None:
    """An image becomes OpenAI's part; effort and schema become OpenAI's fields."""
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
    schema = {"type": "object"}
    client.messages.create(
        model="auto",
        max_tokens=20,
        messages=[{"role": "user", "content": content}],  # type: ignore[typeddict-item]
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
    )
    task = engine.requests[0].task
    assert task.messages[0].to_wire()["content"][0] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AAAA"},
    }
    assert task.extra["reasoning_effort"] == "low"
    assert task.extra["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        pytest.param({"speed": "fast"}, "speed", id="fast mode"),
        pytest.param(
            {"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking.type", id="a budget"
        ),
        pytest.param(
            {"tools": [{"type": "web_search", "name": "w"}]}, "tools[0].type", id="a tool"
        ),
        pytest.param({"frequency_penalty": 1}, "frequency_penalty", id="an unknown field"),
        pytest.param(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
                        ],
                    }
                ]
            },
            "messages[0].content[0].cache_control",
            id="a member of a block",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    client: anthropic.Anthropic, engine: ScriptedEngine, fields: dict[str, Any], place: str
) -> None:
    """400 in Anthropic's form, with the place; nothing runs."""
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="auto", max_tokens=20, messages=MESSAGES, extra_body=fields)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    assert caught.value.body["error"]["param"] == place
    assert engine.requests == []


def test_errors_are_the_sdks_own(client: anthropic.Anthropic, engine: ScriptedEngine) -> None:
    """Each arrives as the exception that Anthropic's users catch, also where no route is."""
    with pytest.raises(anthropic.AuthenticationError, match="not known here"):
        client.with_options(api_key="sk-other").messages.create(
            model="auto", max_tokens=20, messages=MESSAGES
        )
    with pytest.raises(anthropic.NotFoundError, match="refused rather than passed on"):
        client.messages.count_tokens(model="auto", messages=MESSAGES)
    engine.refusal = BudgetExceededError(BudgetFacts("organisation", "total", 5, 5, 0, None), 1)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="auto", max_tokens=20, messages=MESSAGES)
    assert caught.value.status_code == 402
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "billing_error"
    assert caught.value.body["error"]["budget"]["scope"] == "organisation"


def test_an_error_inside_a_stream_is_raised(
    client: anthropic.Anthropic, engine: ScriptedEngine
) -> None:
    """An upstream that hangs up half-way is not taken for a short answer."""
    says(engine, Reply("it is", error=ProviderError("small", "it hung up")))
    stream = client.messages.create(model="auto", max_tokens=20, messages=MESSAGES, stream=True)
    with pytest.raises(anthropic.APIError, match="it hung up"):
        list(stream)


def test_a_key_in_anthropics_header_opens_other_paths_too(address: str) -> None:
    """One key for every dialect."""
    headers = {"x-api-key": "sk-test"}
    with httpx.Client(base_url=address, trust_env=False) as client:
        assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get("/v1/models", headers={"x-api-key": "no"}).status_code == 401
