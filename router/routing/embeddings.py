"""Embeddings as the service sells them: the models, what a request holds, and what is written down.

There is nothing to decide: the model is named, and one call is made. The money goes the same way
as any other, through a hold and a settlement.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cost_models.estimates import CallBound, worst_case_usage
from cost_models.money import to_nano_usd, to_usd
from cost_models.types import Arm, Usage
from policies.errors import NoAffordableArmError
from policies.types import AnswerKind, Decision, Query
from router.errors import ProviderTimeoutError, RequestError
from router.providers.base import Tally
from router.routing.candidates import cap_nano_usd
from router.routing.leases import ledger_call
from router.routing.scopes import scopes_of
from router.types import CallRecord, CallRole
from storage.ledger import Asked, SettleEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.pricing import Price
    from router.providers.embeddings import Embedder, EmbeddingRequest, Vector
    from storage.rates import Permit

STRATEGY = "embeddings"
"""Stands where an arm has its strategy: what the ledger groups embeddings by."""

VERSION = "fixed:embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A configured embedding model; ``vendor`` is who serves it."""

    name: str
    embedder: Embedder
    price: Price
    vendor: str = ""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """One request as the engine sees it; who pays is as in `router.routing.types.ChatRequest`."""

    request_id: str
    model: str
    embedding: EmbeddingRequest
    max_cost_usd: float | None = None
    tenant: str = "default"
    team: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    permit: Permit | None = None

    @property
    def likely_tokens(self) -> int:
        """A guess from the bytes of the texts; tokens are counted where they come as such."""
        return self.embedding.estimated().prompt_tokens

    def asked(self) -> Asked:
        """Give what the ledger keeps: who asked, and a hash of the first text."""
        first = self.embedding.inputs[0]
        return Asked(
            query=Query(
                query_id=self.request_id,
                text=first if isinstance(first, str) else " ".join(map(str, first)),
                answer_kind=AnswerKind.TEXT,
                tenant=self.tenant,
            ),
            model_asked=self.model,
            scopes=scopes_of(
                self.tenant, self.user, team=self.team, tags=self.tags, session=self.session
            ),
            end_user=self.user,
            team=self.team,
            tags=self.tags,
            session=self.session,
            keep_query_text=False,
        )


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors after the commit, in the order of the inputs."""

    request_id: str
    model: str
    vectors: tuple[Vector, ...]
    usage: Usage
    cost_nano_usd: int
    overhead_s: float


@dataclass(slots=True)
class EmbeddingRun:
    """One call between its hold and its settlement; ``worst_nano_usd`` is what is held."""

    model: EmbeddingModel
    request: EmbedRequest
    worst: Usage
    worst_nano_usd: int
    tally: Tally = field(default_factory=Tally)
    latency_s: float = 0.0

    @property
    def decision(self) -> Decision:
        """The arm, which was named."""
        return Decision(Arm(self.model.name, STRATEGY), 1.0, VERSION, reason="the named model")

    @property
    def usage(self) -> Usage:
        """What was used, at worst where nobody says it."""
        return self.tally.usage if self.tally.final else self.worst

    async def vectors(self, within_s: float) -> tuple[Vector, ...]:
        """Make the call within so many seconds; ProviderTimeoutError when they are over."""
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                return await self.model.embedder.embed(self.request.embedding, self.tally)
        except TimeoutError as error:
            msg = "the request's deadline came before the embeddings"
            raise ProviderTimeoutError(self.model.name, msg) from error
        finally:
            self.latency_s = time.monotonic() - began_s

    def settlement(self, entry_id: int, told: str | None, *, cancelled: bool) -> SettleEntry:
        """Give what the ledger is to write; ``told`` says why there are no vectors."""
        usage, price = self.usage, self.model.price
        call = CallRecord(
            model=self.model.name,
            role=CallRole.EMBED,
            usage=usage,
            cost_nano_usd=to_nano_usd(price.cost_usd(usage)),
            latency_s=self.latency_s,
            price_source=price.source,
            status="ok" if told is None else "cancelled" if cancelled else "error",
            in_doubt=not self.tally.final,
            error=told,
        )
        turned_away = (each.record(call, price.source) for each in self.tally.turned_away)
        calls = tuple(ledger_call(each, self.model.vendor) for each in (call, *turned_away))
        return SettleEntry(entry_id, calls, self.latency_s, complete=told is None, error=told)


def embedding_run(models: Mapping[str, EmbeddingModel], request: EmbedRequest) -> EmbeddingRun:
    """Bound one request. RequestError for an unknown model, NoAffordableArmError above its cap."""
    model = models.get(request.model)
    if model is None:
        known = f"use one of: {', '.join(models)}" if models else "none is configured"
        msg = f"the embedding model {request.model!r} does not exist here; {known}"
        raise RequestError(msg, param="model", code="model_not_found")
    bound = CallBound(request.embedding.bound_tokens, 0)
    worst = worst_case_usage(bound, None, native_n=True)
    worst_nano_usd = to_nano_usd(model.price.worst_case_usd(worst))
    cap = cap_nano_usd(request.max_cost_usd)
    if cap is not None and worst_nano_usd > cap:
        msg = (
            f"these texts can cost {to_usd(worst_nano_usd):.9f} USD, above max_cost_usd "
            f"{to_usd(cap):.9f}; "
            "send fewer, or raise it"
        )
        raise NoAffordableArmError(msg)
    return EmbeddingRun(model, request, worst, worst_nano_usd)
