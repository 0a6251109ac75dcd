"""What endpoints are handed: the engine, the settings, and who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol, cast

from fastapi import Depends, Request

from router.gateway.compute import from_headers
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from router.gateway.compute import Compute
    from router.providers.deployments import DeploymentState
    from router.routing.types import ChatRequest, Plan, Served
    from router.types import Chunk
    from storage.outcomes import Grade


class Engine(Protocol):
    """What the gateway serves; errors of RheostatError's family pass through it to the client."""

    def models(self) -> Sequence[str]:
        """Names of the configured models."""
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

    def deployments(self) -> Sequence[DeploymentState]:
        """Say how the upstreams do that models are asked at; those of this process are none."""
        ...


class Caller(NamedTuple):
    """One request's own id, the tenant and team that it is charged to, and its models.

    ``compute`` is what its headers ask of routing.
    """

    request_id: str
    tenant: str
    allowed_models: tuple[str, ...] | None = None
    compute: Compute | None = None
    team: str | None = None


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
    if allowed is not None:
        configured = (await engine_of(request)).models()
        allowed = tuple(name for name in allowed if name in configured)
    return Caller(state.request_id, state.tenant, allowed, compute, state.team)


EngineDep = Annotated[Engine, Depends(engine_of)]
SettingsDep = Annotated[GatewaySettings, Depends(settings_of)]
CallerDep = Annotated[Caller, Depends(caller_of)]
