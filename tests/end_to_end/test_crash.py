"""kill -9: a gateway that dies in flight loses no answer and forgets no money."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.from_thread
import httpx
import pytest
from sqlalchemy import select
from upstream import Upstream

import storage
from cost_models.money import to_usd
from storage.engine import create_ledger_engine
from storage.models import CallRow, EntryRow, EntryStatus
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(storage.__file__).parents[1]
GATEWAY = """
import sys, time
from pathlib import Path
from router.cli.build import build_app
from router.gateway.background import serving
from router.gateway.config import load
with serving(build_app(load(Path(sys.argv[1])))) as base_url:
    print(base_url, flush=True)
    time.sleep(600)
"""
CONFIG = """\
ledger: {ledger}
models:
  - name: small
    model: openai/some-model
    base_url: {base_url}
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}}
strategies: [direct]
budgets:
  - {{scope: organisation, limit_usd: 1, period: total}}
"""


@pytest.fixture
def upstream_in_a_thread() -> Iterator[Upstream]:
    """Serve an upstream while this thread waits for other processes."""
    server = Upstream()
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(server.running()),
    ):
        yield server


@contextmanager
def gateway(config: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run a gateway in a process of its own; give it, and a client of it."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", GATEWAY, str(config)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        base_url = process.stdout.readline().strip()
        assert base_url, "the gateway did not start"
        with httpx.Client(base_url=base_url, trust_env=False, timeout=100) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def body(word: str, *, stream: bool = False) -> dict[str, Any]:
    """Ask to say a word."""
    messages = [{"role": "user", "content": f"say {word}"}]
    return {"model": "small", "messages": messages, "max_tokens": 10, "stream": stream}


def hang(client: httpx.Client, *, stream: bool) -> tuple[threading.Thread, list[str]]:
    """Ask what will not be answered whole; give the thread that waits, and how it ended."""
    ended: list[str] = []

    def ask() -> None:
        try:
            answer = client.post("/v1/chat/completions", json=body("nothing", stream=stream))
        except httpx.HTTPError as error:
            ended.append(type(error).__name__)
        else:
            ended.append(f"answered {answer.status_code}")

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, ended


def wait_for(upstream: Upstream, n_requests: int) -> None:
    """Wait until the upstream was asked so often."""
    end = time.monotonic() + 60
    while len(upstream.requests) < n_requests:
        assert time.monotonic() < end, "the upstream was never asked"
        time.sleep(0.01)


def test_what_was_in_flight_at_a_crash_is_charged_at_its_worst_case(
    empty_url: str, upstream_in_a_thread: Upstream, tmp_path: Path
) -> None:
    """After the restart it is in doubt, and every whole answer is in the ledger at its cost."""
    upstream = upstream_in_a_thread
    config = tmp_path / "rheostat.yaml"
    config.write_text(CONFIG.format(ledger=empty_url, base_url=upstream.base_url))
    whole: dict[str, float] = {}

    def answered(client: httpx.Client, word: str) -> None:
        completion = client.post("/v1/chat/completions", json=body(word)).raise_for_status().json()
        assert completion["choices"][0]["message"]["content"] == "ok"
        whole[completion["id"]] = completion["compute"]["cost_usd"]

    with gateway(config) as (process, client):
        for word in ("one", "two", "three"):
            answered(client, word)
        upstream.replies.append(Upstream.Served(("never",), delay_s=600))
        plain = hang(client, stream=False)
        wait_for(upstream, 4)
        upstream.replies.append(Upstream.Served(("word " * 50,), gap_s=20))
        streamed = hang(client, stream=True)
        wait_for(upstream, 5)
        process.send_signal(signal.SIGKILL)
        for thread, ended in (plain, streamed):
            thread.join(timeout=60)
            assert ended
            assert not ended[0].startswith("answered")

    ledger = Ledger(create_ledger_engine(empty_url))
    with gateway(config) as (_, client):
        answered(client, "four")
        entries = ledger.read(lambda s: s.execute(select(EntryRow.__table__)).all())
        doubtful = [entry for entry in entries if entry.request_id not in whole]
        assert len(doubtful) == 2
        prompt_bound = 16 + 16 + len("user") + len("say nothing")
        for entry in doubtful:
            assert entry.status is EntryStatus.IN_DOUBT
            assert entry.cost_nano_usd == entry.held_nano_usd == prompt_bound * 1000 + 10 * 2000
            assert entry.recovered_at is not None
        settled = {e.request_id: e for e in entries if e.request_id in whole}
        assert {e.status for e in settled.values()} == {EntryStatus.SETTLED}
        assert {i: float(to_usd(e.cost_nano_usd)) for i, e in settled.items()} == whole
        n_calls = len(ledger.read(lambda s: s.scalars(select(CallRow.id)).all()))
        assert n_calls == len(whole) == 4
        assert ledger.examine() == []
        (status,) = ledger.budget_status(datetime.now(UTC))
        assert status.facts.held_nano_usd == 0
        assert status.facts.spent_nano_usd == sum(entry.cost_nano_usd for entry in entries)
        assert status.overshoot_nano_usd == 0
    ledger.close()
