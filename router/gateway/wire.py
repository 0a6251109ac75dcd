"""Our values in the form that OpenAI clients read. Plain dicts and bytes: this is the hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from router.json_codec import dumps
from router.types import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.types import Usage
    from policies.types import Decision
    from router.routing.types import Plan, Served
    from router.types import Answer

NANO = 1e9
DONE = b"data: [DONE]\n\n"


def to_completion(served: Served, created: int) -> dict[str, Any]:
    """Give a ``chat.completion`` object with the ``compute`` extension."""
    return {
        "id": served.request_id,
        "object": "chat.completion",
        "created": created,
        "model": served.model,
        "choices": to_choices(served.answer),
        "usage": to_usage(served.usage),
        "system_fingerprint": None,
        "compute": to_compute(served),
    }


def to_choices(answer: Answer) -> list[dict[str, Any]]:
    """Give what the client sees: the choices it asked for, or the sample that won."""
    return [
        {
            "index": i,
            "message": _message(sample),
            "logprobs": sample.logprobs,
            "finish_reason": sample.finish_reason,
        }
        for i, sample in enumerate(shown_samples(answer))
    ]


def shown_samples(answer: Answer) -> tuple[Sample, ...]:
    """Give the samples that the client sees, at least one."""
    return answer.choices or (_winner(answer),)


def _winner(answer: Answer) -> Sample:
    said = (sample for sample in answer.samples if sample.text == answer.text)
    return next(said, None) or Sample(answer.text, answer.finish_reason)


def _message(sample: Sample) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": sample.text or (None if sample.tool_calls or sample.refusal else ""),
        "refusal": sample.refusal,
    }
    if sample.tool_calls:
        message["tool_calls"] = list(sample.tool_calls)
    if sample.reasoning:
        message["reasoning_content"] = sample.reasoning
    return message


def to_usage(used: Usage) -> dict[str, Any]:
    """Sum all sub-calls into a ``usage`` object."""
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_prompt_tokens},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
    }


def to_compute(served: Served) -> dict[str, Any]:
    """Say what was decided and what it came to: the ``compute`` extension."""
    answer = served.answer
    told: dict[str, Any] = {
        "request_id": served.request_id,
        **to_decision(served.decision),
        "cost_usd": served.cost_nano_usd / NANO,
        "calls": len(served.calls),
        "samples": len(answer.samples),
        "agreement": answer.confidence,
        "complete": answer.complete,
        "verified": answer.verified,
        "verified_by": answer.verified_by,
        "value": answer.value,
        "latency_s": round(served.latency_s, 6),
        "overhead_s": round(served.overhead_s, 6),
    }
    if served.cached_from is not None:
        told["cached_from"] = served.cached_from
    if served.failures:
        told["fallbacks"] = [
            {
                "arm": str(failure.arm),
                "error": failure.error,
                "cost_usd": failure.cost_nano_usd / NANO,
            }
            for failure in served.failures
        ]
    if served.attempts:
        told["attempts"] = [
            {
                "arm": str(attempt.arm),
                "value": attempt.answer.value if attempt.answer else None,
                "trust": attempt.trust,
                "error": attempt.error,
            }
            for attempt in served.attempts
        ]
    return told


def to_decision(made: Decision) -> dict[str, Any]:
    """Give a decision as clients read it."""
    return {
        "arm": str(made.arm),
        "model": made.arm.model,
        "strategy": made.arm.strategy,
        "attempt": made.attempt,
        "propensity": made.propensity,
        "predicted_quality": made.predicted_quality,
        "predicted_cost_usd": made.predicted_cost_usd,
        "difficulty": made.difficulty,
        "policy_version": made.policy_version,
        "why": made.reason,
    }


def headers(served: Served) -> dict[str, str]:
    """Give the headers of an answer, beside the request's id."""
    cached = {} if served.cached_from is None else {"x-rheostat-cache": "hit"}
    return {
        **cached,
        "x-rheostat-cost-usd": f"{served.cost_nano_usd / NANO:.9f}",
        "x-rheostat-overhead-ms": f"{served.overhead_s * 1e3:.3f}",
        "x-rheostat-arm": _header_text(str(served.decision.arm)),
    }


def _header_text(text: str) -> str:
    """Give ``text`` as headers can carry it: percent-encoded where it is more than ASCII."""
    return text if text.isascii() and text.isprintable() else quote(text)


def to_plan(made: Plan) -> dict[str, Any]:
    """Give a dry run: every arm with its predictions, and the decision."""
    return {
        "object": "plan",
        "request_id": made.request_id,
        "decision": None if made.decision is None else to_decision(made.decision),
        "difficulty": made.difficulty,
        "in_distribution": made.in_distribution,
        "policy_version": made.policy_version,
        "candidates": [
            {
                "arm": str(candidate.arm),
                "model": candidate.arm.model,
                "strategy": candidate.arm.strategy,
                "predicted_quality": candidate.predicted_quality,
                "expected_cost_usd": candidate.expected_cost_usd,
                "expected_latency_s": candidate.expected_latency_s,
                "worst_case_usd": (
                    None
                    if candidate.worst_case_nano_usd is None
                    else candidate.worst_case_nano_usd / NANO
                ),
                "rejected": candidate.rejected,
            }
            for candidate in made.candidates
        ],
    }


class ChunkWire:
    """``chat.completion.chunk`` events of one stream; what they share is encoded once."""

    def __init__(self, request_id: str, model: str, created: int, *, include_usage: bool) -> None:
        shared = {
            "id": request_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": None,
        }
        self._include_usage = include_usage
        self._no_usage = b',"usage":null' if include_usage else b""
        self._head = b"data: " + dumps(shared)[:-1] + b',"choices":['
        self._first = self._head + b'{"index":0,"delta":'
        self._rest = b',"logprobs":null,"finish_reason":null}]' + self._no_usage + b"}\n\n"

    def delta(
        self,
        delta: Mapping[str, Any],
        logprobs: Mapping[str, Any] | None = None,
        index: int = 0,
    ) -> bytes:
        """Give one piece of a choice."""
        if index == 0 and logprobs is None:
            return b"".join((self._first, dumps(delta), self._rest))
        return self._event({"index": index, "delta": delta, "logprobs": logprobs})

    def finish(self, reason: str, index: int = 0) -> bytes:
        """End a choice that is not the last one."""
        return self._event({"index": index, "delta": {}, "logprobs": None}, reason)

    def last(self, served: Served, reason: str, index: int = 0) -> bytes:
        """End the last choice and the stream; only for a request whose cost is committed."""
        choice = {"index": index, "delta": {}, "logprobs": None}
        extension = b',"compute":' + dumps(to_compute(served))
        ending = self._event(choice, reason, extension)
        if self._include_usage:
            ending += self._head + b'],"usage":' + dumps(to_usage(served.usage)) + b"}\n\n"
        return ending + DONE

    def _event(
        self, choice: Mapping[str, Any], reason: str | None = None, extension: bytes = b""
    ) -> bytes:
        ended = dumps({**choice, "finish_reason": reason})
        return b"".join((self._head, ended, b"]", self._no_usage, extension, b"}\n\n"))
