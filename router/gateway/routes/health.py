"""``GET /livez`` and ``GET /readyz``: probes; neither ever makes a paid call."""

from __future__ import annotations

from collections import Counter
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
    """Say whether requests can be served; 503 with the problems otherwise.

    How many upstreams are in which state is shown, without their names, as it needs no key; one
    that fails is no reason to take the gateway out of service.
    """
    problems = await engine.ready()
    upstreams = Counter(str(each.state) for each in engine.deployments())
    if problems:
        response.status_code = NOT_READY
        return {"status": "not ready", "problems": problems, "upstreams": upstreams}
    return {"status": "ready", "upstreams": upstreams}
