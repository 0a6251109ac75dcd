"""``POST /v1/embeddings``: texts to vectors, metered as everything else."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import CallerDep, EngineDep, SettingsDep
from router.gateway.embeddings import EmbeddingsBody, embedding_headers, to_embeddings
from router.gateway.sse import unless_gone
from router.gateway.wire import dumps

routes = APIRouter(prefix="/v1", tags=["embeddings"], route_class=JsonRoute)


@routes.post("/embeddings")
async def create_embeddings(
    body: EmbeddingsBody,
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
) -> Response:
    """Give one vector for each text, of a named embedding model; 402 when the budget is spent."""
    asked = body.to_request(caller, settings)
    embedded = await unless_gone(request.receive, engine.embed(asked))
    answer = dumps(to_embeddings(embedded))
    return Response(answer, headers=embedding_headers(embedded), media_type="application/json")
