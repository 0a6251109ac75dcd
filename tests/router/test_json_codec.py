"""JSON that vendors and clients really send is read and written, whatever does the work."""

from __future__ import annotations

import json
import math

import pytest

from router.json_codec import dumps, loads


def test_what_the_fast_parser_refuses_is_read_all_the_same() -> None:
    """NaN, infinities and half a surrogate pair come from real upstreams."""
    read = loads(b'{"logprob": -Infinity, "other": NaN, "text": "\\ud83d"}')
    assert read["logprob"] == -math.inf
    assert math.isnan(read["other"])
    assert read["text"] == "\ud83d"


@pytest.mark.parametrize(
    "broken", [pytest.param(b"", id="empty"), pytest.param(b'{"a": 1', id="cut off")]
)
def test_what_is_no_json_is_a_value_error(broken: bytes) -> None:
    """Both parsers refuse it."""
    with pytest.raises(ValueError, match="char"):
        loads(broken)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"text": "plain", "n": [1, 2.5, None, True]}, id="plain"),
        pytest.param({"text": "gr\u00fcn \u2028 \U0001f600"}, id="more than ASCII"),
        pytest.param({"text": "half \ud83d"}, id="half a surrogate pair"),
        pytest.param({1: "a key that is a number"}, id="number as key"),
        pytest.param({"n": 2**70}, id="large number"),
    ],
)
def test_what_is_written_is_ascii_and_reads_as_it_was(value: dict[object, object]) -> None:
    """A client that splits lines at more than line feeds finds none inside an event."""
    written = dumps(value)
    assert written.isascii()
    assert json.loads(written) == json.loads(json.dumps(value))
