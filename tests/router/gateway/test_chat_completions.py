"""Whole chat completions: what clients read, what the engine is told, what is refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from scripted_engine import ScriptedEngine, slow

from policies.types import AnswerKind
from router.gateway.settings import GatewaySettings
from router.providers.scripted import Reply
from router.routing.types import Limits

if TYPE_CHECKING:
    from conftest import Serve

QUESTION = {"role": "user", "content": "what is 2 + 2 ?"}
CLOCK = GatewaySettings(clock=lambda: datetime(2026, 11, 24, tzinfo=UTC))


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:  # noqa: ANN401 - any JSON
    """Send the question with further fields."""
    body = {"model": "auto", "messages": [QUESTION], **fields}
    return client.post("/v1/chat/completions", json=body)


def test_an_answer_has_openais_shape_and_our_extension(serve: Serve) -> None:
    """The golden body: OpenAI's members, the sum of all usage, and ``compute``."""
    engine = ScriptedEngine()
    response = ask(serve(engine, CLOCK))
    (request_id,) = engine.settled
    assert response.status_code == 200
    assert response.json() == {
        "id": request_id,
        "object": "chat.completion",
        "created": 1795478400,
        "model": "small",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "four", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 6,
            "completion_tokens": 1,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "system_fingerprint": None,
        "compute": {
            "request_id": request_id,
            "arm": "small|direct",
            "model": "small",
            "strategy": "direct",
            "attempt": 0,
            "propensity": 0.98,
            "predicted_quality": 0.9,
            "predicted_cost_usd": 0.0001,
            "difficulty": 0.25,
            "policy_version": "p1",
            "why": "the cheapest arm that is good enough",
            "cost_usd": 0.000008,
            "calls": 1,
            "samples": 1,
            "agreement": 1.0,
            "complete": True,
            "verified": None,
            "verified_by": None,
            "value": "four",
            "latency_s": 0.25,
            "overhead_s": 0.0015,
        },
    }


def test_headers_carry_id_cost_overhead_and_arm(client: httpx.Client) -> None:
    """What the body says is in the headers too, for clients that cannot see the extension."""
    response = ask(client)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-rheostat-request-id"] == response.json()["id"]
    assert response.headers["x-request-id"] == response.json()["id"]
    assert response.headers["x-rheostat-cost-usd"] == "0.000008000"
    assert response.headers["x-rheostat-overhead-ms"] == "1.500"
    assert response.headers["x-rheostat-arm"] == "small|direct"


def test_a_named_model_is_served_as_asked(client: httpx.Client) -> None:
    """The client sees the model that it named."""
    assert ask(client, model="large").json()["model"] == "large"


def test_an_arm_that_is_more_than_ascii_is_encoded_in_the_header(serve: Serve) -> None:
    """A header cannot carry it as it is; the body can."""
    response = ask(serve(ScriptedEngine(model_names=("größer",))), model="größer")
    assert response.json()["compute"]["arm"] == "größer|direct"
    assert response.headers["x-rheostat-arm"] == "gr%C3%B6%C3%9Fer%7Cdirect"


def test_several_choices_are_all_shown(serve: Serve) -> None:
    """``n`` gives that many choices, each with its index."""
    client = serve(ScriptedEngine(lambda _request, i: f"answer {i}"))
    choices = ask(client, n=3).json()["choices"]
    assert [c["index"] for c in choices] == [0, 1, 2]
    assert [c["message"]["content"] for c in choices] == ["answer 0", "answer 1", "answer 2"]


def test_tool_calls_and_refusals_reach_the_client(serve: Serve) -> None:
    """A message that only calls tools has no content, and a refusal is in its own member."""
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    engine = ScriptedEngine(
        [Reply(finish_reason="tool_calls", tool_calls=(call,)), Reply(refusal="I cannot")]
    )
    client = serve(engine)
    first = ask(client).json()["choices"][0]
    assert first["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [call],
    }
    assert first["finish_reason"] == "tool_calls"
    assert ask(client).json()["choices"][0]["message"]["refusal"] == "I cannot"


def test_broken_text_of_a_model_is_sent_all_the_same(serve: Serve) -> None:
    """Half a surrogate pair from an upstream is no reason to lose a paid answer."""
    response = ask(serve(ScriptedEngine(lambda _request, _i: "a\ud83d b")))
    assert response.status_code == 200
    assert "\\ud83d" in response.text


