"""What a call used, from what an upstream reports, and the bounds that hold before it is made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cost_models.types import Usage
from router.providers.base import bytes_bound, utf8_length

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from router.types import Message, SampleRequest

BYTES_PER_TOKEN_ESTIMATE = 3
"""Fewer than the four or more of plain English, so that estimates err on the high side."""

TOOLS_BOUND = 1024
"""Upper bound of the instructions that an upstream adds to the prompt when there are tools."""

FIELD_BOUND = 16
"""Upper bound of the tokens around one further field that reaches the prompt."""

PROMPT = ("prompt_tokens", "input_tokens", "inputTokens", "promptTokenCount")
COMPLETION = ("completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount")
CACHE_READ = (
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cachedContentTokenCount",
)
CACHE_WRITE = ("cache_creation_input_tokens", "cacheWriteInputTokens")
BESIDE_PROMPT = (
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
)
"""Words of Anthropic and Bedrock. litellm keeps Anthropic's beside a prompt that has them in it."""

IMAGE_TOKENS_BOUND = 50_000
"""Upper bound of one image's tokens over the models in use (OpenAI's small ones scale theirs)."""


def extra_bound(extra: Mapping[str, Any]) -> int:
    """Bound the prompt tokens that a request's further fields (tools, schemas) can become."""
    given = {key: value for key, value in extra.items() if value not in (None, [], {})}
    if not given:
        return 0
    n_bytes = utf8_length(json.dumps(given, ensure_ascii=False, default=str))
    has_tools = "tools" in given or "functions" in given
    return n_bytes + FIELD_BOUND * len(given) + (TOOLS_BOUND if has_tools else 0)


def prompt_bound(messages: Sequence[Message]) -> int:
    """Bound prompt tokens by bytes, with images and audio; see `bytes_bound` for the text."""
    return bytes_bound(messages) + sum(_parts_bound(message) for message in messages)


def _parts_bound(message: Message) -> int:
    if message.content is None or isinstance(message.content, str):
        return 0
    total = 0
    for part in message.content:
        if part.get("type") == "image_url":
            total += IMAGE_TOKENS_BOUND
        elif part.get("type") != "text":
            total += utf8_length(json.dumps(part, ensure_ascii=False, default=str))
    return total


def normalised(reported: object) -> Usage | None:
    """Give the usage of one call as its upstream reports it; None if it says nothing.

    Read are the words of OpenAI (and vLLM, DeepSeek, litellm), Anthropic, Bedrock and Gemini.
    Cached and cache-written tokens become part of the prompt, and reasoning of the completion:
    Anthropic and Bedrock count the former beside the prompt, Gemini the latter beside the
    completion. Any other upstream that counts reasoning beside the completion is recognised by
    its total, or by more reasoning than completion.
    """
    if not isinstance(reported, dict):
        return None
    prompt, cached, written = _prompt(reported)
    completion = _count(reported, *COMPLETION)
    total = _count(reported, "total_tokens", "totalTokens", "totalTokenCount")
    beside = _count(reported, "thoughtsTokenCount")
    of_completion = _details(reported, "completion_tokens_details", "output_tokens_details")
    reasoning = _count(of_completion, "reasoning_tokens") or beside
    if beside or reasoning > completion:
        completion += reasoning
    if not (prompt or completion or total):
        return None
    if total > prompt + completion:
        reasoning = max(reasoning, total - prompt - completion)
        completion = total - prompt
    cached = min(cached, prompt)
    return Usage(
        n_calls=1,
        prompt_tokens=prompt,
        cached_prompt_tokens=cached,
        cache_write_tokens=min(written, prompt - cached),
        completion_tokens=completion,
        reasoning_tokens=min(reasoning, completion),
    )


def _prompt(reported: Mapping[str, Any]) -> tuple[int, int, int]:
    """Count the whole prompt, and what of it was read from a cache and written to one."""
    of_prompt = _details(reported, "prompt_tokens_details", "input_tokens_details")
    prompt = _count(reported, *PROMPT) + _count(reported, "toolUsePromptTokenCount")
    cached = _count(of_prompt, "cached_tokens") or _count(reported, *CACHE_READ)
    written = _count(of_prompt, "cache_creation_tokens", "cache_write_tokens")
    written = written or _count(reported, *CACHE_WRITE)
    if "prompt_tokens" not in reported and any(word in reported for word in BESIDE_PROMPT):
        prompt += cached + written
    return prompt, cached, written


def estimated(request: SampleRequest, texts: Iterable[str]) -> Usage:
    """Estimate a complete call that nobody reported; each text is at most ``max_tokens`` long."""
    completion = sum(min(request.max_tokens, _estimate(utf8_length(text))) for text in texts)
    n_bytes = prompt_bound(request.messages) + extra_bound(request.extra)
    return Usage(
        n_calls=1,
        prompt_tokens=_estimate(n_bytes),
        completion_tokens=completion,
        estimated=True,
    )


def _estimate(n_bytes: int) -> int:
    return -(-n_bytes // BYTES_PER_TOKEN_ESTIMATE)


def _details(reported: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        found = reported.get(key)
        if isinstance(found, dict):
            return found
    return {}


def _count(reported: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        value = reported.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return int(value)
    return 0
