"""From answers and grades to a policy, and back into the gateway that gave them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from parts import catalog, price

from policies import artifacts
from policies.outcomes import OutcomeTable
from policies.training import Training, train
from policies.tuning import Goal
from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings
from router.providers.simulated import build_simulated
from router.questions.registry import generate, grade
from router.routing.catalog import Model
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from storage.history import read_history
from storage.outcomes import read_episodes
from storage.policies import promote_policy, save_policy

if TYPE_CHECKING:
    from router.questions.base import Question
    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
QUESTIONS = generate(40, seed=3, families=["add", "multiply"])


def ask(client: httpx.Client, question: Question) -> dict[str, Any]:
    """Ask a question, grade the answer, post the grade; give what was said of the decision."""
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": question.text}],
        "compute": {"answer_kind": question.kind.value},
    }
    completion = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    told: dict[str, Any] = completion["compute"]
    correct = grade(question, completion["choices"][0]["message"]["content"]) == 1.0
    feedback = {"request_id": told["request_id"], "correct": correct, "grader": "test"}
    client.post("/v1/feedback", json=feedback).raise_for_status()
    return told | {"correct": correct}


def test_a_gateway_learns_from_its_own_graded_answers(sqlite_ledger: Ledger) -> None:
    """POST, feedback, fit, promote: the next decision carries the new policy and a prediction."""
    ledger = sqlite_ledger
    models = [
        Model(name, build_simulated(name, name, QUESTIONS), price(times))
        for name, times in (("small", 1), ("large", 20))
    ]
    parts = catalog(*models)
    chooser = Chooser(parts, ChooserSettings(exploration=1.0), np.random.default_rng(0))
    service = RoutingService(parts, chooser, ledger, ServiceSettings(heartbeat_s=0.05))
    app = create_app(service, GatewaySettings(), on_start=service.start, on_stop=service.aclose)
    with (
        serving(app) as base_url,
        httpx.Client(base_url=base_url, trust_env=False, timeout=30) as client,
    ):
        before = [ask(client, question) for question in QUESTIONS]
        assert {told["model"] for told in before} == {"small", "large"}
        assert {told["predicted_quality"] for told in before} == {None}
        assert all(told["policy_version"].startswith("safe:") for told in before)

        table = OutcomeTable.from_rows(ledger.read(read_history).rows)
        graded = dict(zip(table.texts["query_id"], table.quality.tolist(), strict=True))
        assert graded == {told["request_id"]: float(told["correct"]) for told in before}
        spent = dict(zip(table.texts["query_id"], table.numbers["cost_usd"], strict=True))
        assert spent == {told["request_id"]: told["cost_usd"] for told in before}

        training = Training(Goal(shadow_price_per_usd=1.0), trials=1)
        fitted = train(table, training, created_at=NOW)
        data = artifacts.to_bytes(fitted)
        ledger.write(lambda s: save_policy(s, fitted.version, data, fitted.manifest, NOW))
        assert ask(client, QUESTIONS[0])["predicted_quality"] is None
        ledger.write(lambda s: promote_policy(s, fitted.version, NOW))

        end = time.monotonic() + 20
        after = ask(client, QUESTIONS[0])
        while after["predicted_quality"] is None and time.monotonic() < end:
            time.sleep(0.02)
            after = ask(client, QUESTIONS[0])
    assert after["policy_version"] == f"{fitted.version}:epsilon=1.0"
    assert 0 < after["predicted_quality"] < 1
    assert 0 < after["difficulty"] < 1
    assert after["predicted_cost_usd"] > 0
    assert after["propensity"] == 0.5
    last = ledger.read(lambda session: list(read_episodes(session)))[-1]
    assert last.decision.policy_version == after["policy_version"]
    assert last.decision.predicted_quality == after["predicted_quality"]
    assert ledger.examine() == []
