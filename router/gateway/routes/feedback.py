"""``POST /v1/feedback``: how good an answer was, for the ledger and for what learns from it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from router.gateway.bodies import JsonRoute
from router.gateway.dependencies import CallerDep, EngineDep
from router.gateway.schemas import Feedback
from storage.outcomes import Grade

routes = APIRouter(prefix="/v1", tags=["feedback"], route_class=JsonRoute)


@routes.post("/feedback")
async def create_feedback(body: Feedback, engine: EngineDep, caller: CallerDep) -> dict[str, Any]:
    """Record a judgement of a served request; 404 for one that the caller's tenant did not make."""
    grade = Grade(body.judged_quality, body.grader, body.weight, body.sample_prob)
    await engine.feedback(body.request_id, grade, caller.tenant)
    return {"object": "feedback", "request_id": body.request_id, "quality": grade.quality}
