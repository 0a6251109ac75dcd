"""A whole gateway over a real upstream and a ledger in a file, for OpenAI's own client."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx
import openai

from router.cli.build import build_app
from router.gateway.background import serving
from router.gateway.config import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KEYS = {"acme": "sk-acme-0123456789", "bolt": "sk-bolt-0123456789"}
"""Two tenants and their keys."""


def config_text(folder: Path, base_url: str, more: str = "", strategies: str = "direct") -> str:
    """Give a configuration of one model, two keys, and a ledger in ``folder``."""
    return f"""
ledger: sqlite:///{folder / "ledger.db"}
models:
  - name: small
    model: openai/small-model
    base_url: {base_url}
    api_key: upstream-key
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 2}}
strategies: [{strategies}]
exploration: 0
budgets: [{{scope: organisation, limit_usd: 1, period: day}}]
auth:
  mode: keys
  keys:
    - {{name: acme, key: {KEYS["acme"]}}}
    - {{name: bolt, key: {KEYS["bolt"]}}}
{more}
"""


@contextmanager
def gateway(text: str) -> Iterator[str]:
    """Serve a configuration until the block ends; give the base URL for OpenAI's client."""
    with serving(build_app(parse(text, "test", {}))) as address:
        yield f"{address}/v1"


@asynccontextmanager
async def client_of(address: str, tenant: str = "acme") -> AsyncIterator[openai.AsyncOpenAI]:
    """Give OpenAI's client of a tenant, which never repeats a request by itself."""
    async with openai.AsyncOpenAI(
        base_url=address,
        api_key=KEYS[tenant],
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False),
    ) as client:
        yield client