def test_the_engine_is_told_everything(client: httpx.Client, engine: ScriptedEngine) -> None:
    """Every field that is not refused arrives: as our own, or forwarded under its name."""
    forwarded = {
        "frequency_penalty": 0.5,
        "logit_bias": {"50256": -100},
        "min_p": 0.1,
        "modalities": ["text"],
        "parallel_tool_calls": False,
        "presence_penalty": -0.5,
        "prompt_cache_key": "p",
        "reasoning_effort": "low",
        "repetition_penalty": 1.1,
        "response_format": {"type": "json_object"},
        "safety_identifier": "s",
        "service_tier": "default",
        "store": False,
        "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "top_k": 40,
        "verbosity": "low",
        "chat_template_kwargs": {"enable_thinking": False},
    }
    response = ask(
        client,
        max_completion_tokens=20,
        temperature=1,
        top_p=0.9,
        seed=7,
        stop=["a", "b"],
        logprobs=True,
        top_logprobs=3,
        n=2,
        user="u",
        metadata={"team": "x"},
        compute={
            "accuracy_target": 0.9,
            "max_cost_usd": 0.01,
            "max_latency_s": 5,
            "allowed_models": ["small"],
            "strategy": "cot",
            "answer_kind": "number",
        },
        **forwarded,
    )
    assert response.status_code == 200
    (request,) = engine.requests
    task = request.task
    assert task.extra == forwarded
    assert (task.max_tokens, task.temperature, task.top_p, task.seed) == (20, 1.0, 0.9, 7)
    assert (task.stop, task.logprobs, task.top_logprobs, task.n) == (("a", "b"), True, 3, 2)
    assert (task.answer_kind, task.kind_is_declared) == (AnswerKind.NUMBER, True)
    assert request.limits == Limits(0.9, 0.01, 5.0, ("small",), "cot")
    assert (request.user, request.metadata, request.tenant) == ("u", {"team": "x"}, "default")


