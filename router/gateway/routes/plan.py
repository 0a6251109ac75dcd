"""``POST /v1/plan``: what would be done with a request, and why, without doing it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import CallerDep, EngineDep, SettingsDep
from router.gateway.schemas import ChatBody
from router.gateway.wire import to_plan
from router.json_codec import dumps

routes = APIRouter(prefix="/v1", tags=["plan"], route_class=JsonRoute)


@routes.post("/plan")
async def create_plan(
    body: ChatBody, engine: EngineDep, settings: SettingsDep, caller: CallerDep
) -> Response:
    """Show every arm with its predictions, and the decision; costs nothing."""
    asked = body.to_request(caller, settings)
    plan = await engine.plan(asked)
    return Response(dumps(to_plan(plan)), media_type="application/json")
