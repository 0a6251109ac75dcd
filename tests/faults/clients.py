"""Clients that ask on and on, what they were given, and what the ledger then has to say."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import httpx
from faults.gateways import COST, worst
from sqlalchemy import select

from router.routing.service import utc_now
from storage.engine import create_ledger_engine
from storage.models import EntryRow, EntryStatus, RequestRow
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from faults.gateways import Gateway
    from upstream import Upstream

MAX_TOKENS = 20
TEXT = "say {:06d}"
"""Every request has a text of its own, of one length: the same worst case, and easily told."""

WORST = worst(TEXT.format(0), MAX_TOKENS)


@dataclass
class Load:
    """Clients that ask one gateway after the other; texts of what was whole, and what broke off."""

    gateways: list[Gateway]
    whole: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    over: bool = False
    _numbers: Iterator[int] = field(default_factory=count)

    def is_alone(self) -> bool:
        """Whether every gateway has ended."""
        return all(gateway.process.poll() is not None for gateway in self.gateways)

    async def ask_on(self, i: int) -> None:
        """Ask until it is over; a gateway that is gone is asked again a moment later."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            n = i
            while not self.over:
                n += 1
                url = self.gateways[n % len(self.gateways)].base_url
                if not await self.ask(client, url, stream=n % 3 == 0):
                    await asyncio.sleep(0.02)

    async def ask(self, client: httpx.AsyncClient, url: str, *, stream: bool = False) -> bool:
        """Ask once; False where no whole answer came."""
        text = TEXT.format(next(self._numbers))
        body = {
            "model": "small",
            "messages": [{"role": "user", "content": text}],
            "max_tokens": MAX_TOKENS,
            "stream": stream,
        }
        try:
            response = await client.post(f"{url}/v1/chat/completions", json=body)
        except httpx.HTTPError:
            self.broken.add(text)
            return False
        assert response.status_code == 200, response.text
        if not stream:
            self.whole[text] = response.json()["id"]
        elif response.text.endswith("data: [DONE]\n\n"):
            first = response.text.split("\n\n", 1)[0].removeprefix("data: ")
            self.whole[text] = json.loads(first)["id"]
        else:
            self.broken.add(text)
            return False
        return True


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger knows after the crash: the texts of its entries, by how they stand."""

    settled: frozenset[str]
    in_doubt: frozenset[str]


def check_after_crash(url: str, load: Load, upstream: Upstream) -> Found:
    """Recover as the next gateway would, and hold the ledger to what clients and upstream saw."""
    ledger = Ledger(create_ledger_engine(url))
    now = utc_now()
    ledger.recover(now, 0.0)
    rows: list[Any] = ledger.read(
        lambda s: list(
            s.execute(
                select(
                    EntryRow.status,
                    EntryRow.cost_nano_usd,
                    RequestRow.query_text,
                    EntryRow.request_id,
                ).join(RequestRow, RequestRow.id == EntryRow.request_id)
            ).all()
        )
    )
    costs = {EntryStatus.SETTLED: COST, EntryStatus.IN_DOUBT: WORST}
    assert {(status, cost) for status, cost, _, _ in rows} <= set(costs.items())
    ids = {text: request_id for _, _, text, request_id in rows}
    assert len(ids) == len(rows)
    found = Found(
        frozenset(text for status, _, text, _ in rows if status is EntryStatus.SETTLED),
        frozenset(text for status, _, text, _ in rows if status is EntryStatus.IN_DOUBT),
    )
    assert load.whole.items() <= ids.items()
    assert load.whole.keys() <= found.settled
    assert found.in_doubt <= load.broken
    assert {body["messages"][0]["content"] for body in upstream.requests} <= ids.keys()
    (status,) = ledger.budget_status(now)
    spent = len(found.settled) * COST + len(found.in_doubt) * WORST
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (spent, 0)
    assert status.overshoot_nano_usd == 0
    assert ledger.examine() == []
    ledger.close()
    return found
