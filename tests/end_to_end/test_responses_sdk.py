"""OpenAI's own Python client asks for responses, from a real gateway with a changed base URL."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from openai.types.responses import response_create_params
from scripted_engine import ScriptedEngine

from router.errors import ProviderError
from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.dialects.responses_body import ResponsesBody
from router.gateway.settings import GatewaySettings
from router.providers.scripted import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a":2,"b":2}'},
}
TOOL: Any = {
    "type": "function",
    "name": "add",
    "description": "adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": False,
}


@pytest.fixture
def engine() -> ScriptedEngine:
    """Answer "it is four" to everything."""
    return ScriptedEngine(lambda _request, _i: "it is four")


@pytest.fixture
def client(engine: ScriptedEngine) -> Iterator[openai.OpenAI]:
    """Give the plain client of a gateway over ``engine``."""
    with (
        serving(create_app(engine, GatewaySettings())) as base_url,
        openai.OpenAI(
            base_url=f"{base_url}/v1",
            api_key="-",
            max_retries=0,
            http_client=httpx.Client(trust_env=False),
        ) as client,
    ):
        yield client


def says(engine: ScriptedEngine, reply: Reply) -> None:
    """Let the engine give this reply from now on."""
    engine.provider._ask = lambda _request, _i: reply  # noqa: SLF001 - the double's script


def test_a_plain_response(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    """The answer, its usage and our extension are where clients look."""
    response = client.responses.create(
        model="auto",
        input="what is 2 + 2 ?",
        instructions="be brief",
        max_output_tokens=20,
        user="ann",
        reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        extra_body={"compute": {"max_cost_usd": 0.01}},
    )
    assert response.output_text == "it is four"
    assert response.status == "completed"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (8, 3)
    assert response.model_extra is not None
    assert response.model_extra["compute"]["cost_usd"] == 0.000014
    asked = engine.requests[0]
    assert [(m.role, m.text) for m in asked.task.messages] == [
        ("system", "be brief"),
        ("user", "what is 2 + 2 ?"),
    ]
    assert (asked.user, asked.task.max_tokens, asked.limits.max_cost_usd) == ("ann", 20, 0.01)
    assert asked.task.extra == {
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
    }
    assert engine.settled == [response.id]


def test_an_answer_that_is_cut_is_incomplete(client: openai.OpenAI) -> None:
    """It says so, and why."""
    response = client.responses.create(model="auto", input="what is 2 + 2 ?", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_streamed_response(client: openai.OpenAI) -> None:
    """Every event in its order, numbered; the SDK's accumulator gives the whole response."""
    with client.responses.stream(model="auto", input="what is 2 + 2 ?") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    numbers = [event.sequence_number for event in events]
    assert all(after == before + 1 for before, after in itertools.pairwise(numbers))
    assert final.output_text == "it is four"
    assert final.model_extra is not None
    assert final.model_extra["compute"]["cost_usd"] == 0.000012


def test_tools_and_their_results(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    """A call comes as an item, whole and streamed; its output goes back as a tool's message."""
    says(engine, Reply("", "tool_calls", tool_calls=(CALL,)))
    response = client.responses.create(
        model="auto",
        input="add 2 and 2",
        tools=[TOOL],
        tool_choice={"type": "function", "name": "add"},
    )
    (item,) = response.output
    assert item.type == "function_call"
    assert (item.call_id, item.name, item.arguments) == ("call_1", "add", '{"a":2,"b":2}')
    extra = engine.requests[0].task.extra
    assert extra["tools"][0]["function"]["parameters"] == TOOL["parameters"]
    assert extra["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    with client.responses.stream(model="auto", input="add 2 and 2", tools=[TOOL]) as stream:
        (streamed,) = stream.get_final_response().output
    assert streamed.type == "function_call"
    assert (streamed.name, streamed.arguments) == ("add", '{"a":2,"b":2}')
    turns: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "add 2 and 2"}]},
        *response.output,
        {"type": "function_call_output", "call_id": "call_1", "output": "4"},
    ]
    client.responses.create(model="auto", input=turns, tools=[TOOL])
    user, assistant, tool = engine.requests[-1].task.messages
    assert user.text == "add 2 and 2"
    assert assistant.extra["tool_calls"][0]["id"] == "call_1"
    assert (tool.role, tool.content, tool.extra) == ("tool", "4", {"tool_call_id": "call_1"})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"previous_response_id": "r"}, "previous_response_id", id="an earlier one"),
        pytest.param({"background": True}, "background", id="in the background"),
        pytest.param({"store": True}, "store", id="stored"),
        pytest.param({"tools": [{"type": "web_search"}]}, "tools[0].type", id="a paid tool"),
        pytest.param({"n": 2}, "n", id="an unknown field"),
        pytest.param({"input": []}, "input", id="nothing"),
        pytest.param({"input": [{"type": "item_reference"}]}, "input[0].type", id="a reference"),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input[0].content[0].type",
            id="a file",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    client: openai.OpenAI, engine: ScriptedEngine, fields: dict[str, Any], param: str
) -> None:
    """400 with the place in ``param``; nothing runs."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="auto", input="hello", extra_body=fields)
    assert caught.value.param == param
    assert engine.requests == []


def test_every_field_of_the_package_is_known() -> None:
    """Read or refused by name, none merely unknown."""
    known = ResponsesBody.model_fields.keys() | ResponsesBody.refused.keys()
    assert response_create_params.ResponseCreateParamsBase.__annotations__.keys() <= known


def test_an_error_inside_a_stream_is_raised(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    """An upstream that hangs up half-way is not taken for a short answer."""
    says(engine, Reply("it is", error=ProviderError("small", "it hung up")))
    stream = client.responses.create(model="auto", input="hello", stream=True)
    with pytest.raises(openai.APIError, match="it hung up"):
        list(stream)
