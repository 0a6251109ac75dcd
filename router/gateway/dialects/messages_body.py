"""Anthropic's ``/v1/messages`` body: each field honoured, translated, or refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from router.gateway.compute import Asked, Body, Compute, Object
from router.gateway.dialects.members import refusal, take, text_in
from router.types import Message, Task

if TYPE_CHECKING:
    from router.gateway.dependencies import Caller
    from router.gateway.settings import GatewaySettings
    from router.routing.types import ChatRequest

TEXT = {"text": frozenset({"text", "citations"})}
TOLD = {**TEXT, "image": frozenset({"source"})}
USER = {**TOLD, "tool_result": frozenset({"tool_use_id", "content", "is_error"})}
ASSISTANT = {
    **TEXT,
    "thinking": frozenset({"thinking", "signature"}),
    "tool_use": frozenset({"id", "name", "input"}),
}
SOURCES = {"base64": frozenset({"media_type", "data"}), "url": frozenset({"url"})}
TOOLS = {"custom": frozenset({"name", "description", "input_schema", "strict"})}
CHOICES = {
    "auto": frozenset({"disable_parallel_tool_use"}),
    "any": frozenset({"disable_parallel_tool_use"}),
    "tool": frozenset({"disable_parallel_tool_use", "name"}),
    "none": frozenset[str](),
}
THINKING = {
    "disabled": frozenset[str](),
    "adaptive": frozenset[str](),
}
FORMATS = {"json_schema": frozenset({"schema"})}
CHOSEN = {"auto": "auto", "any": "required", "none": "none"}
Stops = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)]
TIERS = {"auto": "auto", "standard_only": "default"}


class User(Body):
    """Whom the request is for."""

    user_id: str | None = None


class OutputConfig(Body):
    """How hard to think, and in which form to answer."""

    refused: ClassVar = {"task_budget": "task budgets are not served; leave the field out"}

    effort: str | None = None
    format: Object | None = None


class MessageTurn(Body):
    """One turn; ``content`` is text or blocks."""

    role: Literal["user", "assistant"]
    content: str | list[Object]


class MessagesBody(Body):
    """A message request: Anthropic's, with ``compute`` beside it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "auto",
                    "max_tokens": 200,
                    "messages": [{"role": "user", "content": "What is 17 * 23?"}],
                }
            ]
        }
    )

    refused: ClassVar = {
        "cache_control": "cache control changes the price; leave the field out",
        "container": "containers have no known bound on their cost; leave the field out",
        "context_management": "contexts are not managed here; leave the field out",
        "diagnostics": "diagnostics are not served here; leave the field out",
        "inference_geo": "a region changes the price; leave the field out",
        "mcp_servers": "foreign servers are not called from here; leave the field out",
        "speed": "fast mode has another price; leave the field out",
        "user_profile_id": "user profiles are not served here; use metadata.user_id",
        "workspace_id": "workspaces are not served here; the key says who asks",
    }

    model: Annotated[str, Field(min_length=1, examples=["auto"])]
    messages: Annotated[list[MessageTurn], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)]
    compute: Compute | None = None
    metadata: User | None = None
    output_config: OutputConfig | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    stop_sequences: Stops | None = None
    stream: bool | None = None
    system: str | list[Object] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    thinking: Object | None = None
    tool_choice: Object | None = None
    tools: list[Object] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None

    def to_request(self, caller: Caller, settings: GatewaySettings) -> ChatRequest:
        """Give the request as the engine knows it; RequestError for a block it cannot serve."""
        task = Task(
            messages=tuple(self._messages()),
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tuple(self.stop_sequences or ()),
            extra={k: v for k, v in self._extra().items() if v is not None},
        )
        asked = Asked(self.model, task, self.max_tokens, self.compute)
        user = None if self.metadata is None else self.metadata.user_id
        return asked.to_request(caller, settings, user, None)

    def _messages(self) -> list[Message]:
        messages = []
        if self.system:
            messages.append(Message("system", _plain(self.system, "system")))
        for i, turn in enumerate(self.messages):
            at = f"messages[{i}].content"
            if isinstance(turn.content, str):
                messages.append(Message(turn.role, turn.content))
            elif turn.role == "user":
                messages += _said_by_user(turn.content, at)
            else:
                messages.append(_said_by_assistant(turn.content, at))
        return messages

    def _extra(self) -> Object:
        config = self.output_config or OutputConfig()
        effort = config.effort
        if self.thinking is not None and take(self.thinking, THINKING, "thinking")["type"] == (
            "disabled"
        ):
            effort = "none"
        extra: Object = {
            "reasoning_effort": effort,
            "service_tier": TIERS.get(self.service_tier or ""),
            "tools": [_tool(tool, f"tools[{i}]") for i, tool in enumerate(self.tools or ())]
            or None,
            "top_k": self.top_k,
        }
        if config.format is not None:
            asked = take(config.format, FORMATS, "output_config.format")
            schema = {"name": "answer", "schema": asked.get("schema"), "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.tool_choice is not None:
            extra |= _choice(self.tool_choice)
        return extra


def _plain(content: str | list[Object], at: str) -> str:
    if isinstance(content, str):
        return content
    blocks = [take(block, TEXT, f"{at}[{i}]") for i, block in enumerate(content)]
    return "\n".join(text_in(block, "text", f"{at}[{i}]") for i, block in enumerate(blocks))


def _said_by_user(content: list[Object], at: str) -> list[Message]:
    """Give the results of tools first, as they answer the turn before, then what was said."""
    results, parts = [], []
    for i, given in enumerate(content):
        place = f"{at}[{i}]"
        block = take(given, USER, place)
        if block["type"] != "tool_result":
            parts.append(_part(block, place))
            continue
        told = block.get("content", "")
        if not isinstance(told, str | list):
            raise refusal(place, "is text or blocks", "invalid_type", "content")
        text = _plain(told, f"{place}.content")
        if block.get("is_error"):
            text = f"Error: {text}"
        extra = {"tool_call_id": text_in(block, "tool_use_id", place)}
        results.append(Message("tool", text, extra))
    return results + ([Message("user", parts)] if parts else [])


def _said_by_assistant(content: list[Object], at: str) -> Message:
    texts, thoughts, calls = [], [], []
    for i, given in enumerate(content):
        place = f"{at}[{i}]"
        block = take(given, ASSISTANT, place)
        if block["type"] == "text":
            texts.append(text_in(block, "text", place))
        elif block["type"] == "thinking":
            thoughts.append(text_in(block, "thinking", place))
        else:
            called = {
                "name": text_in(block, "name", place),
                "arguments": json.dumps(block.get("input") or {}),
            }
            call_id = text_in(block, "id", place)
            calls.append({"id": call_id, "type": "function", "function": called})
    extra: Object = {"tool_calls": calls} if calls else {}
    if thoughts:
        extra["reasoning_content"] = "\n".join(thoughts)
    return Message("assistant", "".join(texts) or (None if calls else ""), extra)


def _part(block: Object, at: str) -> Object:
    if block["type"] == "text":
        return {"type": "text", "text": text_in(block, "text", at)}
    place = f"{at}.source"
    source = take(block.get("source"), SOURCES, place)
    if source["type"] == "url":
        url = text_in(source, "url", place)
    else:
        media, data = text_in(source, "media_type", place), text_in(source, "data", place)
        url = f"data:{media};base64,{data}"
    return {"type": "image_url", "image_url": {"url": url}}


def _tool(given: Object, at: str) -> Object:
    tool = take(given, TOOLS, at, usual="custom")
    function: dict[str, Any] = {"name": text_in(tool, "name", at)}
    for theirs, ours in (
        ("description", "description"),
        ("input_schema", "parameters"),
        ("strict", "strict"),
    ):
        if theirs in tool:
            function[ours] = tool[theirs]
    return {"type": "function", "function": function}


def _choice(given: Object) -> Object:
    choice = take(given, CHOICES, "tool_choice")
    chosen: Object = {}
    if choice["type"] == "tool":
        name = text_in(choice, "name", "tool_choice")
        chosen["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        chosen["tool_choice"] = CHOSEN[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        chosen["parallel_tool_calls"] = False
    return chosen
