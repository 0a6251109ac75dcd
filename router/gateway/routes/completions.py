"""``POST /v1/chat/completions``: the main job, whole or streamed."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import CallerDep, EngineDep, SettingsDep
from router.gateway.handlers import failure
from router.gateway.rates import let_in
from router.gateway.schemas import ChatBody
from router.gateway.settings import GatewaySettings
from router.gateway.sse import EventStream, events, unless_gone, whole_events
from router.gateway.wire import ChunkWire, headers, to_completion
from router.json_codec import dumps

routes = APIRouter(prefix="/v1", tags=["completions"], route_class=JsonRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A chat completion, or with `stream` its chunks; `compute` beside it.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


@routes.post("/chat/completions", responses=STREAM)
async def create_completion(
    body: ChatBody,
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
) -> Response:
    """Answer a conversation with the arm that the policy picks; 402 when the budget is spent."""
    asked, left = await let_in(engine, body.to_request(caller, settings), caller)
    created = int(settings.clock().timestamp())
    if not body.stream:
        served = await unless_gone(request.receive, engine.answer(asked))
        answer = dumps(to_completion(served, created))
        return Response(answer, headers=headers(served) | left, media_type="application/json")
    wire = ChunkWire(asked.request_id, asked.model, created, include_usage=body.include_usage)
    if asked.task.n == 1:
        source = events(engine.stream(asked), wire)
    else:
        source = whole_events(partial(engine.answer, asked), wire)
    response = EventStream(
        source,
        partial(_error_event, asked.request_id, settings),
        progress_s=settings.progress_s,
        headers=left,
    )
    await response.begin(request.receive)
    return response


def _error_event(request_id: str, settings: GatewaySettings, error: BaseException) -> bytes:
    """Give the event for an error after the first byte; the status is 200 by then."""
    return b"data: " + dumps({"error": failure(error, request_id, settings).error}) + b"\n\n"
