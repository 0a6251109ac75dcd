"""The cache through OpenAI's client: a hit says so, costs nothing, and stays with its tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from serving import client_of, config_text, gateway

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = pytest.mark.anyio

ASKED: Any = {
    "model": "small",
    "messages": [{"role": "user", "content": "how many?"}],
    "temperature": 0,
}


async def test_a_hit_is_told_and_free(tmp_path: Path, upstream: Upstream) -> None:
    """Whole and streamed; not for another tenant, and not where the client wants none."""
    config = config_text(tmp_path, upstream.base_url, "cache: {ttl_s: 60}")
    with gateway(config) as address:
        async with client_of(address) as client, client_of(address, "bolt") as other:
            create = client.chat.completions.with_raw_response.create
            first, hit = [await create(**ASKED) for _ in range(2)]
            assert "x-rheostat-cache" not in first.headers
            assert hit.headers["x-rheostat-cache"] == "hit"
            assert hit.headers["x-rheostat-cost-usd"] == "0.000000000"
            assert hit.parse().choices == first.parse().choices
            told = (hit.parse().model_extra or {})["compute"]
            assert told["cached_from"] == first.parse().id != hit.parse().id
            stream = await client.chat.completions.create(
                **ASKED, stream=True, stream_options={"include_usage": True}
            )
            *_, last, usage = [chunk async for chunk in stream]
            assert (last.model_extra or {})["compute"]["cached_from"] == first.parse().id
            assert usage.choices == []
            assert len(upstream.requests) == 1
            await other.chat.completions.create(**ASKED)
            await create(**ASKED, extra_headers={"x-compute-cache": "false"})
            await create(**ASKED, extra_body={"compute": {"cache": False}})
            assert len(upstream.requests) == 4


async def test_without_the_setting_nothing_is_cached(tmp_path: Path, upstream: Upstream) -> None:
    """It is off by default."""
    with gateway(config_text(tmp_path, upstream.base_url)) as address:
        async with client_of(address) as client:
            for _ in range(2):
                await client.chat.completions.create(**ASKED)
    assert len(upstream.requests) == 2
