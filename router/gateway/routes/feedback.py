"""``POST /v1/feedback``: how good an answer was, for the ledger and for what learns from it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import EngineDep
from router.gateway.schemas import Feedback

routes = APIRouter(prefix="/v1", tags=["feedback"], route_class=JsonRoute)


@routes.post("/feedback")
async def create_feedback(body: Feedback, engine: EngineDep) -> dict[str, Any]:
    """Record a judgement of a served request; 404 for a request that nobody made."""
    quality = body.judged_quality
    await engine.feedback(body.request_id, quality, body.grader, body.weight)
    return {"object": "feedback", "request_id": body.request_id, "quality": quality}
