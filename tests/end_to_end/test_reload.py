"""A changed configuration taken over while the gateway serves; a bad one changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from serving import KEYS, client_of, config_text

from router.cli.build import build_gateway
from router.cli.reloading import Reloader
from router.gateway.background import serving
from router.gateway.config import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from upstream import Upstream

pytestmark = pytest.mark.anyio

ASKED: Any = {"model": "small", "messages": [{"role": "user", "content": "how many?"}]}
PRICE = "input_usd_per_million_tokens: 1,"
DEARER = "input_usd_per_million_tokens: 100,"


@asynccontextmanager
async def reloadable(file: Path) -> AsyncIterator[tuple[str, Any, list[str]]]:
    """Serve a file in another thread; give the address, a way to reload there, and what is told."""
    loops: list[asyncio.AbstractEventLoop] = []
    told: list[str] = []
    ready = threading.Event()

    def on_ready() -> None:
        loops.append(asyncio.get_running_loop())
        ready.set()

    async def on_end() -> None:
        await reloader.aclose()

    gateway = build_gateway(load(file), on_ready=on_ready, on_end=on_end)
    reloader = Reloader(file, load(file), gateway, told.append)
    with serving(gateway.app) as address:
        await asyncio.to_thread(ready.wait)

        async def reload() -> bool:
            done = asyncio.run_coroutine_threadsafe(reloader.reload(), loops[0])
            return await asyncio.wrap_future(done)

        yield f"{address}/v1", reload, told


async def cost_of(client: openai.AsyncOpenAI) -> float:
    """Ask once; tell what it cost."""
    made = await client.chat.completions.create(**ASKED)
    cost: float = (made.model_extra or {})["compute"]["cost_usd"]
    return cost


async def test_prices_keys_and_budgets_change_without_a_restart(
    tmp_path: Path, upstream: Upstream
) -> None:
    """What is under way ends where it began; the ledger and its budgets go on."""
    file = tmp_path / "rheostat.yaml"
    text = config_text(tmp_path, upstream.base_url)
    file.write_text(text)
    async with reloadable(file) as (address, reload, told), client_of(address) as client:
        cheap = await cost_of(client)
        upstream.replies.append(upstream.Served(("slow",), delay_s=0.3))
        upstream.asked.clear()
        begun = asyncio.create_task(cost_of(client))
        await upstream.asked.wait()
        file.write_text(text.replace(PRICE, DEARER))
        assert await reload()
        assert await cost_of(client) > cheap
        assert not begun.done()
        assert await begun == cheap
        file.write_text(text.replace(KEYS["acme"], "sk-other-9876543210"))
        assert await reload()
        with pytest.raises(openai.AuthenticationError):
            await cost_of(client)
        file.write_text(text.replace("limit_usd: 1,", "limit_usd: 0.000000001,"))
        assert await reload()
        with pytest.raises(openai.APIStatusError) as spent:
            await cost_of(client)
        assert spent.value.status_code == 402
    assert len(told) == 3
    assert all("is in force" in line for line in told)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        pytest.param("strategies", "strategy", "did you mean 'strategies'", id="an unknown key"),
        pytest.param("models:", "models: [", "not valid YAML", id="no YAML"),
        pytest.param(PRICE, "input_usd_per_million_tokens: -1,", "price", id="a bad price"),
        pytest.param("ledger.db", "other.db", "restart", id="another ledger"),
        pytest.param("upstream-key", "${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE", id="no variable"),
    ],
)
async def test_a_bad_file_changes_nothing(
    tmp_path: Path, upstream: Upstream, before: str, after: str, reason: str
) -> None:
    """The reason is told, and the figures count it."""
    file = tmp_path / "rheostat.yaml"
    text = config_text(tmp_path, upstream.base_url)
    file.write_text(text)
    async with reloadable(file) as (address, reload, told), client_of(address) as client:
        cost = await cost_of(client)
        file.write_text(text.replace(before, after, 1))
        assert not await reload()
        assert await cost_of(client) == cost
        figures = await client.get("/../metrics", cast_to=str)
        assert 'rheostat_config_reloads_total{result="failed"} 1' in figures
    assert reason in told[0]
    assert "kept as it was" in told[0]


async def test_a_signal_and_a_changed_file_reload(tmp_path: Path, upstream: Upstream) -> None:
    """The file is read once it is at rest, and once for each change."""
    file = tmp_path / "rheostat.yaml"
    text = config_text(tmp_path, upstream.base_url)
    file.write_text(text)
    told: asyncio.Queue[str] = asyncio.Queue()
    gateway = build_gateway(load(file))
    reloader = Reloader(file, load(file), gateway, told.put_nowait)
    reloader.begin(watch_s=0.02)
    try:
        before = gateway.engine.service
        os.kill(os.getpid(), signal.SIGHUP)
        assert "in force" in await told.get()
        assert gateway.engine.service is not before
        file.write_text("models: []\n")
        assert "kept as it was" in await told.get()
        file.unlink()
        await asyncio.sleep(0.1)
        file.write_text(text.replace(PRICE, DEARER))
        assert "in force" in await told.get()
        await asyncio.sleep(0.1)
        assert told.empty()
    finally:
        await reloader.aclose()
        await gateway.engine.service.aclose()
