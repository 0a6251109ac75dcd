"""``POST /v1/embeddings``: texts to vectors, metered as everything else."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import CallerDep, EngineDep, SettingsDep
from router.gateway.embeddings import EmbeddingsBody, embedding_headers, to_embeddings
from router.gateway.rates import let_in
from router.gateway.sse import unless_gone
from router.json_codec import dumps

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
    asked, named = await let_in(engine, body.to_request(caller, settings), caller)
    embedded = await unless_gone(request.receive, engine.embed(asked))
    answer = dumps(to_embeddings(embedded))
    headers = {**embedding_headers(embedded), **named}
    return Response(answer, headers=headers, media_type="application/json")
