"""Idempotency keys over restarts and at several gateways of one ledger, by OpenAI's client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
import pytest
from serving import client_of, config_text, gateway
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = pytest.mark.anyio

ASKED: Any = {"model": "small", "messages": [{"role": "user", "content": "how many?"}]}


def key(name: str) -> Any:  # noqa: ANN401 - keyword arguments
    """Give the header of a key."""
    return {"extra_headers": {"idempotency-key": name}}


async def test_a_repeat_gets_the_first_answer_wherever_and_whenever_it_is_sent(
    tmp_path: Path, upstream: Upstream
) -> None:
    """After a restart, at another gateway, while the first is under way, and as a stream."""
    config = config_text(tmp_path, upstream.base_url)
    upstream.replies.extend(upstream.Served((f"run {i}",)) for i in range(9))
    with gateway(config) as first, gateway(config) as second:
        async with client_of(first) as here, client_of(second) as there:
            made = await here.chat.completions.create(**ASKED, **key("a"))
            raw = await there.chat.completions.with_raw_response.create(**ASKED, **key("a"))
            assert raw.parse() == made
            assert raw.headers["x-rheostat-replayed"] == "true"
            assert raw.headers["x-request-id"] == made.id
            with pytest.raises(openai.UnprocessableEntityError):
                await there.chat.completions.create(**ASKED, **key("a"), temperature=1)
            upstream.replies.appendleft(upstream.Served(("slow",), delay_s=0.3))
            upstream.asked.clear()
            begun = asyncio.create_task(here.chat.completions.create(**ASKED, **key("b")))
            await upstream.asked.wait()
            assert await there.chat.completions.create(**ASKED, **key("b")) == await begun
            stream = await here.chat.completions.create(**ASKED, **key("c"), stream=True)
            chunks = [chunk async for chunk in stream]
    with gateway(config) as third:
        async with client_of(third) as client, client_of(third, "bolt") as other:
            assert await client.chat.completions.create(**ASKED, **key("a")) == made
            stream = await client.chat.completions.create(**ASKED, **key("c"), stream=True)
            assert [chunk async for chunk in stream] == chunks
            assert (await other.chat.completions.create(**ASKED, **key("a"))).id != made.id
    assert len(upstream.requests) == 4
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from entries")) == 4
    engine.dispose()


async def test_a_refusal_gives_its_key_back(tmp_path: Path, upstream: Upstream) -> None:
    """What failed upstream is run anew."""
    with gateway(config_text(tmp_path, upstream.base_url)) as address:
        async with client_of(address) as client:
            upstream.replies.append(upstream.error(400, "no"))
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(**ASKED, **key("a"))
            assert (await client.chat.completions.create(**ASKED, **key("a"))).choices
    assert len(upstream.requests) == 2
