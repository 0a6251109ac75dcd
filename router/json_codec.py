"""JSON on the hot path: by orjson where it can, by the standard library where it cannot."""

from __future__ import annotations

import json
from typing import Any

import orjson

_encode = json.JSONEncoder(separators=(",", ":")).encode


def loads(text: bytes | str) -> Any:  # noqa: ANN401 - any JSON value
    """Read what `json.loads` reads, with NaN and broken surrogates, which vendors do send.

    ValueError or RecursionError for anything else.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def dumps(value: object) -> bytes:
    """Encode as ASCII JSON, so that no text, however broken, fails here."""
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return _encode(value).encode("ascii")
    return encoded if encoded.isascii() else _encode(value).encode("ascii")
