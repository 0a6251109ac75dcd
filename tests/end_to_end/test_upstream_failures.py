"""A gateway from its configuration over real upstreams that fail: what is served, shown, paid."""

from __future__ import annotations

import asyncio
import json
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
    service: RoutingService = app.state.engine.service
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
            where = {(call.status, call.price_source) for call in calls}
            assert ("ok", "config, deployment good") in where
            assert where <= {
                ("ok", "config, deployment good"),
                ("turned_away", "config, deployment bad"),
            }
            assert len(calls) == 12 + len(bad.requests)
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
            assert ready.json()["upstreams"] == {"closed": 1}
            for _ in range(2):
                assert (await running.ask("small")).status_code == 502
            refused = await running.ask("small")
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "upstream_unavailable"
            assert 28 <= int(refused.headers["retry-after"]) <= 30
            ready = await running.http.get("/readyz")
            assert ready.status_code == 200
            assert ready.json()["upstreams"] == {"open": 1}
            told = (await running.http.get("/metrics")).text.splitlines()
            at = 'model="small",deployment=""'
            assert f'rheostat_upstream_state{{{at},state="open"}} 1' in told
            assert f'rheostat_upstream_state{{{at},state="closed"}} 0' in told
            assert f'rheostat_upstream_calls_total{{{at},outcome="failed"}} 2' in told
            assert f"rheostat_upstream_calls_in_flight{{{at}}} 0" in told
            assert len(bad.requests) == 2
            assert running.spent() == 0


def two_models(first: Upstream, second: Upstream, more: str = "") -> str:
    """Configure a dear model at one upstream, and a cheap one at the other."""
    return (
        f"  - {{name: dear, model: openai/x, price: {DEAR}, base_url: '{first.base_url}'{more}}}\n"
        f"  - {{name: cheap, model: openai/y, price: {CHEAP}, base_url: '{second.base_url}'}}"
    )


def two_deployments(first: Upstream, second: Upstream, more: str = "") -> str:
    """Configure one model that is served at two places, ``a`` and ``b``."""
    return (
        f"  - {{name: small, model: openai/x, price: {CHEAP}{more},\n"
        f"     deployments: [{{name: a, base_url: '{first.base_url}'}},\n"
        f"       {{name: b, base_url: '{second.base_url}'}}]}}"
    )


async def test_another_arm_answers_and_the_client_is_told(tmp_path: Path) -> None:
    """The lost call stays in doubt at its worst case; both are in `compute` and in the ledger."""
    async with upstreams(2) as (first, second):
        first.default = first.Served(cut_after=0)
        async with gateway(tmp_path, two_models(first, second)) as running:
            response = await running.ask("auto")
            told = response.json()["compute"]
            entries = running.rows(EntryRow)
            assert [(e.attempt, e.model, e.status) for e in entries] == [
                (0, "dear", "in_doubt"),
                (1, "cheap", "settled"),
            ]
            (failed,) = told["fallbacks"]
            assert (failed["arm"], told["arm"], told["attempt"]) == (
                "dear|direct",
                "cheap|direct",
                1,
            )
            assert failed["cost_usd"] == entries[0].cost_nano_usd / 1e9
            assert entries[0].cost_nano_usd == entries[0].held_nano_usd
            assert entries[1].cost_nano_usd == CHEAP_NANO_USD
            assert running.spent() == sum(e.cost_nano_usd for e in entries)
            assert told["cost_usd"] == running.spent() / 1e9
            assert response.headers["x-rheostat-arm"] == "cheap|direct"


async def test_arms_whose_upstream_is_left_alone_are_not_chosen(tmp_path: Path) -> None:
    """After its breaker opened nothing is sent there; the plan says why it is out."""
    async with upstreams(2) as (first, second):
        first.default = first.error(500, "broken")
        models = two_models(first, second, ", breaker: {failures: 2}")
        async with gateway(tmp_path, models) as running:
            for _ in range(5):
                assert (await running.ask("auto")).json()["compute"]["model"] == "cheap"
            assert len(first.requests) == 2
            assert [e.model for e in running.rows(EntryRow)] == [
                *["dear", "cheap"] * 2,
                *["cheap"] * 3,
            ]
            plan = await running.http.post("/v1/plan", json={"model": "auto", **ASKED})
            out = {c["model"]: c["rejected"] for c in plan.json()["candidates"]}
            assert out == {"dear": "its upstream is left alone for now", "cheap": None}
            assert running.spent() == 5 * CHEAP_NANO_USD