def test_what_is_left_out_or_null_has_its_default(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    """Null is the same as nothing said, as at OpenAI; plain text is no special format."""
    ask(
        client,
        temperature=None,
        stop=None,
        tools=None,
        functions=None,
        metadata=None,
        response_format={"type": "text"},
    )
    (request,) = engine.requests
    assert request.task.max_tokens == GatewaySettings().default_max_tokens
    assert request.task.temperature is None
    assert request.task.stop == ()
    assert request.task.extra == {}
    assert request.metadata == {}
    assert not request.task.kind_is_declared


def test_messages_keep_all_that_the_client_wrote(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    """Parts, names and tool calls are forwarded; what SDKs send back empty is left out."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "be brief", "name": "ops"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call],
            "refusal": None,
            "annotations": [],
        },
        {"role": "tool", "content": "", "tool_call_id": "c1"},
    ]
    assert ask(client, messages=messages).status_code == 200
    sent = [message.to_wire() for message in engine.requests[0].task.messages]
    assert sent == [
        messages[0],
        messages[1],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        messages[3],
    ]


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        pytest.param({"messages": []}, "messages", "is empty", id="no message"),
        pytest.param(
            {"messages": [{"role": "usr", "content": "x"}]},
            "messages[0].role",
            "'user'",
            id="an unknown role",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": ""}]},
            "messages[0].content",
            "is empty",
            id="empty text",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": []}]},
            "messages[0].content",
            "is empty",
            id="no part",
        ),
        pytest.param(
            {"messages": [{"role": "system"}]}, "messages[0].content", "is empty", id="no content"
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "content": None}]},
            "messages[0].content",
            "tool_calls",
            id="an assistant that said nothing",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content",
            "text or a list",
            id="content of a wrong type",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": ["x"]}]},
            "messages[0].content[0]",
            '"type": "text"',
            id="a part that is none",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "is required",
            id="a text part without text",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": "x", "nam": "y"}]},
            "messages[0].nam",
            "did you mean 'name'?",
            id="an unknown member of a message",
        ),
        pytest.param({"messages": "hi"}, "messages", "list", id="messages that are none"),
        pytest.param({"model": ""}, "model", "at least 1", id="no model"),
        pytest.param(
            {"temprature": 1}, "temprature", "did you mean 'temperature'?", id="a misspelt field"
        ),
        pytest.param({"temperature": 3}, "temperature", "less than or equal to 2", id="too hot"),
        pytest.param({"temperature": "1"}, "temperature", "number", id="a number in quotes"),
        pytest.param({"max_tokens": 0}, "max_tokens", "greater than", id="no room for an answer"),
        pytest.param({"max_tokens": True}, "max_tokens", "integer", id="a truth value"),
        pytest.param(
            {"max_tokens": 5, "max_completion_tokens": 6},
            "max_tokens",
            "one of them",
            id="two caps",
        ),
        pytest.param({"n": 0}, "n", "greater than", id="no choice"),
        pytest.param({"stop": list("abcde")}, "stop", "at most 4", id="five stops"),
        pytest.param({"stop": ""}, "stop", "none of them empty", id="an empty stop"),
        pytest.param({"stop": 3}, "stop", "text", id="a stop that is no text"),
        pytest.param({"top_logprobs": 2}, "top_logprobs", "logprobs: true", id="no logprobs"),
        pytest.param(
            {"stream_options": {"include_usage": True}},
            "stream_options",
            "stream: true",
            id="options of no stream",
        ),
        pytest.param(
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "not served",
            id="an option that is not served",
        ),
        pytest.param(
            {"response_format": {"type": "xml"}},
            "response_format.type",
            "json_schema",
            id="an unknown format",
        ),
        pytest.param({"tool_choice": 3}, "tool_choice", "'auto'", id="an unknown tool choice"),
        pytest.param({"metadata": {"a": 1}}, "metadata.a", "string", id="metadata is text"),
        pytest.param({"audio": {"voice": "x"}}, "audio", "not served", id="audio"),
        pytest.param({"functions": [{}]}, "functions", "use tools", id="functions"),
        pytest.param({"function_call": "auto"}, "function_call", "tool_choice", id="function_call"),
        pytest.param({"prediction": {}}, "prediction", "cost", id="prediction"),
        pytest.param({"moderation": {}}, "moderation", "not served", id="moderation"),
        pytest.param(
            {"web_search_options": {}}, "web_search_options", "cost", id="web_search_options"
        ),
        pytest.param(
            {"prompt_cache_retention": "24h"},
            "prompt_cache_retention",
            "price",
            id="prompt_cache_retention",
        ),
        pytest.param(
            {"prompt_cache_options": {}}, "prompt_cache_options", "price", id="prompt_cache_options"
        ),
        pytest.param(
            {"compute": {"acuracy_target": 1}},
            "compute.acuracy_target",
            "did you mean 'accuracy_target'?",
            id="a misspelt limit",
        ),
        pytest.param(
            {"compute": {"accuracy_target": 1.5}}, "compute.accuracy_target", "1", id="above one"
        ),
        pytest.param(
            {"compute": {"max_cost_usd": 0}}, "compute.max_cost_usd", "greater", id="for nothing"
        ),
        pytest.param(
            {"compute": {"allowed_models": []}},
            "compute.allowed_models",
            "1 item",
            id="no arm left",
        ),
        pytest.param(
            {"compute": {"answer_kind": "poem"}}, "compute.answer_kind", "'number'", id="no kind"
        ),
        pytest.param({"compute": "fast"}, "compute", "object", id="limits that are none"),
    ],
)
def test_a_bad_field_is_refused_by_name(
    client: httpx.Client, engine: ScriptedEngine, fields: dict[str, Any], param: str, told: str
) -> None:
    """400 in OpenAI's form, with the field in ``param``; nothing reaches the engine."""
    response = ask(client, **fields)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert told in error["message"]
    assert engine.requests == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"{", "not JSON", id="broken off"),
        pytest.param(b'{"model": NaN}', "not JSON", id="no number"),
        pytest.param(b'"\xff"', "not JSON", id="no text"),
        pytest.param(b'{"user": "\\ud800"}', "not JSON", id="half a surrogate pair"),
        pytest.param(b"[" * 100_000, "not JSON", id="endless nesting"),
        pytest.param(b"[]", "an object", id="a list"),
        pytest.param(b"", "is required", id="nothing"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_400(
    client: httpx.Client, content: bytes, told: str
) -> None:
    """Whatever the bytes, the answer is an error in OpenAI's form, never a 500."""
    headers = {"content-type": "application/json"}
    response = client.post("/v1/chat/completions", content=content, headers=headers)
    assert response.status_code == 400
    assert told in response.json()["error"]["message"]


def test_a_form_of_a_foreign_web_page_is_refused(
    client: httpx.Client, engine: ScriptedEngine
) -> None:
    """A browser sends text/plain anywhere without asking: it must not be able to spend."""
    body = b'{"model": "auto", "messages": [{"role": "user", "content": "x"}]}'
    headers = {"content-type": "text/plain"}
    response = client.post("/v1/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]["message"]
    assert engine.requests == []


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_above_the_limit_is_a_413(serve: Serve, *, is_chunked: bool) -> None:
    """The size counts, whether it is announced or only found out while reading."""
    client = serve(ScriptedEngine(), GatewaySettings(max_body_bytes=1000))
    body = b'{"model": "' + b"x" * 2000 + b'"}'
    response = client.post(
        "/v1/chat/completions",
        content=iter([body[:900], body[900:]]) if is_chunked else body,
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"
    assert "max_body_bytes" in response.json()["error"]["message"]


def test_a_client_that_leaves_ends_the_work(serve: Serve) -> None:
    """Nobody reads the answer, so it is not paid for to the end."""
    engine = ScriptedEngine(lambda _request, _i: slow(60))
    client = serve(engine)
    with pytest.raises(httpx.ReadTimeout):
        client.post(
            "/v1/chat/completions", json={"model": "auto", "messages": [QUESTION]}, timeout=0.3
        )
    deadline = time.monotonic() + 5
    while not engine.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.cancelled == [engine.requests[0].request_id]
    assert engine.settled == []
