"""kill -9 at named points and at random moments: no answer is lost, and no money is forgotten."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from faults.clients import Load, check_after_crash
from faults.gateways import CONFIG, LONG, USAGE, start, until

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3600 if LONG else 300)]

N_GATEWAYS = 2
N_CLIENTS = 8
N_PARTS, N_KILLS = (8, 25) if LONG else (1, 3)
"""Kills at random moments: so many parts with so many each, on each database."""

N_BEFORE = 2
COMMIT_MS = [0.1, 0.3, 0.6, 1, 2, 4] if LONG else [0.5]
ONLY_LONG = pytest.mark.skipif(not LONG, reason="`make faults` runs it")
TRAPS = [
    ("before reserve", 0.0),
    ("reserved", 0.0),
    ("replied", 0.0),
    ("before commit", 0.0),
    *(("during commit", after_ms) for after_ms in COMMIT_MS),
    ("settled", 0.0),
]
SHORT = {"replied", "during commit", "settled"}


def on_each_database(traps: list[tuple[str, float]], short: set[str]) -> list[Any]:
    """Pair traps with databases; those that the short form leaves out are marked."""
    return [
        pytest.param(
            database,
            *trap,
            marks=[
                *([pytest.mark.postgres] if database == "postgresql" else []),
                *([] if database == "sqlite" and trap[0] in short else [ONLY_LONG]),
            ],
        )
        for database in ("sqlite", "postgresql")
        for trap in traps
    ]


def configured(folder: Path, url: str, upstream: Upstream) -> Path:
    """Write the configuration of a gateway whose budget pays for all."""
    config = folder / "rheostat.yaml"
    config.write_text(CONFIG.format(ledger=url, upstream=upstream.base_url, limit_usd=1000))
    return config


@pytest.mark.parametrize(
    ("empty_url", "point", "after_ms"),
    on_each_database([*TRAPS, ("in flight", 0.0)], SHORT),
    indirect=["empty_url"],
)
async def test_a_gateway_that_dies_at_a_point(
    empty_url: str, upstream: Upstream, tmp_path: Path, point: str, after_ms: float
) -> None:
    """One request after the other: what was held and not settled is in doubt, and that alone."""
    upstream.replies.extend([upstream.Served(usage=USAGE)] * N_BEFORE)
    if point == "in flight":
        upstream.replies.append(upstream.Served(delay_s=600))
    upstream.default = upstream.Served(usage=USAGE)
    trap = (point, str(N_BEFORE + 1), str(after_ms))
    gateway = await asyncio.to_thread(start, configured(tmp_path, empty_url, upstream), trap)
    load = Load([gateway])
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for _ in range(N_BEFORE):
                assert await load.ask(client, gateway.base_url)
            last = asyncio.create_task(load.ask(client, gateway.base_url))
            if point == "in flight":
                await until(lambda: len(upstream.requests) > N_BEFORE, "the upstream is asked")
                gateway.process.kill()
            answered = await last
            await until(lambda: gateway.process.poll() is not None, "the gateway is dead")
    finally:
        gateway.kill()
    found = check_after_crash(empty_url, load, upstream)
    n_doubtful = {"before reserve": 0, "settled": 0}.get(point, 1)
    was_asked = point not in {"before reserve", "reserved"}
    assert len(upstream.requests) == N_BEFORE + was_asked
    if point == "during commit":
        assert len(found.settled) + len(found.in_doubt) == N_BEFORE + 1
    else:
        assert not answered
        assert len(found.in_doubt) == n_doubtful
        assert len(found.settled) == N_BEFORE + (point == "settled")


@pytest.mark.parametrize(
    ("empty_url", "point", "after_ms"), on_each_database(TRAPS, set()), indirect=["empty_url"]
)
async def test_a_gateway_that_dies_at_a_point_under_load(
    empty_url: str, upstream: Upstream, tmp_path: Path, point: str, after_ms: float
) -> None:
    """Many requests share the transaction that the crash meets."""
    upstream.default = upstream.Served(usage=USAGE, delay_s=0.02)
    config = configured(tmp_path, empty_url, upstream)
    load = Load([])
    for n in (3, 10, 30):
        load.gateways = [await asyncio.to_thread(start, config, (point, str(n), str(after_ms)))]
        load.over = False
        clients = [asyncio.create_task(load.ask_on(i)) for i in range(N_CLIENTS)]
        try:
            await until(load.is_alone, "the gateway is dead")
        finally:
            load.over = True
            load.gateways[0].kill()
            await asyncio.gather(*clients)
    check_after_crash(empty_url, load, upstream)


@pytest.mark.parametrize("part", range(N_PARTS))
async def test_whatever_moment_a_gateway_is_killed_at(
    empty_url: str, upstream: Upstream, tmp_path: Path, part: int
) -> None:
    """Whole answers are settled at their cost; what was in flight is in doubt at its worst."""
    chance = random.Random(2026 + part)
    upstream.default = upstream.Served(usage=USAGE, delay_s=0.02)
    config = configured(tmp_path, empty_url, upstream)
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
    check_after_crash(empty_url, load, upstream)
    assert len(load.whole) > N_KILLS
