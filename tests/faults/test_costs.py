"""What a request costs however it goes: one table, and every cost the same or explained.

Each row runs through a real gateway, a real upstream and a SQLite ledger. What an upstream said
it used is charged so; what it could not say any more is charged at its worst case, in doubt.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio.from_thread
import httpx
import pytest
from faults.gateways import COST, USAGE, until
from faults.ways import CASES, CHAT, N_EVENTS, SAID, WHOLE, WORST, Case
from sqlalchemy import func, select
from upstream import Upstream

from cost_models.money import to_nano_usd, to_usd
from router.cli.build import build_app
from router.gateway.background import serving
from router.gateway.config import load
from router.routing.service import utc_now
from storage.engine import create_ledger_engine
from storage.models import CallRow, EntryRow, EntryStatus
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

CONFIG = """\
ledger: {ledger}
models:
  - name: small
    model: openai/some-model
    base_url: {upstream}
    breaker: {{failures: 20}}
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}}
  - name: large
    model: openai/large-model
    base_url: {upstream}
    breaker: {{failures: 20}}
    price: {{input_usd_per_million_tokens: 20, output_usd_per_million_tokens: 40}}
  - name: spread
    model: openai/some-model
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}}
    breaker: {{failures: 20}}
    deployments: [{{name: a, base_url: '{upstream}'}}, {{name: b, base_url: '{upstream}'}}]
  - name: loyal
    model: openai/some-model
    base_url: {upstream}
    breaker: {{failures: 20}}
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}}
    fallbacks: [large]
strategies: [direct]
cache: {{ttl_s: 600}}
cascades: [small|direct then escalate to large|direct until confident 0.8]
budgets:
  - {{scope: organisation, limit_usd: 1000, period: total}}
"""


@dataclass
class Served:
    """The gateway under test with its upstream and its ledger."""

    base_url: str
    upstream: Upstream
    ledger: Ledger

    def newest(self, n: int) -> list[EntryRow]:
        """Give the newest entries, oldest first."""
        found = select(EntryRow).order_by(EntryRow.id.desc()).limit(n)
        return list(reversed(self.ledger.read(lambda s: s.scalars(found).all())))

    def n_entries(self) -> int:
        """Count the entries."""
        return self.ledger.read(lambda s: s.scalar(select(func.count(EntryRow.id))) or 0)

    def calls(self, entry_id: int) -> list[CallRow]:
        """Give the calls of an entry."""
        of_entry = select(CallRow).where(CallRow.entry_id == entry_id).order_by(CallRow.seq)
        return list(self.ledger.read(lambda s: s.scalars(of_entry).all()))

    def money(self) -> tuple[int, int, int]:
        """Give what is spent, held, and overshot."""
        (status,) = self.ledger.budget_status(utc_now())
        facts = status.facts
        return facts.spent_nano_usd, facts.held_nano_usd, status.overshoot_nano_usd

    async def closed(self, n_before: int, n_further: int = 1) -> list[EntryRow]:
        """Wait for so many further entries to be settled; there may be no more."""
        await until(lambda: self._are_closed(n_before + n_further), "the request is settled")
        assert self.n_entries() == n_before + n_further
        return self.newest(n_further)

    def _are_closed(self, n: int) -> bool:
        return self.n_entries() >= n and self.newest(1)[0].status is not EntryStatus.OPEN


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run one gateway for the whole table; the budget counts on from row to row."""
    folder = tmp_path_factory.mktemp("costs")
    url = f"sqlite:///{folder / 'ledger.db'}"
    upstream = Upstream()
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(upstream.running()),
    ):
        config = folder / "rheostat.yaml"
        config.write_text(CONFIG.format(ledger=url, upstream=upstream.base_url))
        with serving(build_app(load(config))) as base_url:
            ledger = Ledger(create_ledger_engine(url))
            yield Served(base_url, upstream, ledger)
            ledger.close()


