"""Many at once on a budget for some: exactly those are served, whatever is held meanwhile."""

from __future__ import annotations

import asyncio
import random
import re
from contextlib import AsyncExitStack, asynccontextmanager
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
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from faults.gateways import Gateway
    from upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

N_GATEWAYS = 4
N_EACH = 200 if LONG else 50
N_FIT = N_GATEWAYS * N_EACH // 2
N_REPETITIONS = 20 if LONG else 1
N_TURNED_AWAY = 5
MAX_TOKENS = 20
DEFAULT_CAP, LOWEST_CAP = 512, 64
"""`default_max_tokens` and `min_max_tokens` where the configuration says nothing."""

TEXT = "say something"


async def ask(
    client: httpx.AsyncClient, *, stream: bool, max_tokens: int | None = MAX_TOKENS
) -> tuple[int, str]:
    """Ask, plain or streamed; give the status, and the code of an error."""
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": TEXT}],
        "max_tokens": max_tokens,
        "stream": stream,
    }
    response = await client.post("/v1/chat/completions", json=body)
    if response.headers["content-type"].startswith("application/json"):
        return response.status_code, str(response.json().get("error", {}).get("code"))
    told = re.search(r'"error":.*"code":"([a-z_]+)"', response.text)
    code = told.group(1) if told else "None"
    return (402 if code == "budget_exceeded" else response.status_code), code


@asynccontextmanager
async def clients_of(gateways: Sequence[Gateway]) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Talk to each gateway over as many connections as it is asked at once."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=gateway.base_url,
                    trust_env=False,
                    timeout=300,
                    limits=httpx.Limits(max_connections=N_EACH),
                )
            )
            for gateway in gateways
        ]


def check_spent(url: str, n_served: int) -> None:
    """See that so many were paid for, to the nano-USD, and nothing else is left."""
    ledger = Ledger(create_ledger_engine(url))
    (status,) = ledger.budget_status(datetime.now(UTC))
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (n_served * COST, 0)
    assert status.overshoot_nano_usd == 0
    assert ledger.examine() == []
    assert ledger.read(lambda s: s.scalar(select(func.count(EntryRow.id)))) == n_served
    assert ledger.read(lambda s: s.scalar(select(func.count(WaitRow.id)))) == 0
    ledger.close()


@pytest.mark.parametrize("empty_url", ["sqlite", *(["postgresql"] if LONG else [])], indirect=True)
async def test_without_a_cap_as_many_are_served_as_with_one(
    empty_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    """The default cap of one request alone is more than the budget has."""
    n_fit, n_asked = 20, 200 if LONG else 40
    limit = (n_fit - 1) * COST + worst(TEXT, LOWEST_CAP)
    assert worst(TEXT, DEFAULT_CAP) > limit
    upstream.default = upstream.Served(usage=USAGE, delay_s=0.02)
    config = tmp_path / "rheostat.yaml"
    text = CONFIG.format(
        ledger=empty_url, upstream=upstream.base_url, limit_usd=f"{to_usd(limit):f}"
    )
    config.write_text(text)
    with running(config, 2) as gateways:
        async with clients_of(gateways) as clients:
            answers = await asyncio.gather(
                *(ask(clients[i % 2], stream=i % 3 == 0, max_tokens=None) for i in range(n_asked))
            )
    outcomes = {answer: answers.count(answer) for answer in set(answers)}
    assert outcomes == {(200, "None"): n_fit, (402, "budget_exceeded"): n_asked - n_fit}
    assert min(body["max_tokens"] for body in upstream.requests) >= LOWEST_CAP
    check_spent(empty_url, n_fit)


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
        async with clients_of(gateways) as clients:
            answers = await asyncio.gather(
                *(ask(client, stream=i % 3 == 0) for i in range(N_EACH) for client in clients)
            )
    outcomes = {answer: answers.count(answer) for answer in set(answers)}
    n_refused = N_GATEWAYS * N_EACH - N_FIT
    assert outcomes == {(200, "None"): N_FIT, (402, "budget_exceeded"): n_refused}
    assert len(upstream.requests) == N_FIT + N_TURNED_AWAY
    check_spent(empty_url, N_FIT)
