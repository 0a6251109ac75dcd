"""``GET /v1/models``: the models that a key may use, and ``auto``, which picks among them.

``auto/VERSION`` picks by a policy that the ledger keeps, whichever is in service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from router.errors import RequestError
from router.gateway.dependencies import CallerDep, EngineDep
from router.routing.types import AUTO, AUTO_POLICY

if TYPE_CHECKING:
    from router.gateway.dependencies import Caller, Engine

OWNER = "rheostat"

routes = APIRouter(prefix="/v1/models", tags=["models"])


@routes.get("")
async def list_models(engine: EngineDep, caller: CallerDep) -> dict[str, Any]:
    """List what ``model`` may be."""
    return {"object": "list", "data": [_shown(name) for name in await _usable(engine, caller)]}


@routes.get("/{name:path}")
async def get_model(name: str, engine: EngineDep, caller: CallerDep) -> dict[str, Any]:
    """Show one model; 404 for one that is not configured, or that the key may not use."""
    known = await _usable(engine, caller)
    if name not in known:
        msg = f"the model {name!r} does not exist here; use one of: {', '.join(known)}"
        raise RequestError(msg, param="model", code="model_not_found")
    return _shown(name)


async def _usable(engine: Engine, caller: Caller) -> tuple[str, ...]:
    allowed = caller.allowed_models
    named = (name for name in engine.models() if allowed is None or name in allowed)
    embeds, embeddings = caller.allowed_embeddings, engine.embedding_models()
    others = (name for name in embeddings if embeds is None or name in embeds)
    policies = (AUTO_POLICY + version for version in await engine.policies())
    return (AUTO, *named, *others, *policies)


def _shown(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}
