"""A gateway from its configuration over real upstreams that fail: what is served, shown, paid."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import select
from upstream import Upstream

from router.cli.build import build_app, utc_now
from router.gateway.background import serving
from router.gateway.config import parse
from storage.models import CallRow, EntryRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from router.routing.service import RoutingService
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 10, "completion_tokens": 10}
CHEAP = "{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}"
DEAR = "{input_usd_per_million_tokens: 5, output_usd_per_million_tokens: 10}"
CHEAP_NANO_USD = 30_000
DEAR_NANO_USD = 150_000
"""What `USAGE` costs at each price."""
ASKED = {"messages": [{"role": "user", "content": "what is 2 + 2 ?"}], "max_tokens": 20}


@dataclass
class Gateway:
    """A running gateway with its ledger."""

    http: httpx.AsyncClient
    ledger: Ledger

    async def ask(self, model: str, **further: Any) -> httpx.Response:  # noqa: ANN401 - any field
        """Ask a model."""
        body = {"model": model, **ASKED, **further}
        return await self.http.post("/v1/chat/completions", json=body)

    def rows(self, kind: type[EntryRow | CallRow]) -> Sequence[Any]:
        """Read the rows of a table, oldest first; the books have to agree."""
        assert self.ledger.examine() == []
        wanted = select(kind).order_by(kind.id)
        return self.ledger.read(lambda session: session.scalars(wanted).all())

    def spent(self) -> int:
        """Nano-USD spent under the budget; nothing is held any more."""
        (status,) = self.ledger.budget_status(utc_now())
        assert status.facts.held_nano_usd == 0
        return status.facts.spent_nano_usd


@asynccontextmanager
async def gateway(folder: Path, models: str, more: str = "") -> AsyncIterator[Gateway]:
    """Serve models under a budget of 1 USD a day."""
    text = (
        f"ledger: sqlite:///{folder}/ledger.db\nmodels:\n{models}\nstrategies: [direct]\n"
        "exploration: 0\n"
        "budgets: [{scope: organisation, limit_usd: 1, period: day}]\n" + more
    )
    app = build_app(parse(text, "rheostat.yaml", {}))
    service: RoutingService = app.state.engine
    with serving(app) as base_url:
        async with httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=10) as http:
            yield Gateway(http, service.ledger)


@asynccontextmanager
async def upstreams(n: int) -> AsyncIterator[list[Upstream]]:
    """Run so many upstreams, each of which uses the same tokens."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(Upstream().running()) for _ in range(n)]
        for each in made:
            each.default = each.Served(usage=USAGE)
        yield made


async def test_a_deployment_that_fails_is_replaced_by_the_other(tmp_path: Path) -> None:
    """Every request is served; each call is charged what its place charges, and names it."""
    async with upstreams(2) as (bad, good):
        bad.default = bad.error(500, "broken")
        models = (
            f"  - {{name: small, model: openai/x, price: {CHEAP}, breaker: {{failures: 1}},\n"
            f"     deployments: [{{name: bad, base_url: '{bad.base_url}'}},\n"
            f"       {{name: good, base_url: '{good.base_url}', price: {DEAR}}}]}}"
        )
        async with gateway(tmp_path, models) as running:
            for _ in range(12):
                response = await running.ask("small")
                assert response.status_code == 200
                assert response.json()["compute"]["cost_usd"] == DEAR_NANO_USD / 1e9
            assert len(good.requests) == 12
            assert len(bad.requests) <= 1
            calls = running.rows(CallRow)
            assert {call.price_source for call in calls} == {"config, deployment good"}
            assert running.spent() == 12 * DEAR_NANO_USD == sum(c.cost_nano_usd for c in calls)


async def test_an_open_breaker_is_told_and_shown_and_costs_nothing(tmp_path: Path) -> None:
    """503 with when to come back; the gateway stays ready, the probe and the metrics show it."""
    async with upstreams(1) as (bad,):
        bad.default = bad.error(500, "broken")
        models = (
            f"  - {{name: small, model: openai/x, price: {CHEAP}, base_url: '{bad.base_url}',\n"
            "     breaker: {failures: 2, open_s: 30}}"
        )
        async with gateway(tmp_path, models) as running:
            ready = await running.http.get("/readyz")
            assert ready.json()["upstreams"] == {"small": {"default": "closed"}}
            for _ in range(2):
                assert (await running.ask("small")).status_code == 502
            refused = await running.ask("small")
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "upstream_unavailable"
            assert 28 <= int(refused.headers["retry-after"]) <= 30
            ready = await running.http.get("/readyz")
            assert ready.status_code == 200
            assert ready.json()["upstreams"] == {"small": {"default": "open"}}
            told = (await running.http.get("/metrics")).text.splitlines()
            at = 'model="small",deployment=""'
            assert f'rheostat_upstream_state{{{at},state="open"}} 1' in told
            assert f'rheostat_upstream_state{{{at},state="closed"}} 0' in told
            assert f'rheostat_upstream_calls_total{{{at},outcome="failed"}} 2' in told
            assert f"rheostat_upstream_calls_in_flight{{{at}}} 0" in told
            assert len(bad.requests) == 2
            assert running.spent() == 0
