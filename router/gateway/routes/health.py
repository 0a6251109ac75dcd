"""``GET /livez`` and ``GET /readyz``: probes; neither ever makes a paid call."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from router.gateway.dependencies import EngineDep

NOT_READY = 503

routes = APIRouter(tags=["health"])


@routes.get("/livez")
async def live() -> dict[str, Any]:
    """Say that the process answers."""
    return {"status": "live"}


@routes.get("/readyz")
async def ready(engine: EngineDep, response: Response) -> dict[str, Any]:
    """Say whether requests can be served; 503 with the problems otherwise."""
    problems = await engine.ready()
    if problems:
        response.status_code = NOT_READY
        return {"status": "not ready", "problems": problems}
    return {"status": "ready"}
