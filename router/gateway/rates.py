"""Limits on how fast a key asks, as requests meet them: let in or not, and what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.rates import Bucket
    from router.gateway.dependencies import Caller, Engine
    from router.routing.embeddings import EmbedRequest
    from router.routing.types import ChatRequest


Asked = TypeVar("Asked", "ChatRequest", "EmbedRequest")


async def let_in(engine: Engine, asked: Asked, caller: Caller) -> tuple[Asked, dict[str, str]]:
    """Count a request in the limits of its key; give it with its permit, and headers of the answer.

    Raises RateLimitedError for one that comes too fast. It has to be served then:
    the permit is given back at the end of that.
    """
    if not caller.limits:
        return asked, {}
    permit = await engine.admit(asked, caller.limits)
    return replace(asked, permit=permit), rate_headers(permit.buckets)


def rate_headers(buckets: Mapping[str, Bucket]) -> dict[str, str]:
    """Give OpenAI's headers of the limits per minute, by name; none where there are none."""
    return {
        f"x-ratelimit-{what}-{name}": value
        for name, bucket in buckets.items()
        for what, value in (
            ("limit", str(bucket.limit)),
            ("remaining", str(bucket.remaining)),
            ("reset", f"{bucket.reset_s:.3f}s"),
        )
    }
