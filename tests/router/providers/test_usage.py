"""Reported usage becomes ours, and bounds hold before a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.types import Usage
from router.providers.base import bytes_bound
from router.providers.usage import (
    IMAGE_TOKENS_BOUND,
    TOOLS_BOUND,
    estimated,
    extra_bound,
    normalised,
    prompt_bound,
)
from router.types import Message, SampleRequest

REPORTED = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        pytest.param(REPORTED, Usage(1, 100, completion_tokens=40), id="plain"),
        pytest.param(
            {
                **REPORTED,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(1, 100, 64, completion_tokens=40, reasoning_tokens=30),
            id="cached and reasoning are parts, not additions",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 40,
                "total_tokens": 170,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(1, 100, completion_tokens=70, reasoning_tokens=30),
            id="reasoning beside the completion is seen in the total",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 95},
            Usage(1, 10, completion_tokens=85, reasoning_tokens=80),
            id="hidden reasoning is seen in the total",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Usage(1, 10, completion_tokens=25, reasoning_tokens=20),
            id="more reasoning than completion",
        ),
        pytest.param(
            {
                **REPORTED,
                "prompt_tokens_details": {"cached_tokens": 50, "cache_creation_tokens": 30},
            },
            Usage(1, 100, 50, 30, 40),
            id="cache writes",
        ),
        pytest.param(
            {"input_tokens": 7, "output_tokens": 3}, Usage(1, 7, completion_tokens=3), id="renamed"
        ),
        pytest.param(
            {**REPORTED, "prompt_tokens_details": None, "completion_tokens_details": "?"},
            Usage(1, 100, completion_tokens=40),
            id="odd details",
        ),
    ],
)
def test_reported_usage_is_normalised(reported: dict[str, object], usage: Usage) -> None:
    """Every form that upstreams use gives the same classes of tokens."""
    assert normalised(reported) == usage


@pytest.mark.parametrize("reported", [None, {}, [], "12", {"prompt_tokens": 0}, {"x": 1}])
def test_nothing_reported_is_none(reported: object) -> None:
    """Zero for everything is no report either."""
    assert normalised(reported) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 500) | st.floats(0, 99) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens", "cache_creation_tokens"]), JSON
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens",
                "completion_tokens",
                "total_tokens",
                "prompt_tokens_details",
                "completion_tokens_details",
            ]
        ),
        JSON | DETAILS,
    )
)
def test_odd_reports_never_raise(reported: dict[str, object]) -> None:
    """Whatever is sent, the result is a valid usage or None."""
    normalised(reported)


def test_an_estimate_says_so_and_stays_within_the_cap() -> None:
    """Completions are estimated from their bytes, each at most its cap."""
    request = SampleRequest((Message("user", "hello"),), max_tokens=10, n=2)
    usage = estimated(request, ["a" * 9, "a" * 900])
    assert usage.estimated
    assert usage.completion_tokens == 3 + 10
    assert 0 < usage.prompt_tokens < bytes_bound(request.messages)


def test_tools_and_schemas_are_bounded_and_empty_fields_are_free() -> None:
    """The bound grows with the JSON; what is empty does not reach the prompt."""
    assert extra_bound({"tools": [], "user": None}) == 0
    assert extra_bound({"tools": [{"type": "function"}]}) > TOOLS_BOUND
    assert extra_bound({"response_format": {"type": "json_object", "pad": "x" * 500}}) > 500


def test_images_are_part_of_the_bound() -> None:
    """Text parts count by bytes, every image by the most that an image is billed as."""
    parts = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {}}]
    messages = (Message("user", parts), Message("assistant", None))
    assert prompt_bound(messages) == bytes_bound(messages) + IMAGE_TOKENS_BOUND
