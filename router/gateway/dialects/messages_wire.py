"""Our values as Anthropic's clients read them: a message, the events of its stream, errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from router.gateway.wire import shown_samples, to_compute
from router.json_codec import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.types import Usage
    from router.routing.types import Served

Object = dict[str, Any]

REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
CLIENTS_FAULT = range(400, 500)


def to_message(served: Served) -> Object:
    """Give a ``message`` object with the ``compute`` extension."""
    sample = shown_samples(served.answer)[0]
    content: list[Object] = []
    if sample.reasoning:
        content.append({"type": "thinking", "thinking": sample.reasoning, "signature": ""})
    if text := sample.text or sample.refusal:
        content.append({"type": "text", "text": text, "citations": None})
    content += [_tool_use(call) for call in sample.tool_calls]
    reason = "content_filter" if sample.refusal else sample.finish_reason
    return {
        **_head(served.request_id, served.decision.arm.model),
        "content": content,
        "stop_reason": _stop_reason(reason),
        "usage": to_usage(served.usage),
        "compute": to_compute(served),
    }


def to_usage(used: Usage) -> Object:
    """Sum all sub-calls; here cached tokens are counted beside the others, not among them."""
    cached, written = used.cached_prompt_tokens, used.cache_write_tokens
    return {
        "input_tokens": used.prompt_tokens - cached - written,
        "output_tokens": used.completion_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
    }


def to_error(status: int, error: Mapping[str, Any]) -> Object:
    """Give an error in Anthropic's form; our code and figures stay beside its type."""
    usual = "invalid_request_error" if status in CLIENTS_FAULT else "api_error"
    return {"type": "error", "error": {**error, "type": TYPES.get(status, usual)}}


class MessageWire:
    """The events of one streamed message.

    Blocks of text and of thinking end where another begins, those of tools at the end, since
    pieces of several calls may be mixed. ``compute`` is in the ``message_delta``.
    """

    def __init__(self, request_id: str, model: str) -> None:
        self._head = _head(request_id, model)
        self._n_blocks = 0
        self._open: tuple[str, int] | None = None
        self._tools: dict[int, int] = {}
        self._refused = False

    def start(self) -> bytes:
        """Begin the message; what it used is not known before its end."""
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = {**self._head, "content": [], "stop_reason": None, "usage": usage}
        return _event("message_start", message=message)

    def delta(self, delta: Mapping[str, Any]) -> bytes:
        """Give one piece; empty for one that says nothing."""
        told = []
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            told.append(self._piece("thinking", "thinking_delta", str(thought)))
        if text := delta.get("content"):
            told.append(self._piece("text", "text_delta", str(text)))
        if no := delta.get("refusal"):
            self._refused = True
            told.append(self._piece("text", "text_delta", str(no)))
        for i, call in enumerate(delta.get("tool_calls") or ()):
            told.append(self._call(int(call.get("index", i)), call))
        return b"".join(told)

    def last(self, served: Served, reason: str) -> bytes:
        """End the blocks and the message; only for a request whose cost is committed."""
        ended = self._close()
        for index in self._tools.values():
            ended += _event("content_block_stop", index=index)
        stop = {
            "stop_reason": _stop_reason("content_filter" if self._refused else reason),
            "stop_sequence": None,
        }
        ended += _event(
            "message_delta", delta=stop, usage=to_usage(served.usage), compute=to_compute(served)
        )
        return ended + _event("message_stop")

    def error(self, status: int, error: Mapping[str, Any]) -> bytes:
        """End the stream with an error."""
        return b"event: error\ndata: " + dumps(to_error(status, error)) + b"\n\n"

    def _piece(self, kind: str, delta_type: str, text: str) -> bytes:
        before = b""
        if self._open is None or self._open[0] != kind:
            block = {"type": kind, kind: ""}
            if kind == "thinking":
                block["signature"] = ""
            before = self._close() + self._begin(block)
            self._open = (kind, self._n_blocks - 1)
        delta = {"type": delta_type, kind: text}
        return before + _event("content_block_delta", index=self._open[1], delta=delta)

    def _call(self, number: int, call: Mapping[str, Any]) -> bytes:
        function = call.get("function") or {}
        before = b""
        if number not in self._tools:
            block = {
                "type": "tool_use",
                "id": str(call.get("id") or f"toolu_{number}"),
                "name": str(function.get("name") or ""),
                "input": {},
            }
            before = self._close() + self._begin(block)
            self._tools[number] = self._n_blocks - 1
        if not function.get("arguments"):
            return before
        delta = {"type": "input_json_delta", "partial_json": str(function["arguments"])}
        return before + _event("content_block_delta", index=self._tools[number], delta=delta)

    def _begin(self, block: Object) -> bytes:
        self._n_blocks += 1
        return _event("content_block_start", index=self._n_blocks - 1, content_block=block)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        _, index = self._open
        self._open = None
        return _event("content_block_stop", index=index)


def _head(request_id: str, model: str) -> Object:
    return {
        "id": request_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "stop_sequence": None,
    }


def _tool_use(call: Mapping[str, Any]) -> Object:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"INVALID_JSON": function.get("arguments")}
    return {
        "type": "tool_use",
        "id": str(call.get("id")),
        "name": str(function.get("name")),
        "input": arguments,
    }


def _stop_reason(reason: str) -> str:
    return REASONS.get(reason, "end_turn")


def _event(kind: str, **members: object) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + dumps({"type": kind, **members}) + b"\n\n"
