"""Code blocks, JSON and tool calls out of text."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_JSON_CHARS = 1_000_000
MAX_JSON_STARTS = 64
FENCE = "```"
JSON_START = re.compile(r"[{\[]")
TOOL_CALL_TAG = "<tool_call>"
MAX_TOOL_CALLS = 32


def _last_block(text: str) -> str | None:
    """Text of the last fenced block that is closed."""
    block: list[str] | None = None
    last: list[str] | None = None
    for line in text.splitlines():
        if block is None:
            block = [] if line.lstrip().startswith(FENCE) else None
        elif line.strip() == FENCE:
            last, block = block, None
        else:
            block.append(line)
    return None if last is None else "\n".join(last)


def code_in_text(text: str) -> str | None:
    """Give the last fenced block without trailing blanks; None where there is none."""
    block = _last_block(text)
    if block is None:
        return None
    return "\n".join(line.rstrip() for line in block.splitlines()).strip("\n") or None


def json_in_text(text: str) -> str | None:
    """Give the canonical JSON of a reply; None where there is none."""
    found, value = _json_value(text)
    return _dumped(value) if found else None


def _dumped(value: object) -> str | None:
    """Canonical text; None for what JSON cannot say, lone surrogates among it."""
    try:
        dumped = json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        dumped.encode()
    except (ValueError, RecursionError):
        return None
    return dumped


def _json_value(text: str) -> tuple[bool, Any]:
    """Find the JSON of a reply: all of it, its last fenced block, or its last object or array."""
    if len(text) > MAX_JSON_CHARS:
        return False, None
    for whole in (text, _last_block(text) or ""):
        try:
            return True, DECODER.decode(whole.strip())
        except (ValueError, RecursionError):
            continue
    found: tuple[bool, Any] = (False, None)
    position = 0
    for _ in range(MAX_JSON_STARTS):
        start = JSON_START.search(text, position)
        if start is None:
            break
        try:
            value, position = DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            position = start.end()
        else:
            found = (True, value)
    return found


def _json_number(text: str) -> int | float:
    """Read a number with a point or exponent: 1.0 is the same answer as 1."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e15 else value  # noqa: PLR2004


def _no_constant(name: str) -> object:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


DECODER = json.JSONDecoder(parse_float=_json_number, parse_constant=_no_constant)


def tool_call_in_text(text: str) -> str | None:
    """Canonical JSON of ``[{"arguments": ..., "name": ...}]``; ids are not part of an answer."""
    tagged = text.split(TOOL_CALL_TAG, MAX_TOOL_CALLS)[1:]
    parts = [part.partition("</tool_call>")[0] for part in tagged] or [text]
    values = [_json_value(part) for part in parts]
    calls = []
    for found, value in values:
        if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
            value = value["tool_calls"]  # noqa: PLW2901 - the list is the value
        items = value if isinstance(value, list) else [value]
        normal = [_normal_call(item) for item in items]
        if not found or None in normal:
            return None
        calls.extend(normal)
    return _dumped(calls) if calls else None


def _normal_call(item: object) -> dict[str, Any] | None:
    """Name and parsed arguments of one call in OpenAI or plain form."""
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    arguments = item.get("arguments", item.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = DECODER.decode(arguments or "{}")
        except (ValueError, RecursionError):
            return None
    return {"name": item["name"], "arguments": arguments}
