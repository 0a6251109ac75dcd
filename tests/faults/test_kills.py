"""kill -9 at random moments under load: no answer is lost, and no money is forgotten."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from faults.gateways import CONFIG, COST, LONG, USAGE, Gateway, start, worst
from sqlalchemy import select

from storage.engine import create_ledger_engine
from storage.models import EntryRow, EntryStatus
from storage.store import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3600 if LONG else 300)]

N_GATEWAYS = 2
N_CLIENTS = 8
N_KILLS = 200 if LONG else 3
MAX_TOKENS = 20
TEXT = "say something"


@dataclass
class Load:
    """Clients that ask one gateway after the other, and what they were given."""

    gateways: list[Gateway]
    whole: set[str] = field(default_factory=set)
    n_broken: int = 0
    over: bool = False

    async def ask_on(self, i: int) -> None:
        """Ask until it is over; a gateway that is gone is asked again a moment later."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            n = i
            while not self.over:
                n += 1
                url = self.gateways[n % N_GATEWAYS].base_url
                try:
                    await self._ask(client, url, stream=n % 3 == 0)
                except httpx.HTTPError:
                    self.n_broken += 1
                    await asyncio.sleep(0.02)

    async def _ask(self, client: httpx.AsyncClient, url: str, *, stream: bool) -> None:
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": TEXT}],
            "max_tokens": MAX_TOKENS,
            "stream": stream,
        }
        response = await client.post(f"{url}/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        if not stream:
            self.whole.add(response.json()["id"])
        elif response.text.endswith("data: [DONE]\n\n"):
            first = response.text.split("\n\n", 1)[0].removeprefix("data: ")
            self.whole.add(json.loads(first)["id"])


async def test_whatever_moment_a_gateway_is_killed_at(
    empty_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    """Whole answers are settled at their cost; what was in flight is in doubt at its worst."""
    chance = random.Random(2026)
    upstream.default = upstream.Served(usage=USAGE, delay_s=0.02)
    config = tmp_path / "rheostat.yaml"
    config.write_text(CONFIG.format(ledger=empty_url, upstream=upstream.base_url, limit_usd=1000))
    gateways = [await asyncio.to_thread(start, config) for _ in range(N_GATEWAYS)]
    load = Load(gateways)
    clients = [asyncio.create_task(load.ask_on(i)) for i in range(N_CLIENTS)]
    try:
        for _ in range(N_KILLS):
            await asyncio.sleep(chance.uniform(0.3, 1.0))
            victim = chance.randrange(N_GATEWAYS)
            gateways[victim].kill()
            gateways[victim] = await asyncio.to_thread(start, config)
        await asyncio.sleep(0.5)
        load.over = True
        await asyncio.gather(*clients)
    finally:
        for gateway in gateways:
            gateway.kill()
    ledger = Ledger(create_ledger_engine(empty_url))
    now = datetime.now(UTC)
    ledger.recover(now, 0.0)
    entries = ledger.read(lambda s: s.execute(select(EntryRow.__table__)).all())
    by_id = {entry.request_id: entry for entry in entries}
    assert len(load.whole) > N_KILLS
    assert load.whole <= by_id.keys()
    for request_id in load.whole:
        entry = by_id[request_id]
        assert (entry.status, entry.cost_nano_usd) == (EntryStatus.SETTLED, COST)
    doubtful = [entry for entry in entries if entry.status is EntryStatus.IN_DOUBT]
    assert {entry.cost_nano_usd for entry in doubtful} <= {worst(TEXT, MAX_TOKENS)}
    assert len(doubtful) <= load.n_broken
    assert not [entry for entry in entries if entry.status is EntryStatus.OPEN]
    (status,) = ledger.budget_status(now)
    assert status.facts.spent_nano_usd == sum(entry.cost_nano_usd for entry in entries)
    assert status.facts.held_nano_usd == 0
    assert status.overshoot_nano_usd == 0
    assert ledger.examine() == []
    ledger.close()
