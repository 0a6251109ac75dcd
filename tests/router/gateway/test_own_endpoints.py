"""Models, plans, feedback, probes, the OpenAPI document, and the life of the application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scripted_engine import ScriptedEngine

from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings
from router.providers.breaker import BreakerState
from router.providers.deployments import DeploymentState

if TYPE_CHECKING:
    import httpx

BODY = {"model": "auto", "messages": [{"role": "user", "content": "what is 2 + 2 ?"}]}


def test_models_are_the_real_ones_and_auto(client: httpx.Client) -> None:
    """``auto`` comes first; each model can be asked for by name."""
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["auto", "small", "large"]
    assert client.get("/v1/models/small").json() == {
        "id": "small",
        "object": "model",
        "created": 0,
        "owned_by": "rheostat",
    }


def test_an_unknown_model_is_a_404(client: httpx.Client) -> None:
    """The error names the models that there are."""
    response = client.get("/v1/models/org/other")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "auto, small, large" in response.json()["error"]["message"]


def test_a_plan_shows_every_arm_and_runs_none(client: httpx.Client, engine: ScriptedEngine) -> None:
    """The golden plan: the decision, and each candidate with its predictions or its reason."""
    plan = client.post("/v1/plan", json={**BODY, "compute": {"max_cost_usd": 1}}).json()
    decision = {
        "arm": "small|direct",
        "model": "small",
        "strategy": "direct",
        "attempt": 0,
        "propensity": 0.98,
        "predicted_quality": 0.9,
        "predicted_cost_usd": 0.0001,
        "difficulty": 0.25,
        "policy_version": "p1",
        "why": "the cheapest arm that is good enough",
    }
    assert plan == {
        "object": "plan",
        "request_id": engine.requests[0].request_id,
        "decision": decision,
        "difficulty": 0.25,
        "in_distribution": True,
        "policy_version": "p1",
        "candidates": [
            {
                "arm": "small|direct",
                "model": "small",
                "strategy": "direct",
                "predicted_quality": 0.9,
                "expected_cost_usd": 0.0001,
                "expected_latency_s": 1.5,
                "worst_case_usd": 0.0002,
                "rejected": None,
            },
            {
                "arm": "large|cot",
                "model": "large",
                "strategy": "cot",
                "predicted_quality": None,
                "expected_cost_usd": None,
                "expected_latency_s": None,
                "worst_case_usd": None,
                "rejected": "it does not fit its context",
            },
        ],
    }
    assert engine.settled == []
    assert engine.requests[0].limits.max_cost_usd == 1.0


@pytest.mark.parametrize(
    ("fields", "grade"),
    [
        pytest.param({"correct": True}, (1.0, "client", 1.0), id="right"),
        pytest.param({"correct": False}, (0.0, "client", 1.0), id="wrong"),
        pytest.param(
            {"quality": 0.5, "grader": "reviewer", "weight": 2}, (0.5, "reviewer", 2.0), id="half"
        ),
    ],
)
def test_feedback_reaches_the_engine(
    client: httpx.Client,
    engine: ScriptedEngine,
    fields: dict[str, Any],
    grade: tuple[float, str, float],
) -> None:
    """Right, wrong, or anything between, with who judged it and how much that counts."""
    request_id = client.post("/v1/chat/completions", json=BODY).json()["id"]
    response = client.post("/v1/feedback", json={"request_id": request_id, **fields})
    assert response.json() == {
        "object": "feedback",
        "request_id": request_id,
        "quality": grade[0],
    }
    assert engine.grades == [(request_id, *grade)]


def test_feedback_for_an_unknown_request_is_a_404(client: httpx.Client) -> None:
    """Nobody can grade what nobody asked."""
    response = client.post("/v1/feedback", json={"request_id": "x", "correct": True})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "entry_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({}, "quality", id="no judgement"),
        pytest.param({"correct": True, "quality": 1}, "quality", id="two judgements"),
        pytest.param({"quality": 1.5}, "quality", id="above one"),
        pytest.param({"correct": "yes"}, "correct", id="no truth value"),
        pytest.param({"correct": True, "weight": 0}, "weight", id="no weight"),
        pytest.param({"correct": True, "grade": 1}, "grade", id="an unknown field"),
    ],
)
def test_bad_feedback_is_refused_by_name(
    client: httpx.Client, engine: ScriptedEngine, fields: dict[str, Any], param: str
) -> None:
    """400 with the field in ``param``; nothing is recorded."""
    response = client.post("/v1/feedback", json={"request_id": "x", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert engine.grades == []


def test_probes_say_live_and_ready(client: httpx.Client, engine: ScriptedEngine) -> None:
    """Alive is one thing, ready another: problems make it 503 and are listed."""
    assert client.get("/livez").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready", "upstreams": {}}
    engine.states = [DeploymentState("small", "eu", BreakerState.HALF_OPEN, 0, 3, 5)]
    assert client.get("/readyz").json()["upstreams"] == {"half_open": 1}
    engine.problems.append("the ledger is gone")
    response = client.get("/readyz")
    assert response.status_code == 503
    told = response.json()
    assert (told["status"], told["problems"]) == ("not ready", ["the ledger is gone"])
    assert client.get("/livez").status_code == 200
    assert engine.requests == []


def test_the_openapi_document_tells_what_is_served(client: httpx.Client) -> None:
    """Every endpoint with its body, and errors in the form that they really have."""
    document = client.get("/openapi.json").json()
    assert document["paths"].keys() == {
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/responses",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/plan",
        "/v1/feedback",
        "/livez",
        "/readyz",
        "/metrics",
    }
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert "422" not in chat["responses"]
    assert chat["responses"]["4XX"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorBody"
    }
    assert "text/event-stream" in chat["responses"]["200"]["content"]
    assert "compute" in document["components"]["schemas"]["ChatBody"]["properties"]


def test_the_engine_is_started_before_and_stopped_after() -> None:
    """The hooks are awaited on the loop that serves."""
    engine = ScriptedEngine()
    app = create_app(engine, GatewaySettings(), on_start=engine.start, on_stop=engine.stop)
    with serving(app):
        assert engine.events == ["start"]
    assert engine.events == ["start", "stop"]
