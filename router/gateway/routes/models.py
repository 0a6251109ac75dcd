"""``GET /v1/models``: the configured models, and ``auto``, which picks among them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from router.errors import RequestError
from router.gateway.dependencies import EngineDep
from router.routing.types import AUTO

OWNER = "rheostat"

routes = APIRouter(prefix="/v1/models", tags=["models"])


@routes.get("")
async def list_models(engine: EngineDep) -> dict[str, Any]:
    """List what ``model`` may be."""
    return {"object": "list", "data": [_shown(name) for name in (AUTO, *engine.models())]}


@routes.get("/{name:path}")
async def get_model(name: str, engine: EngineDep) -> dict[str, Any]:
    """Show one model; 404 for one that is not configured."""
    known = (AUTO, *engine.models())
    if name not in known:
        msg = f"the model {name!r} does not exist here; use one of: {', '.join(known)}"
        raise RequestError(msg, param="model", code="model_not_found")
    return _shown(name)


def _shown(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}
