"""``/v1/embeddings``: the body that is read, and the answer that is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from router.errors import RequestError
from router.gateway.compute import Body, Compute, permitted_tags, together
from router.gateway.strict import wrong
from router.gateway.wire import NANO
from router.providers.embeddings import EmbeddingRequest, Inputs
from router.routing.embeddings import EmbedRequest

if TYPE_CHECKING:
    from router.gateway.dependencies import Caller
    from router.gateway.settings import GatewaySettings
    from router.routing.embeddings import Embedded

MAX_INPUTS = 2048
SERVED = frozenset({"max_cost_usd", "tags", "session"})
"""What of ``compute`` has a meaning where nothing is decided."""


class EmbeddingsBody(Body):
    """A request for embeddings: OpenAI's, with ``compute`` beside it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "embed-small", "input": ["first text", "second text"]}]
        }
    )

    model: Annotated[str, Field(min_length=1, examples=["embed-small"])]
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    user: str | None = None
    compute: Compute | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _is_input(cls, given: object) -> object:
        if _is_text(given) or _are_tokens(given):
            return given
        if not isinstance(given, list) or not given:
            message = "is a text or a list of texts, or token ids or a list of those; none empty"
            raise wrong(message, code="invalid_type")
        if len(given) > MAX_INPUTS:
            message = f"has {len(given)} texts; at most {MAX_INPUTS} are embedded at once"
            raise wrong(message)
        if not (all(map(_is_text, given)) or all(map(_are_tokens, given))):
            message = "has something that is empty, or neither a text nor a list of token ids"
            raise wrong(message, code="invalid_type")
        return given

    def to_request(self, caller: Caller, settings: GatewaySettings) -> EmbedRequest:
        """Give the request as the engine knows it; RequestError for what cannot be asked."""
        compute = together(self.compute, caller.compute)
        foreign = sorted(compute.model_fields_set - SERVED)
        if foreign:
            msg = f"compute.{foreign[0]} has no meaning for embeddings; leave it out"
            raise RequestError(msg, param=f"compute.{foreign[0]}", code="unsupported_parameter")
        allowed = caller.allowed_embeddings
        if allowed is not None and self.model not in allowed:
            named = f"name one of: {', '.join(allowed)}" if allowed else "it may use none"
            msg = f"this key may not use {self.model!r} for embeddings; {named}"
            raise RequestError(msg, param="model", code="model_not_allowed")
        return EmbedRequest(
            request_id=caller.request_id,
            model=self.model,
            embedding=EmbeddingRequest(
                self._inputs(), self.encoding_format or "float", self.dimensions
            ),
            max_cost_usd=compute.max_cost_usd,
            tenant=caller.tenant,
            team=caller.team,
            user=self.user,
            tags=permitted_tags(compute.tags or (), settings.tags),
            session=compute.session,
        )

    def _inputs(self) -> Inputs:
        if isinstance(self.input, str):
            return (self.input,)
        texts = tuple(item for item in self.input if isinstance(item, str))
        if texts:
            return texts
        single = tuple(item for item in self.input if isinstance(item, int))
        if single:
            return (single,)
        return tuple(tuple(item) for item in self.input if isinstance(item, list))


def _is_text(given: object) -> bool:
    return isinstance(given, str) and bool(given)


def _are_tokens(given: object) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(t, int) and not isinstance(t, bool) and t >= 0 for t in given)
    )


def to_embeddings(embedded: Embedded) -> dict[str, Any]:
    """Give OpenAI's list of embeddings with the ``compute`` extension."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": vector}
            for i, vector in enumerate(embedded.vectors)
        ],
        "model": embedded.model,
        "usage": {
            "prompt_tokens": embedded.usage.prompt_tokens,
            "total_tokens": embedded.usage.prompt_tokens,
        },
        "compute": {
            "request_id": embedded.request_id,
            "cost_usd": embedded.cost_nano_usd / NANO,
            "overhead_s": round(embedded.overhead_s, 6),
        },
    }


def embedding_headers(embedded: Embedded) -> dict[str, str]:
    """Give the headers of an answer, beside the request's id."""
    return {
        "x-rheostat-cost-usd": f"{embedded.cost_nano_usd / NANO:.9f}",
        "x-rheostat-overhead-ms": f"{embedded.overhead_s * 1e3:.3f}",
    }
