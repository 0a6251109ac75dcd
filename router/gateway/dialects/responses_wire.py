"""Our values as clients of OpenAI's responses read them: a response, the events of its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.gateway.wire import shown_samples, to_compute
from router.json_codec import dumps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.types import Usage
    from router.routing.types import Served

Object = dict[str, Any]

CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is incomplete, by its finish reason."""


def to_response(served: Served, created: int, echo: Mapping[str, Any]) -> Object:
    """Give a ``response`` object with the ``compute`` extension."""
    sample = shown_samples(served.answer)[0]
    output: list[Object] = []
    if sample.reasoning:
        output.append(_reasoning(_item_id(served.request_id, 0), sample.reasoning))
    if sample.text or sample.refusal or not sample.tool_calls:
        part = _refusal(sample.refusal) if sample.refusal else _text(sample.text)
        output.append(_message(_item_id(served.request_id, len(output)), part))
    for call in sample.tool_calls:
        function = call.get("function") or {}
        item = {
            "call_id": str(call.get("id")),
            "name": str(function.get("name")),
            "arguments": str(function.get("arguments") or ""),
        }
        output.append(_call(_item_id(served.request_id, len(output)), item, "completed"))
    head = _head(served.request_id, served.decision.arm.model, created, echo)
    return {**head, **_ending(served, sample.finish_reason, output)}


def to_usage(used: Usage) -> Object:
    """Sum all sub-calls into a response's ``usage``."""
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": used.cached_prompt_tokens,
            "cache_write_tokens": used.cache_write_tokens,
        },
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


class ResponseWire:
    """The events of one streamed response, numbered from 0.

    Items end where another begins, calls of tools at the end, since pieces of several may be
    mixed. ``compute`` is in the last event's response.
    """

    def __init__(self, request_id: str, model: str, created: int, echo: Mapping[str, Any]) -> None:
        self._request_id = request_id
        self._head = _head(request_id, model, created, echo)
        self._n_events = 0
        self._output: list[Object] = []
        self._open: tuple[str, int, list[str]] | None = None
        self._calls: dict[int, tuple[int, Object]] = {}

    def start(self) -> bytes:
        """Say that the response is made and under way."""
        response = {**self._head, "status": "in_progress", "output": [], "usage": None}
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def delta(self, delta: Mapping[str, Any]) -> bytes:
        """Give one piece; empty for one that says nothing."""
        told = []
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            told.append(self._piece("reasoning", str(thought)))
        if text := delta.get("content"):
            told.append(self._piece("output_text", str(text)))
        if no := delta.get("refusal"):
            told.append(self._piece("refusal", str(no)))
        for i, call in enumerate(delta.get("tool_calls") or ()):
            told.append(self._call_piece(int(call.get("index", i)), call))
        return b"".join(told)

    def last(self, served: Served, reason: str) -> bytes:
        """End the items and the response; only for a request whose cost is committed."""
        told = self._close()
        if not self._output:
            told += self._begin("output_text") + self._close()
        for index, item in self._calls.values():
            done = {**item, "status": "completed"}
            self._output[index] = done
            told += self._event(
                "response.function_call_arguments.done",
                item_id=item["id"],
                output_index=index,
                name=item["name"],
                arguments=item["arguments"],
            )
            told += self._event("response.output_item.done", output_index=index, item=done)
        response = {**self._head, **_ending(served, reason, self._output)}
        return told + self._event(f"response.{response['status']}", response=response)

    def error(self, _status: int, error: Mapping[str, Any]) -> bytes:
        """End the stream with an error."""
        return self._event("error", **{**error, "error": dict(error)})

    def _piece(self, kind: str, text: str) -> bytes:
        before = b""
        if self._open is None or self._open[0] != kind:
            before = self._close() + self._begin(kind)
        if self._open is None:
            return before
        self._open[2].append(text)
        at = self._at(kind, self._open[1])
        return before + self._event(f"{_names(kind)}.delta", **at, delta=text)

    def _begin(self, kind: str) -> bytes:
        index = len(self._output)
        item_id = _item_id(self._request_id, index)
        if kind == "reasoning":
            item = {"id": item_id, "type": "reasoning", "summary": [], "status": "in_progress"}
        else:
            item = {**_message(item_id, None), "status": "in_progress"}
        self._output.append(item)
        self._open = (kind, index, [])
        return self._event("response.output_item.added", output_index=index, item=item) + (
            self._event(f"{_part_names(kind)}.added", **self._at(kind, index), part=_part(kind, ""))
        )

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        kind, index, pieces = self._open
        self._open = None
        text, at, item_id = "".join(pieces), self._at(kind, index), self._output[index]["id"]
        part = _part(kind, text)
        item = _reasoning(item_id, text) if kind == "reasoning" else _message(item_id, part)
        self._output[index] = item
        said = {"refusal" if kind == "refusal" else "text": text}
        return b"".join(
            (
                self._event(f"{_names(kind)}.done", **at, **said),
                self._event(f"{_part_names(kind)}.done", **at, part=part),
                self._event("response.output_item.done", output_index=index, item=item),
            )
        )

    def _at(self, kind: str, index: int) -> Object:
        at: Object = {"item_id": self._output[index]["id"], "output_index": index}
        if kind == "reasoning":
            return {**at, "summary_index": 0}
        at["content_index"] = 0
        return {**at, "logprobs": []} if kind == "output_text" else at

    def _call_piece(self, number: int, call: Mapping[str, Any]) -> bytes:
        function = call.get("function") or {}
        before = b""
        if number not in self._calls:
            before = self._close()
            index = len(self._output)
            named = {
                "call_id": str(call.get("id") or f"call_{number}"),
                "name": str(function.get("name") or ""),
                "arguments": "",
            }
            item = _call(_item_id(self._request_id, index), named, "in_progress")
            before += self._event("response.output_item.added", output_index=index, item=item)
            self._output.append(item)
            self._calls[number] = (index, item)
        index, item = self._calls[number]
        piece = str(function.get("arguments") or "")
        if not piece:
            return before
        item["arguments"] += piece
        return before + self._event(
            "response.function_call_arguments.delta",
            item_id=item["id"],
            output_index=index,
            delta=piece,
        )

    def _event(self, kind: str, **members: object) -> bytes:
        event = {**members, "type": kind, "sequence_number": self._n_events}
        self._n_events += 1
        return b"event: " + kind.encode() + b"\ndata: " + dumps(event) + b"\n\n"


