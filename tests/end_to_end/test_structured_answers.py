"""OpenAI's client asks for a schema: parsed where it is kept, marked where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from pydantic import BaseModel
from serving import client_of, config_text, gateway

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = pytest.mark.anyio

GOOD, BROKEN = '{"n": 7}', '{"n": "many"}'
ASKED: Any = {"model": "small", "messages": [{"role": "user", "content": "how many?"}]}
FORM: Any = {
    "type": "json_schema",
    "json_schema": {"name": "count", "schema": {"properties": {"n": {"type": "integer"}}}},
}


class Count(BaseModel):
    """What is asked for."""

    n: int


async def test_a_schema_is_kept_marked_or_refused(tmp_path: Path, upstream: Upstream) -> None:
    """Whole, streamed, by vote, and with a schema that is none."""
    text = config_text(
        tmp_path, upstream.base_url, strategies="direct, self_consistency(samples=3)"
    )
    upstream.default = upstream.Served((GOOD,))
    with gateway(text) as address:
        async with client_of(address) as client:
            parsed = await client.chat.completions.parse(**ASKED, response_format=Count)
            assert parsed.choices[0].message.parsed == Count(n=7)
            assert (parsed.model_extra or {})["compute"]["verified"] is True
            upstream.default = upstream.Served((BROKEN, BROKEN, GOOD))
            broken = await client.chat.completions.create(**ASKED, response_format=FORM)
            assert broken.choices[0].message.content == BROKEN
            assert (broken.model_extra or {})["compute"]["verified"] is False
            stream = await client.chat.completions.create(
                **ASKED, response_format=FORM, stream=True
            )
            last = [chunk async for chunk in stream][-1]
            told = (last.model_extra or {})["compute"]
            assert (told["verified"], told["verified_by"]) == (False, "response_format:json_schema")
            voted = await client.chat.completions.create(
                **ASKED,
                response_format=FORM,
                extra_body={"compute": {"strategy": "self_consistency"}},
            )
            assert voted.choices[0].message.content == GOOD
            plain = await client.chat.completions.create(**ASKED)
            assert (plain.model_extra or {})["compute"]["verified"] is None
            n_asked = len(upstream.requests)
            with pytest.raises(openai.BadRequestError, match="not valid at"):
                await client.chat.completions.create(
                    **ASKED,
                    response_format={
                        "type": "json_schema",
                        "json_schema": {"name": "x", "schema": {"type": "nothing"}},
                    },
                )
            assert len(upstream.requests) == n_asked