async def test_a_stream_that_does_not_begin_in_time_comes_from_another(tmp_path: Path) -> None:
    """A role was sent and no token: the upstream is hung up on, and the client sees one stream."""
    async with upstreams(2) as (first, second):
        first.default = first.Served(texts=("one two",), gap_s=30)
        second.default = second.Served(texts=("it is four",), usage=USAGE)
        models = two_models(first, second, ", timeouts: {first_token_s: 0.1}, fallbacks: [cheap]")
        async with gateway(tmp_path, models) as running:
            response = await running.ask("dear", stream=True)
            events = [
                json.loads(line.removeprefix("data: "))
                for line in response.text.splitlines()
                if line.startswith("data: {")
            ]
            deltas = [event["choices"][0]["delta"] for event in events]
            assert "".join(delta.get("content") or "" for delta in deltas) == "it is four"
            assert sum("role" in delta for delta in deltas) == 1
            (failed,) = events[-1]["compute"]["fallbacks"]
            assert "first_token_s" in failed["error"]
            await first.hung_up.wait()
            assert [e.status for e in running.rows(EntryRow)] == ["in_doubt", "settled"]
            assert events[-1]["compute"]["cost_usd"] == running.spent() / 1e9


async def test_a_lost_call_is_made_again_at_another_deployment(tmp_path: Path) -> None:
    """It may have been billed, so it is an attempt of its own: once for each further place."""
    async with upstreams(2) as (first, second):
        models = two_deployments(first, second)
        for each in (first, second):
            each.replies.append(each.Served(cut_after=0))
        async with gateway(tmp_path, models) as running:
            assert (await running.ask("small")).status_code == 502
            assert len(first.requests) == len(second.requests) == 1
            first.replies.append(first.Served(cut_after=0))
            for _ in range(6):
                assert (await running.ask("small")).status_code == 200
            entries = running.rows(EntryRow)
            lost = [e for e in entries if e.status == "in_doubt"]
            assert [e.attempt for e in entries[:2]] == [0, 1]
            assert 2 <= len(lost) <= 3
            assert running.spent() == sum(e.cost_nano_usd for e in entries)


async def test_a_slow_call_is_hedged_and_both_are_paid(tmp_path: Path) -> None:
    """The answer comes from the other place; the slow one is hung up on, in doubt at its worst."""
    async with upstreams(2) as (first, second):
        models = two_deployments(first, second, ", hedge_quantile: 0.9")
        async with gateway(tmp_path, models) as running:
            for _ in range(20):
                assert (await running.ask("small")).json()["compute"]["calls"] == 1
            assert {call.role for call in running.rows(CallRow)} == {"answer"}
            quick = running.spent()
            before = [len(each.requests) for each in (first, second)]
            for each in (first, second):
                each.replies.append(each.Served(usage=USAGE, delay_s=0.5))
                each.default = each.Served(usage=USAGE)
            slow = asyncio.create_task(running.ask("small"))
            while [len(each.requests) for each in (first, second)] == before:  # noqa: ASYNC110 - another's
                await asyncio.sleep(0)
            for each in (first, second):
                each.replies.clear()
            told = (await slow).json()["compute"]
            assert told["calls"] == 2
            await asyncio.wait(
                [asyncio.create_task(each.hung_up.wait()) for each in (first, second)],
                return_when=asyncio.FIRST_COMPLETED,
            )
            (entry,) = running.rows(EntryRow)[20:]
            lost, hedge = running.rows(CallRow)[20:]
            assert {(c.role, c.status, c.in_doubt) for c in (lost, hedge)} == {
                ("answer", "cancelled", True),
                ("hedge", "ok", False),
            }
            assert lost.price_source != hedge.price_source
            assert entry.held_nano_usd == 2 * max(lost.cost_nano_usd, hedge.cost_nano_usd)
            assert min(lost.cost_nano_usd, hedge.cost_nano_usd) == CHEAP_NANO_USD
            assert running.spent() - quick == entry.cost_nano_usd == told["cost_usd"] * 1e9


async def test_a_cap_that_holds_no_second_call_is_not_hedged(tmp_path: Path) -> None:
    """Twice the worst case does not fit: the slow answer is waited for."""
    async with upstreams(2) as (first, second):
        models = two_deployments(first, second, ", hedge_quantile: 0.9")
        async with gateway(tmp_path, models) as running:
            for _ in range(20):
                await running.ask("small")
            held = running.rows(EntryRow)[-1].held_nano_usd
            for each in (first, second):
                each.default = each.Served(usage=USAGE, delay_s=0.2)
            cap = {"max_cost_usd": (held - 1) / 1e9}
            told = (await running.ask("small", compute=cap)).json()["compute"]
            assert told["calls"] == 1
            assert running.spent() == 21 * CHEAP_NANO_USD
