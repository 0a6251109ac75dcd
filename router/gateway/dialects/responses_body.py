"""OpenAI's ``/v1/responses`` body: each field honoured, translated, or refused by name.

Nothing is kept between requests: a conversation is sent whole, with ``store`` off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from router.gateway.compute import Asked, Body, Compute, Object
from router.gateway.dialects.members import refusal, take, text_in
from router.gateway.strict import wrong
from router.types import Message, Task

if TYPE_CHECKING:
    from typing import Self

    from router.gateway.dependencies import Caller
    from router.gateway.settings import GatewaySettings
    from router.routing.types import ChatRequest

MAX_METADATA = 16
ITEMS = {
    "message": frozenset({"role", "content", "id", "status"}),
    "function_call": frozenset({"call_id", "name", "arguments", "id", "status"}),
    "function_call_output": frozenset({"call_id", "output", "id", "status"}),
    "reasoning": frozenset({"id", "summary", "status"}),
}
TEXT = {
    "input_text": frozenset({"text"}),
    "output_text": frozenset({"text", "annotations", "logprobs"}),
    "refusal": frozenset({"refusal"}),
}
PARTS = {**TEXT, "input_image": frozenset({"image_url", "detail"})}
SUMMARY = {"summary_text": frozenset({"text"})}
ROLES = ("user", "assistant", "system", "developer")
TOOLS = {"function": frozenset({"name", "description", "parameters", "strict"})}
CHOICES = {"function": frozenset({"name"})}
FORMATS = {
    "text": frozenset[str](),
    "json_object": frozenset[str](),
    "json_schema": frozenset({"name", "schema", "strict", "description"}),
}


class Reasoning(Body):
    """How hard to think. Reasoning that an upstream shows is always given as a summary."""

    refused: ClassVar = {
        "context": "contexts of reasoning are not kept; leave the field out",
        "mode": "modes of reasoning are not served here; leave the field out",
    }

    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class TextConfig(Body):
    """In which form to answer, and how amply."""

    format: Object | None = None
    verbosity: str | None = None


class ResponsesBody(Body):
    """A response request: OpenAI's, with ``compute`` beside it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "auto",
                    "input": "What is 17 * 23?",
                    "compute": {"answer_kind": "number", "max_cost_usd": 0.01},
                }
            ]
        }
    )

    refused: ClassVar = {
        "context_management": "contexts are not managed here; leave the field out",
        "conversation": "conversations are not kept here; send all turns in `input`",
        "max_tool_calls": "tools are run by the client; leave the field out",
        "moderation": "moderation is not served here; leave the field out",
        "previous_response_id": "responses are not kept here; send all turns in `input`",
        "prompt": "stored prompts are not served here; send the text",
        "prompt_cache_options": "cache options change the price; leave the field out",
        "prompt_cache_retention": "cache retention changes the price; leave the field out",
        "stream_options": "obfuscation is not served; leave the field out",
        "top_logprobs": "log-probabilities are served by /v1/chat/completions alone",
    }

    model: Annotated[str, Field(min_length=1, examples=["auto"])]
    input: str | list[Object]
    background: bool | None = None
    compute: Compute | None = None
    include: list[str] | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    reasoning: Reasoning | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    text: TextConfig | None = None
    tool_choice: str | Object | None = None
    tools: list[Object] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    truncation: Literal["disabled"] | None = None
    user: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _is_input(cls, given: object) -> object:
        if isinstance(given, str | list) and given:
            return given
        message = "is text or a list of items, and not empty"
        raise wrong(message, code="invalid_type")

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _is_tool_choice(cls, choice: object) -> object:
        if choice is None or isinstance(choice, str | dict):
            return choice
        message = "is 'none', 'auto', 'required', or an object that names a tool"
        raise wrong(message, code="invalid_type")

    @model_validator(mode="after")
    def _is_served(self) -> Self:
        for name, told in (
            ("background", "nothing runs in the background here; leave the field out"),
            ("store", "responses are not kept here; send store: false"),
            ("include", "nothing more can be included; leave the field out"),
        ):
            if getattr(self, name):
                raise wrong(told, at=(name,), code="unsupported_parameter")
        return self

    def to_request(self, caller: Caller, settings: GatewaySettings) -> ChatRequest:
        """Give the request as the engine knows it; RequestError for an item it cannot serve."""
        messages = [] if not self.instructions else [Message("system", self.instructions)]
        if isinstance(self.input, str):
            messages.append(Message("user", self.input))
        else:
            messages += _messages(self.input)
        task = Task(
            messages=tuple(messages),
            temperature=self.temperature,
            top_p=self.top_p,
            extra={k: v for k, v in self._extra().items() if v is not None},
        )
        asked = Asked(self.model, task, self.max_output_tokens, self.compute)
        return asked.to_request(caller, settings, self.user, self.metadata)

    def echo(self) -> Object:
        """Give back the fields that a response repeats."""
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": self.temperature,
            "tool_choice": self.tool_choice or "auto",
            "tools": self.tools or [],
            "top_p": self.top_p,
            "truncation": "disabled",
            "user": self.user,
        }

    def _extra(self) -> Object:
        text = self.text or TextConfig()
        tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(self.tools or ())]
        return {
            "parallel_tool_calls": self.parallel_tool_calls,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning_effort": None if self.reasoning is None else self.reasoning.effort,
            "response_format": None if text.format is None else _format(text.format),
            "safety_identifier": self.safety_identifier,
            "service_tier": self.service_tier,
            "tool_choice": _choice(self.tool_choice),
            "tools": tools or None,
            "verbosity": text.verbosity,
        }


