"""Many at once on a budget for some: exactly those are served, whatever is held meanwhile."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from faults.gateways import CONFIG, COST, LONG, USAGE, running, worst
from sqlalchemy import func, select

from cost_models.money import to_usd
from storage.engine import create_ledger_engine
from storage.models import EntryRow, WaitRow
from storage.store import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

N_GATEWAYS = 4
N_EACH = 200 if LONG else 50
N_FIT = N_GATEWAYS * N_EACH // 2
N_REPETITIONS = 20 if LONG else 1
N_TURNED_AWAY = 5
MAX_TOKENS = 20
TEXT = "say something"


async def ask(client: httpx.AsyncClient, *, stream: bool) -> tuple[int, str]:
    """Ask, plain or streamed; give the status, and the code of an error."""
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": TEXT}],
        "max_tokens": MAX_TOKENS,
        "stream": stream,
    }
    response = await client.post("/v1/chat/completions", json=body)
    if response.headers["content-type"].startswith("application/json"):
        return response.status_code, str(response.json().get("error", {}).get("code"))
    told = re.search(r'"error":.*"code":"([a-z_]+)"', response.text)
    code = told.group(1) if told else "None"
    return (402 if code == "budget_exceeded" else response.status_code), code


@pytest.mark.parametrize("repetition", range(N_REPETITIONS))
async def test_exactly_those_are_served_whom_the_budget_pays_for(
    empty_url: str, upstream: Upstream, tmp_path: Path, repetition: int
) -> None:
    """The holds of a fraction would fill the budget: the others wait, none is refused for it.

    Delays are random, streams are among them, and so are calls that the upstream turned away first.
    """
    chance = random.Random(repetition)
    limit = (N_FIT - 1) * COST + worst(TEXT, MAX_TOKENS)
    assert limit // worst(TEXT, MAX_TOKENS) < N_FIT / 8
    for i in range(N_FIT + N_TURNED_AWAY):
        if i % (N_FIT // N_TURNED_AWAY) == 1:
            upstream.replies.append(upstream.error(429, "slow down", **{"retry-after": "0"}))
        delay_s = chance.uniform(0, 0.05)
        upstream.replies.append(upstream.Served(usage=USAGE, delay_s=delay_s))
    config = tmp_path / "rheostat.yaml"
    text = CONFIG.format(
        ledger=empty_url, upstream=upstream.base_url, limit_usd=f"{to_usd(limit):f}"
    )
    config.write_text(text)
    with running(config, N_GATEWAYS) as gateways:
        clients = [
            httpx.AsyncClient(
                base_url=gateway.base_url,
                trust_env=False,
                timeout=300,
                limits=httpx.Limits(max_connections=N_EACH),
            )
            for gateway in gateways
        ]
        answers = await asyncio.gather(
            *(ask(client, stream=i % 3 == 0) for i in range(N_EACH) for client in clients)
        )
        for client in clients:
            await client.aclose()
    outcomes = {answer: answers.count(answer) for answer in set(answers)}
    n_refused = N_GATEWAYS * N_EACH - N_FIT
    assert outcomes == {(200, "None"): N_FIT, (402, "budget_exceeded"): n_refused}
    assert len(upstream.requests) == N_FIT + N_TURNED_AWAY
    ledger = Ledger(create_ledger_engine(empty_url))
    (status,) = ledger.budget_status(datetime.now(UTC))
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (N_FIT * COST, 0)
    assert status.overshoot_nano_usd == 0
    assert ledger.examine() == []
    assert ledger.read(lambda s: s.scalar(select(func.count(EntryRow.id)))) == N_FIT
    assert ledger.read(lambda s: s.scalar(select(func.count(WaitRow.id)))) == 0
    ledger.close()
