"""100 requests at once through a running gateway on a budget for 40: 40 served, 60 refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from parts import TEXT, WORST, at_worst, catalog, scripted

from cost_models.budgets import Budget, Period
from cost_models.money import to_usd
from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.service import RoutingService

if TYPE_CHECKING:
    from router.providers.scripted import Reply
    from router.types import SampleRequest
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
N_ASKED, N_FIT = 100, 40
LIMIT = N_FIT * WORST + WORST - 1
"""One nano-USD short of 41."""


def overlapping(request: SampleRequest, i: int) -> Reply:
    """Cost what was held, and take a while, so that holds are open side by side."""
    return replace(at_worst(request, i), delay_s=0.05)


async def ask(client: httpx.AsyncClient, *, stream: bool) -> httpx.Response:
    """Ask the usual question for at most 10 tokens."""
    body: dict[str, Any] = {
        "model": "auto",
        "messages": [{"role": "user", "content": TEXT}],
        "max_tokens": 10,
        "stream": stream,
    }
    return await client.post("/v1/chat/completions", json=body)


def told_cost_usd(response: httpx.Response) -> float:
    """Give what the client was told that its answer cost."""
    if response.headers["content-type"].startswith("application/json"):
        return float(response.json()["compute"]["cost_usd"])
    *events, done = [line for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert done == "data: [DONE]"
    return float(json.loads(events[-1].removeprefix("data: "))["compute"]["cost_usd"])


async def test_exactly_what_fits_is_admitted_and_the_rest_is_refused_with_the_figures(
    ledger: Ledger,
) -> None:
    """No overshoot and no false refusal, plain and streamed; the counters are the sums."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, LIMIT)])
    parts = catalog(scripted("small", overlapping))
    service = RoutingService(
        parts, Chooser(parts, ChooserSettings(exploration=0.0)), ledger, clock=lambda: NOW
    )
    app = create_app(
        service,
        GatewaySettings(clock=lambda: NOW, progress_s=60),
        on_start=service.start,
        on_stop=service.aclose,
    )
    limits = httpx.Limits(max_connections=N_ASKED)
    with serving(app) as base_url:
        async with httpx.AsyncClient(
            base_url=base_url, trust_env=False, timeout=100, limits=limits
        ) as client:
            responses = await asyncio.gather(
                *(ask(client, stream=i % 2 == 1) for i in range(N_ASKED))
            )
    served = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 402]
    assert (len(served), len(refused)) == (N_FIT, N_ASKED - N_FIT)
    assert {told_cost_usd(response) for response in served} == {WORST / 1e9}
    for response in refused:
        error = response.json()["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
        assert "budget of 'organisation'" in error["message"]
        facts = error["budget"]
        assert (facts["scope"], facts["period"]) == ("organisation", "day")
        assert facts["limit_usd"] == float(to_usd(LIMIT))
        assert facts["requested_usd"] == WORST / 1e9
        taken = facts["spent_usd"] + facts["reserved_usd"]
        assert taken == pytest.approx(N_FIT * WORST / 1e9)
        assert facts["resets_at"] == "2026-07-02T00:00:00+00:00"
        assert response.headers["retry-after"] == str(12 * 3600)
    (status,) = ledger.budget_status(NOW)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (N_FIT * WORST, 0)
    assert status.overshoot_nano_usd == 0
    assert ledger.examine() == []