@asynccontextmanager
async def client_of(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Talk to the gateway."""
    base_url = f"{served.base_url}/v1/"
    async with httpx.AsyncClient(base_url=base_url, trust_env=False, timeout=30) as client:
        yield client


async def leave(served: Served, client: httpx.AsyncClient, case: Case) -> None:
    """Ask, and hang up after so many words, or when the last reply was asked for."""
    n_words = case.leaves_after or 0
    if case.status is None:
        asked = len(served.upstream.requests) + len(case.replies)
        asking = asyncio.create_task(client.post(case.path, json=case.body()))
        await until(lambda: len(served.upstream.requests) == asked, "the upstream is asked")
        asking.cancel()
        await asyncio.wait({asking})
        return
    n_seen = 0
    async with (
        client.stream("POST", case.path, json=case.body()) as response,
        aclosing(response.aiter_lines()) as lines,
    ):
        async for line in lines:
            n_seen += '"content":"' in line and '"content":""' not in line
            if '"content":' in line and n_seen == n_words:
                return
    pytest.fail("the stream ended before the client left")


@pytest.mark.parametrize("case", CASES)
async def test_what_a_request_costs(served: Served, case: Case) -> None:
    """Each call costs what it used, or its worst case; the entry and the budget are their sum."""
    served.upstream.replies.clear()
    served.upstream.replies.extend(case.replies)
    n_asked, n_before = len(served.upstream.requests), served.n_entries()
    spent, held, overshot = served.money()
    answer: httpx.Response | None = None
    async with client_of(served) as client:
        if case.leaves_after is not None:
            await leave(served, client, case)
        else:
            answer = await client.post(case.path, json=case.body())
    *failed, entry = await served.closed(n_before, len(case.failed) + 1)
    assert len(served.upstream.requests) - n_asked == len(case.replies)
    calls = served.calls(entry.id)
    assert tuple(call.cost_nano_usd for call in calls) == case.costs
    assert [call.in_doubt for call in calls] == [False] * (len(calls) - 1) + [case.in_doubt]
    assert entry.status is (EntryStatus.IN_DOUBT if case.in_doubt else EntryStatus.SETTLED)
    assert entry.cost_nano_usd == sum(case.costs)
    for other, costs in zip(failed, case.failed, strict=True):
        assert (other.request_id, other.cost_nano_usd) == (entry.request_id, sum(costs))
        assert tuple(call.cost_nano_usd for call in served.calls(other.id)) == costs
        assert {call.error is None for call in served.calls(other.id)} == {False}
    cost = sum(case.costs) + sum(map(sum, case.failed))
    assert served.money() == (spent + cost, held, overshot + case.overshoot)
    assert held == 0
    assert served.ledger.examine() == []
    if answer is not None:
        check_answer(answer, case, entry, cost)


def check_answer(answer: httpx.Response, case: Case, entry: EntryRow, cost: int) -> None:
    """Compare what the client was told with the rows."""
    if not case.stream or case.status != 200:
        assert answer.status_code == case.status
    told = answer.text
    if case.status == 200 and not case.stream and case.path == CHAT:
        cost_usd = answer.json()["compute"]["cost_usd"]
        assert to_nano_usd(Decimal(str(cost_usd))) == cost
    if case.stream and case.path == CHAT:
        assert told.endswith("data: [DONE]\n\n") is (entry.error is None)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_request_that_is_sent_again_under_its_key_costs_once(
    served: Served, *, stream: bool
) -> None:
    """Also where the client had left in the middle: the first run goes on and is the only one."""
    case = Case((), (COST,), stream=stream)
    slow = Upstream.Served((SAID,), usage=USAGE, delay_s=0.2)
    served.upstream.replies.append(slow)
    n_asked, n_before = len(served.upstream.requests), served.n_entries()
    spent, _, _ = served.money()
    async with client_of(served) as client:
        client.headers["idempotency-key"] = f"once {stream}"
        first = asyncio.create_task(client.post(CHAT, json=case.body()))
        await until(lambda: len(served.upstream.requests) > n_asked, "the upstream is asked")
        first.cancel()
        await asyncio.wait({first})
        answers = [await client.post(CHAT, json=case.body()) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    (entry,) = await served.closed(n_before)
    assert (entry.status, entry.cost_nano_usd) == (EntryStatus.SETTLED, COST)
    assert len(served.upstream.requests) == n_asked + 1
    assert served.money()[:2] == (spent + COST, 0)


@pytest.mark.parametrize("first", [False, True], ids=["plain", "streamed"])
async def test_what_is_answered_from_the_cache_costs_nothing(
    served: Served, *, first: bool
) -> None:
    """Whether the first answer or the hit is streamed: an entry of 0, no call, no hold."""
    fields = {"seed": 1 + first}
    served.upstream.replies.append(WHOLE)
    n_asked, n_before = len(served.upstream.requests), served.n_entries()
    spent, _, _ = served.money()
    async with client_of(served) as client:
        for stream in (first, False, True):
            body = Case((), (), fields=fields, stream=stream).body()
            answer = await client.post(CHAT, json=body)
            assert answer.status_code == 200
            assert ("cached_from" in answer.text) is (served.n_entries() > n_before + 1)
    paid, *hits = await served.closed(n_before, 3)
    assert len(served.upstream.requests) == n_asked + 1
    assert (paid.model, paid.cost_nano_usd) == ("small", COST)
    assert [(hit.strategy, hit.cost_nano_usd, hit.held_nano_usd) for hit in hits] == [
        ("cache", 0, 0)
    ] * 2
    assert [served.calls(hit.id) for hit in hits] == [[], []]
    assert served.money()[:2] == (spent + COST, 0)
    assert served.ledger.examine() == []


async def test_a_server_without_n_is_charged_for_each_of_its_calls(served: Served) -> None:
    """The first answer shows that it gives one choice at a time; then it is asked three times."""
    single = Upstream.Served((SAID,), usage=USAGE, ignores_n=True)
    served.upstream.replies.extend([single] * 4)
    spent, _, _ = served.money()
    body = Case((), (), fields={"n": 3}).body()
    async with client_of(served) as client:
        counts = [len((await client.post(CHAT, json=body)).json()["choices"]) for _ in range(2)]
    assert counts == [1, 3]
    assert served.money()[:2] == (spent + COST + 3 * COST, 0)
    assert served.ledger.examine() == []


async def test_a_client_that_leaves_whenever_pays_the_cost_or_the_worst(served: Served) -> None:
    """Nothing stalls here: each leaves at some event of a stream that goes on."""
    n_before = served.n_entries()
    spent, _, _ = served.money()
    n = 3 * N_EVENTS

    async def ask(client: httpx.AsyncClient, i: int) -> None:
        body = Case((), (), stream=True).body()
        async with (
            client.stream("POST", CHAT, json=body) as response,
            aclosing(response.aiter_lines()) as lines,
        ):
            for _ in range(2 * (i % N_EVENTS) + 1):
                await anext(lines, None)

    served.upstream.replies.extend([Upstream.Served((SAID,), usage=USAGE, gap_s=0.001)] * n)
    async with client_of(served) as client:
        await asyncio.gather(*(ask(client, i) for i in range(n)))
    await until(lambda: served.money()[1] == 0, "nothing is held")
    rows = served.ledger.read(
        lambda s: s.execute(
            select(EntryRow.status, EntryRow.cost_nano_usd).order_by(EntryRow.id).offset(n_before)
        ).all()
    )
    explained = {(EntryStatus.SETTLED, COST), (EntryStatus.IN_DOUBT, WORST)}
    assert {tuple(row) for row in rows} <= explained
    assert len(rows) == n
    assert served.money()[0] == spent + sum(row.cost_nano_usd for row in rows)
    assert served.ledger.examine() == []


async def test_who_waits_in_vain_for_money_is_told_when_to_come_again(
    served: Served, tmp_path: Path
) -> None:
    """The bound of the wait ends in 429, with a code of its own, and the upstream is not asked."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    text = CONFIG.format(ledger=url, upstream=served.upstream.base_url)
    limit = f"{to_usd(2 * WORST - 1):f}"
    text = text.replace("limit_usd: 1000", f"limit_usd: {limit}") + "budget_wait_s: 0.2\n"
    config = tmp_path / "rheostat.yaml"
    config.write_text(text)
    n_asked = len(served.upstream.requests)
    served.upstream.replies.append(Upstream.Served((SAID,), delay_s=600))
    body = Case((), ()).body()
    with serving(build_app(load(config))) as base_url:
        async with httpx.AsyncClient(
            base_url=f"{base_url}/v1/", trust_env=False, timeout=30
        ) as client:
            first = asyncio.create_task(client.post(CHAT, json=body))
            await until(lambda: len(served.upstream.requests) > n_asked, "the upstream is asked")
            second = await client.post(CHAT, json=body)
            first.cancel()
            await asyncio.wait({first})
    assert (second.status_code, second.json()["error"]["code"]) == (429, "budget_busy")
    assert int(second.headers["retry-after"]) >= 1
    assert len(served.upstream.requests) == n_asked + 1
