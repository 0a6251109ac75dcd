"""Chat completions in OpenAI's form: our types to JSON, and JSON to our types.

Only fields whose cost is bounded are forwarded. What could change the price, the model or the
number of tokens behind the meter's back (priority tiers, paid plugins, fallback models, foreign
prompt templates, addresses and keys) is refused, never silently dropped.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from router.errors import RequestError
from router.json_codec import loads
from router.types import Chunk, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.types import Message, SampleRequest

FORWARDED = frozenset(
    {
        "add_generation_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "frequency_penalty",
        "function_call",
        "functions",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "ignore_eos",
        "include_reasoning",
        "logit_bias",
        "metadata",
        "min_p",
        "min_tokens",
        "modalities",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "service_tier",
        "skip_special_tokens",
        "stop_token_ids",
        "store",
        "structured_outputs",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "user",
        "verbosity",
    }
)
"""Fields beyond our own that are sent as the client wrote them."""

PLAIN_TIERS = frozenset({"auto", "default", "flex"})
OWN_TOOLS = frozenset({"function", "custom"})
PARTS = frozenset({"text", "image_url", "input_audio", "refusal"})


class MalformedReplyError(ValueError):
    """The upstream's reply is not a chat completion."""


def check(request: SampleRequest) -> None:
    """Raise RequestError, naming the field, for what has no known bound on its cost."""
    for name, value in request.extra.items():
        if value in (None, [], {}):
            continue
        if name not in FORWARDED:
            msg = f"the field {name!r} is not forwarded: its cost has no known bound; leave it out"
            raise RequestError(msg, param=name, code="unsupported_field")
        if name == "service_tier" and value not in PLAIN_TIERS:
            msg = f"service_tier {value!r} has another price; use one of {sorted(PLAIN_TIERS)}"
            raise RequestError(msg, param=name)
        if name == "modalities" and value != ["text"]:
            msg = f"modalities {value!r} cannot be priced; ask for ['text']"
            raise RequestError(msg, param=name)
        if name == "tools" and any(tool.get("type") not in OWN_TOOLS for tool in value):
            msg = "only tools of type 'function' or 'custom' can be priced; leave the others out"
            raise RequestError(msg, param=name)
    for i, message in enumerate(request.messages):
        foreign = sorted(_part_types(message) - PARTS)
        if foreign:
            msg = (
                f"messages[{i}] has a part of type {foreign[0]!r}, whose cost has no known bound; "
                f"send {', '.join(sorted(PARTS))}"
            )
            raise RequestError(msg, param="messages")


def _part_types(message: Message) -> set[str]:
    if message.content is None or isinstance(message.content, str):
        return set()
    return {str(part.get("type")) for part in message.content}


def to_body(request: SampleRequest, model: str) -> dict[str, Any]:
    """Give the body of a chat completion; what the request leaves open is left out."""
    optional = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "logprobs": request.logprobs or None,
        "top_logprobs": request.top_logprobs if request.logprobs else None,
        "n": request.n if request.n > 1 else None,
    }
    fields = {**request.extra, **optional}
    return {
        **{name: value for name, value in fields.items() if value is not None},
        "model": model,
        "messages": [message.to_wire() for message in request.messages],
        "max_tokens": request.max_tokens,
    }


def to_object(text: bytes | str) -> dict[str, Any]:
    """Read a JSON object; a ValueError or RecursionError when it is none."""
    read = loads(text)
    if not isinstance(read, dict):
        msg = f"expected a JSON object, got {type(read).__name__}"
        raise MalformedReplyError(msg)
    return read


def to_samples(reply: Mapping[str, Any], n_tokens: int) -> tuple[Sample, ...]:
    """Read the completions; ``n_tokens`` is the reported sum, used where there is but one.

    Raises MalformedReplyError when there are none.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        msg = "the reply has no choices"
        raise MalformedReplyError(msg)
    only = n_tokens if len(choices) == 1 else 0
    return tuple(_to_sample(choice, only) for choice in choices)


def _to_sample(choice: object, n_tokens: int) -> Sample:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        msg = "a choice of the reply has no message"
        raise MalformedReplyError(msg)
    logprobs = choice.get("logprobs") if isinstance(choice.get("logprobs"), dict) else None
    values = _token_logprobs(logprobs)
    return Sample(
        text=text_of(message.get("content")),
        finish_reason=str(choice.get("finish_reason") or "stop"),
        n_tokens=n_tokens or len(values),
        mean_logprob=sum(values) / len(values) if values else None,
        logprobs=logprobs,
        reasoning=text_of(message.get("reasoning_content") or message.get("reasoning")) or None,
        tool_calls=tuple(t for t in message.get("tool_calls") or () if isinstance(t, dict)),
        refusal=text_of(message.get("refusal")) or None,
    )


def to_chunk(event: Mapping[str, Any]) -> Chunk | None:
    """Read one event of a stream; None for one without a choice, such as the usage.

    Raises MalformedReplyError for what is no such event.
    """
    choices = event.get("choices")
    if not choices and ("choices" in event or "usage" in event):
        return None
    choice = choices[0] if isinstance(choices, list) else None
    delta = (choice.get("delta") or {}) if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(delta, dict):
        msg = "an event of the stream is not a chat completion chunk"
        raise MalformedReplyError(msg)
    reason = choice.get("finish_reason")
    return Chunk(
        delta={name: value for name, value in delta.items() if value is not None},
        finish_reason=None if reason is None else str(reason),
        logprobs=choice.get("logprobs"),
    )


def texts_of(chunk: Chunk) -> list[str]:
    """Give what a piece says, and what it thinks; what is neither is left out."""
    delta = chunk.delta
    return [text_of(delta[name]) for name in ("content", "reasoning_content") if name in delta]


def text_of(content: object) -> str:
    """Give the text of a message's content, whatever form it has."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, dict))
        return "".join(str(part["text"]) for part in parts if isinstance(part.get("text"), str))
    return ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds or a date; None when there is none that can be read."""
    asked = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if asked is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(asked))
    with suppress(ValueError):
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    return None


def _token_logprobs(logprobs: Mapping[str, Any] | None) -> list[float]:
    tokens = (logprobs or {}).get("content")
    if not isinstance(tokens, list):
        return []
    values = (token.get("logprob") for token in tokens if isinstance(token, dict))
    return [float(value) for value in values if isinstance(value, int | float)]