def _messages(items: list[Object]) -> list[Message]:
    """Put items together: what the model did between two turns is one message of its own."""
    messages: list[Message] = []
    thought = ""
    for i, given in enumerate(items):
        at = f"input[{i}]"
        item = take(given, ITEMS, at, usual="message")
        if item["type"] == "reasoning":
            thought = _summary(item, at)
        elif item["type"] == "function_call_output":
            extra = {"tool_call_id": text_in(item, "call_id", at)}
            messages.append(Message("tool", _output(item, at), extra))
        elif item["type"] == "function_call":
            messages = _with_call(messages, _call(item, at), thought)
            thought = ""
        else:
            messages.append(_message(item, at, thought))
            thought = ""
    return messages


def _with_call(messages: list[Message], call: Object, thought: str) -> list[Message]:
    """Add a call to what the model said just before, or as a message of its own."""
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant":
        extra: Object = {"reasoning_content": thought} if thought else {}
        return [*messages, Message("assistant", None, {**extra, "tool_calls": [call]})]
    calls = [*last.extra.get("tool_calls", ()), call]
    joined = Message("assistant", last.content, {**last.extra, "tool_calls": calls})
    return [*messages[:-1], joined]


def _message(item: Object, at: str, thought: str) -> Message:
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise refusal(at, f"is one of {', '.join(ROLES)}, got {role!r}", member="role")
    extra = {"reasoning_content": thought} if thought else {}
    if isinstance(content, str):
        return Message(str(role), content, extra)
    if not isinstance(content, list) or not content:
        raise refusal(at, "is text or a list of parts, and not empty", "invalid_type", "content")
    parts = [_part(part, f"{at}.content[{i}]") for i, part in enumerate(content)]
    if role == "user":
        return Message("user", parts, extra)
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) < len(parts):
        raise refusal(at, f"a message of role {role!r} is text alone", member="content")
    return Message(str(role), "".join(texts), extra)


def _part(given: object, at: str) -> Object:
    part = take(given, PARTS, at)
    if part["type"] == "input_image":
        image = {"url": text_in(part, "image_url", at)}
        if "detail" in part:
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    name = "refusal" if part["type"] == "refusal" else "text"
    return {"type": "text", "text": text_in(part, name, at)}


def _output(item: Object, at: str) -> str:
    output = item.get("output")
    if isinstance(output, list):
        place = f"{at}.output"
        parts = [_part(part, f"{place}[{i}]") for i, part in enumerate(output)]
        if any(part["type"] != "text" for part in parts):
            raise refusal(place, "the output of a tool is text alone")
        return "\n".join(part["text"] for part in parts)
    return text_in(item, "output", at)


def _summary(item: Object, at: str) -> str:
    parts = item.get("summary") or []
    if not isinstance(parts, list):
        raise refusal(at, "is a list of parts", "invalid_type", "summary")
    places = [f"{at}.summary[{i}]" for i in range(len(parts))]
    read = [take(part, SUMMARY, place) for part, place in zip(parts, places, strict=True)]
    return "\n".join(text_in(part, "text", place) for part, place in zip(read, places, strict=True))


def _call(item: Object, at: str) -> Object:
    function = {
        "name": text_in(item, "name", at),
        "arguments": text_in(item, "arguments", at),
    }
    return {"id": text_in(item, "call_id", at), "type": "function", "function": function}


def _tool(given: Object, at: str) -> Object:
    tool = take(given, TOOLS, at)
    text_in(tool, "name", at)
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _choice(choice: str | Object | None) -> Any:  # noqa: ANN401 - a word or an object
    if not isinstance(choice, dict):
        return choice
    name = text_in(take(choice, CHOICES, "tool_choice"), "name", "tool_choice")
    return {"type": "function", "function": {"name": name}}


def _format(given: Object) -> Object | None:
    asked = take(given, FORMATS, "text.format")
    if asked["type"] == "text":
        return None
    if asked["type"] == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {k: v for k, v in asked.items() if k != "type"}}
