"""``GET /metrics``: figures of this process for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter, Request, Response

from router.gateway.dependencies import EngineDep
from router.gateway.metrics import MEDIA_TYPE

if TYPE_CHECKING:
    from router.gateway.metrics import Metrics

routes = APIRouter(tags=["health"])

TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Requests by route and status, how long they took, and upstreams.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


@routes.get("/metrics", response_class=Response, responses=TEXT)
async def show_metrics(request: Request, engine: EngineDep) -> Response:
    """Show requests by route and status, how long they took, and how the upstreams do."""
    metrics = cast("Metrics", request.app.state.metrics)
    return Response(metrics.text(engine.deployments()), media_type=MEDIA_TYPE)