def _head(request_id: str, model: str, created: int, echo: Mapping[str, Any]) -> Object:
    return {
        **echo,
        "id": request_id,
        "object": "response",
        "created_at": created,
        "model": model,
        "error": None,
        "incomplete_details": None,
    }


def _ending(served: Served, reason: str, output: list[Object]) -> Object:
    why = CUT.get(reason)
    return {
        "status": "completed" if why is None else "incomplete",
        "incomplete_details": None if why is None else {"reason": why},
        "output": output,
        "usage": to_usage(served.usage),
        "compute": to_compute(served),
    }


def _item_id(request_id: str, index: int) -> str:
    return f"item_{index}_{request_id}"


def _message(item_id: str, part: Object | None) -> Object:
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [] if part is None else [part],
    }


def _call(item_id: str, named: Mapping[str, str], status: str) -> Object:
    return {"id": item_id, "type": "function_call", "status": status, **named}


def _reasoning(item_id: str, text: str) -> Object:
    return {
        "id": item_id,
        "type": "reasoning",
        "summary": [_part("reasoning", text)],
        "status": "completed",
    }


def _part(kind: str, text: str) -> Object:
    if kind == "reasoning":
        return {"type": "summary_text", "text": text}
    return _refusal(text) if kind == "refusal" else _text(text)


def _text(text: str) -> Object:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _refusal(text: str) -> Object:
    return {"type": "refusal", "refusal": text}


def _names(kind: str) -> str:
    return "response.reasoning_summary_text" if kind == "reasoning" else f"response.{kind}"


def _part_names(kind: str) -> str:
    return "response.reasoning_summary_part" if kind == "reasoning" else "response.content_part"
