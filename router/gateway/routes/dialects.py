"""``POST /v1/messages`` and ``POST /v1/responses``: other dialects, on the same engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import CallerDep, EngineDep, SettingsDep
from router.gateway.dialects.messages_body import MessagesBody
from router.gateway.dialects.messages_wire import MessageWire, to_message
from router.gateway.dialects.responses_body import ResponsesBody
from router.gateway.dialects.responses_wire import ResponseWire, to_response
from router.gateway.handlers import failure
from router.gateway.rates import let_in
from router.gateway.sse import EventStream, dialect_events, unless_gone
from router.gateway.wire import headers
from router.json_codec import dumps

if TYPE_CHECKING:
    from router.gateway.dependencies import Engine
    from router.gateway.settings import GatewaySettings
    from router.gateway.sse import EventWire
    from router.routing.types import ChatRequest

routes = APIRouter(prefix="/v1", tags=["dialects"], route_class=JsonRoute)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer, or with `stream` its events; `compute` beside it.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


@routes.post("/messages", responses=STREAM)
async def create_message(
    body: MessagesBody,
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
) -> Response:
    """Answer a conversation in Anthropic's form, with the arm that the policy picks."""
    asked, left = await let_in(engine, body.to_request(caller, settings), caller)
    if body.stream:
        wire = MessageWire(asked.request_id, asked.model)
        return await _streamed(request, engine, settings, asked, wire, left)
    served = await unless_gone(request.receive, engine.answer(asked))
    answer = dumps(to_message(served))
    return Response(answer, headers=headers(served) | left, media_type="application/json")


@routes.post("/responses", responses=STREAM)
async def create_response(
    body: ResponsesBody,
    request: Request,
    engine: EngineDep,
    settings: SettingsDep,
    caller: CallerDep,
) -> Response:
    """Answer in the form of OpenAI's responses, with the arm that the policy picks."""
    asked, left = await let_in(engine, body.to_request(caller, settings), caller)
    created = int(settings.clock().timestamp())
    if body.stream:
        wire = ResponseWire(asked.request_id, asked.model, created, body.echo())
        return await _streamed(request, engine, settings, asked, wire, left)
    served = await unless_gone(request.receive, engine.answer(asked))
    answer = dumps(to_response(served, created, body.echo()))
    return Response(answer, headers=headers(served) | left, media_type="application/json")


async def _streamed(  # noqa: PLR0913, PLR0917 - what the endpoints were handed
    request: Request,
    engine: Engine,
    settings: GatewaySettings,
    asked: ChatRequest,
    wire: EventWire,
    left: dict[str, str],
) -> Response:
    def told(error: BaseException) -> bytes:
        found = failure(error, asked.request_id, settings)
        return wire.error(found.status, found.error)

    source = dialect_events(engine.stream(asked), wire)
    response = EventStream(source, told, progress_s=settings.progress_s, headers=left)
    await response.begin(request.receive)
    return response
