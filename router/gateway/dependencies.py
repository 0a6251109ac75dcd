"""What endpoints are handed: the engine, the settings, and who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol, cast

from fastapi import Depends, Request

from cost_models.rates import NO_LIMITS
from router.gateway.compute import from_headers
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from cost_models.rates import RateLimits
    from router.gateway.compute import Compute
    from router.routing.embeddings import Embedded, EmbedRequest
    from router.routing.types import ChatRequest, Plan, Served
    from router.types import Chunk
    from storage.outcomes import Grade
    from storage.rates import Permit


class Engine(Protocol):
    """What the gateway serves; errors of RheostatError's family pass through it to the client."""

    def models(self) -> Sequence[str]:
        """Names of the configured models."""
        ...

    async def admit(self, request: ChatRequest | EmbedRequest, limits: RateLimits) -> Permit:
        """Count a request in the limits of its key; RateLimitedError where it comes too fast.

        The request has to be answered or streamed with the permit, which ends with it.
        """
        ...

    async def policies(self) -> Sequence[str]:
        """Versions of the policies that ``auto/VERSION`` can name, the newest first."""
        ...

    def embedding_models(self) -> Sequence[str]:
        """Names of the configured embedding models."""
        ...

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Turn texts into vectors; the cost is committed when this returns."""
        ...

    async def answer(self, request: ChatRequest) -> Served:
        """Serve one request; its cost is committed when this returns."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Served, None]:
        """Yield chunks as they arrive, then exactly one Served after the commit.

        Closing the generator or cancelling its task ends the work, which is settled just the same.
        """
        ...

    async def plan(self, request: ChatRequest) -> Plan:
        """Decide without running."""
        ...

    async def feedback(self, request_id: str, grade: Grade, tenant: str) -> None:
        """Record a judgement; EntryNotFoundError for a request that ``tenant`` did not make."""
        ...

    async def ready(self) -> list[str]:
        """Name what keeps the engine from serving; never a paid call."""
        ...


class Caller(NamedTuple):
    """One request's own id, the tenant and team that it is charged to, its models and limits.

    ``compute`` is what its headers ask of routing.
    """

    request_id: str
    tenant: str
    allowed_models: tuple[str, ...] | None = None
    allowed_embeddings: tuple[str, ...] | None = None
    compute: Compute | None = None
    team: str | None = None
    limits: RateLimits = NO_LIMITS


async def engine_of(request: Request) -> Engine:
    """Give the engine of the application."""
    return cast("Engine", request.app.state.engine)


async def settings_of(request: Request) -> GatewaySettings:
    """Give the settings of the application."""
    return cast("GatewaySettings", request.app.state.settings)


async def caller_of(request: Request) -> Caller:
    """Give what the door found out, and what the headers ask; RequestError for a bad header.

    Models that are no longer configured are nobody's to use.
    """
    state = request.state
    compute = from_headers(request.scope["headers"])
    allowed: tuple[str, ...] | None = state.allowed_models
    embeddings: tuple[str, ...] | None = None
    if allowed is not None:
        engine = await engine_of(request)
        chat, embedding = engine.models(), engine.embedding_models()
        embeddings = tuple(name for name in allowed if name in embedding)
        allowed = tuple(name for name in allowed if name in chat)
    return Caller(
        request_id=state.request_id,
        tenant=state.tenant,
        allowed_models=allowed,
        allowed_embeddings=embeddings,
        compute=compute,
        team=state.team,
        limits=state.limits,
    )


EngineDep = Annotated[Engine, Depends(engine_of)]
SettingsDep = Annotated[GatewaySettings, Depends(settings_of)]
CallerDep = Annotated[Caller, Depends(caller_of)]
