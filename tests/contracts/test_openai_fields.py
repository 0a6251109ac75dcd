"""Every field that OpenAI's own package can send: honoured, forwarded or refused, never dropped."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from openai.types.chat import completion_create_params
from pydantic import ValidationError

from router.gateway.dependencies import Caller
from router.gateway.schemas import FORWARDED_FIELDS, REFUSED_FIELDS, ChatBody
from router.gateway.settings import GatewaySettings
from router.gateway.strict import problems

MESSAGES = [{"role": "user", "content": "hello"}]
SAMPLES: dict[str, Any] = {
    "frequency_penalty": 0.5,
    "logit_bias": {"5": 1},
    "modalities": ["text"],
    "parallel_tool_calls": False,
    "presence_penalty": 0.5,
    "prompt_cache_key": "k",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "s",
    "service_tier": "auto",
    "store": False,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "verbosity": "low",
}
HONOURED: dict[str, tuple[dict[str, Any], str, Any]] = {
    "logprobs": ({"logprobs": True}, "task.logprobs", True),
    "max_completion_tokens": ({"max_completion_tokens": 7}, "task.max_tokens", 7),
    "max_tokens": ({"max_tokens": 7}, "task.max_tokens", 7),
    "metadata": ({"metadata": {"a": "b"}}, "metadata", {"a": "b"}),
    "model": ({"model": "small"}, "model", "small"),
    "n": ({"n": 3}, "task.n", 3),
    "seed": ({"seed": 7}, "task.seed", 7),
    "stop": ({"stop": "x"}, "task.stop", ("x",)),
    "temperature": ({"temperature": 0.5}, "task.temperature", 0.5),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 2}, "task.top_logprobs", 2),
    "top_p": ({"top_p": 0.5}, "task.top_p", 0.5),
    "user": ({"user": "ann"}, "user", "ann"),
}
ELSEWHERE = {"messages", "stream", "stream_options"}
"""Fields that shape the exchange itself; the tests of chat completions hold them."""


def fields() -> list[str]:
    """Name every field of the package's typed parameters."""
    return sorted(get_type_hints(completion_create_params.CompletionCreateParamsStreaming))


def asked(body: dict[str, Any]) -> Any:  # noqa: ANN401 - a request, read by attribute names
    """Give the engine's request for a body."""
    whole = {"model": "auto", "messages": MESSAGES, **body}
    return ChatBody.model_validate(whole).to_request(Caller("r", "t"), GatewaySettings())


@pytest.mark.parametrize("field", fields())
def test_no_field_is_dropped(field: str) -> None:
    """What the field says is in the request that runs, or the refusal names it."""
    if field in REFUSED_FIELDS:
        with pytest.raises(ValidationError) as caught:
            asked({field: {"some": "value"}})
        assert [found.place for found in problems(caught.value.errors())] == [field]
    elif field in FORWARDED_FIELDS:
        assert asked({field: SAMPLES[field]}).task.extra == {field: SAMPLES[field]}
    elif field not in ELSEWHERE:
        body, path, value = HONOURED[field]
        found = asked(body)
        for name in path.split("."):
            found = getattr(found, name)
        assert found == value
