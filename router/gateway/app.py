"""The application: routes, the door in front of them, errors behind them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from router.gateway import handlers
from router.gateway.door import Door
from router.gateway.idempotency import Idempotency
from router.gateway.metrics import Metrics
from router.gateway.routes import (
    completions,
    dialects,
    embeddings,
    feedback,
    health,
    metrics,
    models,
    plan,
)
from router.gateway.schemas import ErrorBody
from router.gateway.shortcut import Shortcut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from router.gateway.dependencies import Engine
    from router.gateway.idempotency import AnswerStore
    from router.gateway.settings import GatewaySettings
    from router.gateway.telemetry import Telemetry

API_VERSION = "1"
"""Version of the HTTP interface, which is in its paths too; not of the package."""

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "refused; `code` says why"},
    "5XX": {"model": ErrorBody, "description": "failed; `code` says where"},
}


def create_app(  # noqa: PLR0913 - what is served, and what happens around it
    engine: Engine,
    settings: GatewaySettings,
    *,
    answers: AnswerStore | None = None,
    telemetry: Telemetry | None = None,
    on_start: Callable[[], Awaitable[None]] | None = None,
    on_stop: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """Build the gateway over ``engine``.

    ``answers`` keeps those to idempotency keys; without it they are kept in this process.
    With ``telemetry`` every request that the door lets in is traced.
    ``on_start`` is awaited before the first request, ``on_stop`` after the last one, also when
    ``on_start`` raised. There are no pages that load foreign scripts, and no CORS.
    """
    once = Idempotency(store=answers)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            if on_start is not None:
                await on_start()
            yield
        finally:
            await once.aclose()
            if on_stop is not None:
                await on_stop()

    app = FastAPI(
        title="Rheostat",
        summary="An OpenAI-compatible gateway that decides how much thinking a request is worth.",
        version=API_VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.engine = engine
    app.state.settings = settings
    app.state.metrics = Metrics()
    handlers.install(app)
    for room in (completions, dialects, embeddings, models, plan, feedback, health, metrics):
        app.include_router(room.routes, responses=ERRORS)
    app.add_middleware(Shortcut, handlers=app.exception_handlers)
    if telemetry is not None:
        from router.gateway.telemetry import TracingMiddleware  # noqa: PLC0415 - an extra

        app.add_middleware(TracingMiddleware, telemetry=telemetry)
    app.add_middleware(Door, settings=settings, once=once, metrics=app.state.metrics)
    return app
