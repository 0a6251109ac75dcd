"""Embeddings through OpenAI's client: vectors in both encodings, and every token in the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest
from serving import client_of, config_text, gateway
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from pathlib import Path

    from upstream import Upstream

pytestmark = pytest.mark.anyio

NANO_PER_TOKEN = 20
EMBEDDINGS = """
embeddings:
  - name: embed-small
    model: openai/embedding-model
    base_url: {base_url}
    api_key: upstream-key
    price: {{input_usd_per_million_tokens: 0.02}}
tags: [batch]
"""


def rows(folder: Path, asked: str) -> list[tuple[object, ...]]:
    """Read the ledger."""
    engine = create_engine(f"sqlite:///{folder / 'ledger.db'}")
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(asked))]
    engine.dispose()
    return found


async def test_vectors_come_in_the_asked_encoding_and_are_paid_for(
    tmp_path: Path, upstream: Upstream
) -> None:
    """Whatever the upstream gives; in the order of the inputs, though it is given in another."""
    config = config_text(tmp_path, upstream.base_url, EMBEDDINGS.format(base_url=upstream.base_url))
    with gateway(config) as address:
        async with client_of(address) as client:
            embeddings = client.embeddings
            plain = await embeddings.create(
                model="embed-small", input=["a", "four"], encoding_format="float", dimensions=2
            )
            assert [e.embedding for e in plain.data] == [[1.0, 0.5], [4.0, 0.5]]
            assert plain.usage.prompt_tokens == 10
            assert (plain.model_extra or {})["compute"]["cost_usd"] == 10 * NANO_PER_TOKEN / 1e9
            assert upstream.requests[-1] == {
                "model": "embedding-model",
                "input": ["a", "four"],
                "encoding_format": "float",
                "dimensions": 2,
            }
            upstream.replies.append(upstream.error(503, "busy", **{"retry-after": "0"}))
            for packs in (False, True):
                upstream.default = upstream.Served(message={"packs": packs})
                packed = await embeddings.create(
                    model="embed-small",
                    input="seven77",
                    user="u",
                    extra_body={"compute": {"tags": ["batch"], "max_cost_usd": 0.001}},
                )
                assert packed.data[0].embedding == [7.0, 0.5]
                upstream.replies.append(upstream.Served(message={"packs": packs}))
                raw = await embeddings.with_raw_response.create(
                    model="embed-small", input=[[1, 2, 3]], encoding_format="base64"
                )
                assert '"embedding":"AABAQAAAAD8="' in raw.text
            listed = {model.id async for model in client.models.list()}
            assert {"auto", "small", "embed-small"} <= listed
    counted = rows(
        tmp_path,
        "select model, strategy, status, cost_nano_usd, prompt_tokens, "
        "(select role from calls where entry_id = entries.id) from entries order by id",
    )
    first = ("embed-small", "embeddings", "settled", 10 * NANO_PER_TOKEN, 10, "embed")
    assert counted[0] == first
    assert len(counted) == 5
    assert {row[3] for row in counted[1:]} == {5 * NANO_PER_TOKEN}
    failed = "select status, role, cost_nano_usd, n_calls, error from calls where status != 'ok'"
    (turned_away,) = rows(tmp_path, failed)
    assert turned_away[:4] == ("turned_away", "embed", 0, 0)
    assert "busy" in str(turned_away[4])
    assert set(rows(tmp_path, "select query_text from requests")) == {(None,)}
    (spent,) = rows(tmp_path, "select sum(spent_nano_usd), sum(held_nano_usd) from budget_windows")
    assert spent == (30 * NANO_PER_TOKEN, 0)


async def test_what_cannot_be_embedded_costs_what_was_used(
    tmp_path: Path, upstream: Upstream
) -> None:
    """Refusals cost nothing, a reply that cannot be read what it says, silence the worst case."""
    config = config_text(tmp_path, upstream.base_url, EMBEDDINGS.format(base_url=upstream.base_url))
    config = config.replace("limit_usd: 1,", "limit_usd: 0.0001,")
    with gateway(config) as address:
        async with client_of(address) as client:
            embeddings = client.embeddings
            with pytest.raises(openai.NotFoundError, match="embed-small"):
                await embeddings.create(model="small", input="x")
            for wrong in ("", [], [""], [[]], ["a", 1]):
                with pytest.raises(openai.BadRequestError):
                    await embeddings.create(model="embed-small", input=wrong)  # type: ignore[arg-type] # what a client may send
            with pytest.raises(openai.BadRequestError, match="no meaning"):
                await embeddings.create(
                    model="embed-small", input="x", extra_body={"compute": {"strategy": "cot"}}
                )
            with pytest.raises(openai.APIStatusError) as dear:
                await embeddings.create(
                    model="embed-small", input="x", extra_body={"compute": {"max_cost_usd": 1e-9}}
                )
            assert dear.value.status_code == 402
            with pytest.raises(openai.APIStatusError) as spent:
                await embeddings.create(model="embed-small", input=["x" * 3_000] * 2)
            assert spent.value.status_code == 402
            assert not upstream.requests
            upstream.replies.append(upstream.error(400, "no upstream-key, no vectors"))
            with pytest.raises(openai.InternalServerError, match=r"no \*\*\*, no vectors"):
                await embeddings.create(model="embed-small", input="x")
            used = b'{"data": [], "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
            upstream.replies.append(upstream.Served(raw=used))
            with pytest.raises(openai.InternalServerError, match="no 1 vectors"):
                await embeddings.create(model="embed-small", input="x")
            upstream.replies.append(upstream.Served(raw=b"nonsense"))
            with pytest.raises(openai.InternalServerError, match="malformed"):
                await embeddings.create(model="embed-small", input="x")
    counted = rows(tmp_path, "select status, cost_nano_usd, error is null from entries order by id")
    worst = (1 + 16) * NANO_PER_TOKEN
    assert counted == [
        ("settled", 0, 0),
        ("settled", 3 * NANO_PER_TOKEN, 0),
        ("in_doubt", worst, 0),
    ]
    (refused,) = rows(tmp_path, "select count(*) from refusals where strategy = 'embeddings'")
    assert refused == (1,)
