"""Gateways in processes of their own, and how long the tests of faults may take."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LONG = bool(os.environ.get("RHEOSTAT_LONG_FAULTS"))
"""True for the long form, which `make faults` runs."""

ROOT = Path(storage.__file__).parents[1]
KILLED = Path(__file__).with_name("killed.py")
PROGRAM = """
import sys, time
from pathlib import Path
from router.cli.build import build_app
from router.gateway.background import serving
from router.gateway.config import load
with serving(build_app(load(Path(sys.argv[1])))) as base_url:
    print(base_url, flush=True)
    time.sleep(3600)
"""
PROMPT_TOKENS, COMPLETION_TOKENS = 2, 1
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}
COST = PROMPT_TOKENS * 1_000 + COMPLETION_TOKENS * 2_000
"""What an answer with `USAGE` costs, in nano-USD."""

CONFIG = """\
ledger: {ledger}
models:
  - name: small
    model: openai/some-model
    base_url: {upstream}
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}}
strategies: [direct]
budgets:
  - {{scope: organisation, limit_usd: {limit_usd}, period: total}}
budget_wait_s: 100
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway: its process and where it listens."""

    process: subprocess.Popen[str]
    base_url: str

    def kill(self) -> None:
        """End it as a power cut would: kill -9."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(config: Path, trap: Sequence[str] = ()) -> Gateway:
    """Start a gateway and wait until it serves; with a ``trap`` it will die as `killed` says."""
    program = [str(KILLED)] if trap else ["-c", PROGRAM]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *program, str(config), *trap],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    gateway = Gateway(process, process.stdout.readline().strip())
    if not gateway.base_url:
        gateway.kill()
    assert gateway.base_url, "the gateway did not start"
    return gateway


@contextmanager
def running(config: Path, n: int) -> Iterator[list[Gateway]]:
    """Run ``n`` gateways on one configuration until the block ends."""
    gateways: list[Gateway] = []
    try:
        gateways.extend(start(config) for _ in range(n))
        yield gateways
    finally:
        for gateway in gateways:
            gateway.kill()


async def until(true: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(0.005)


def worst(text: str, max_tokens: int) -> int:
    """Worst case in nano-USD of one user message."""
    return (16 + 16 + len("user") + len(text.encode())) * 1_000 + max_tokens * 2_000
