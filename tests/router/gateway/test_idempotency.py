"""Idempotency keys: a repeated request gets the first answer and is charged once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from scripted_engine import ScriptedEngine, slow

from cost_models.errors import BudgetExceededError, BudgetFacts
from router.gateway.idempotency import Idempotency, Keeping
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from conftest import Serve
    from starlette.types import Message, Receive, Scope, Send

BODY = {"model": "auto", "messages": [{"role": "user", "content": "what is 2 + 2 ?"}]}
PATH = "/v1/chat/completions"
KEY = {"idempotency-key": "k1"}
DELAY_S = 0.2


@pytest.fixture
def engine() -> ScriptedEngine:
    """Give the number of the answer, so that a second run would show."""
    engine = ScriptedEngine()
    engine.provider._ask = lambda _request, _i: slow(DELAY_S, f"run {len(engine.requests)}")  # noqa: SLF001 - the double's script
    return engine


def test_a_repeated_request_gets_the_first_answer(serve: Serve, engine: ScriptedEngine) -> None:
    """Byte for byte, with the first one's id, marked as such, and charged once."""
    client = serve(engine)
    first, again = (client.post(PATH, json=BODY, headers=KEY) for _ in range(2))
    assert again.content == first.content
    assert again.headers["x-request-id"] == first.headers["x-request-id"] == first.json()["id"]
    assert "x-rheostat-replayed" not in first.headers
    assert again.headers["x-rheostat-replayed"] == "true"
    assert len(engine.settled) == 1


def test_a_repeated_stream_gets_the_first_events(serve: Serve, engine: ScriptedEngine) -> None:
    """The whole stream, to its end."""
    client = serve(engine)
    body = {**BODY, "stream": True}
    first, again = (client.post(PATH, json=body, headers=KEY) for _ in range(2))
    assert again.text == first.text
    assert again.text.endswith("data: [DONE]\n\n")
    assert len(engine.settled) == 1


def test_repeats_at_the_same_time_wait_for_the_one_answer(
    serve: Serve, engine: ScriptedEngine
) -> None:
    """Four at once, one run."""
    client = serve(engine)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.post, PATH, json=BODY, headers=KEY) for _ in range(4)]
        answers = {each.result().content for each in asked}
    assert len(answers) == 1
    assert len(engine.settled) == 1


def test_a_client_that_gave_up_finds_its_answer(serve: Serve, engine: ScriptedEngine) -> None:
    """The work goes on without the connection; without a key it would have been cancelled."""
    client = serve(engine)
    with pytest.raises(httpx.ReadTimeout):
        client.post(PATH, json=BODY, headers=KEY, timeout=DELAY_S / 4)
    answer = client.post(PATH, json=BODY, headers=KEY).json()
    assert answer["choices"][0]["message"]["content"] == "run 1"
    assert engine.cancelled == []
    assert len(engine.settled) == 1


def test_another_body_under_the_same_key_is_a_conflict(
    serve: Serve, engine: ScriptedEngine
) -> None:
    """422, and nothing runs; a key that is no key is a 400."""
    client = serve(engine)
    client.post(PATH, json=BODY, headers=KEY)
    refused = client.post(PATH, json={**BODY, "n": 2}, headers=KEY)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "idempotency_key_reused"
    assert "x-request-id" in refused.headers
    assert client.post(PATH, json=BODY, headers={"idempotency-key": ""}).status_code == 400
    long = {"idempotency-key": "k" * 256}
    assert client.post(PATH, json=BODY, headers=long).status_code == 400
    assert len(engine.requests) == 1


def test_tenants_do_not_share_keys(serve: Serve, engine: ScriptedEngine) -> None:
    """The same key of another tenant is another request."""
    client = serve(engine, GatewaySettings(keys={"a": "sk-a", "b": "sk-b"}))
    contents = {
        client.post(PATH, json=BODY, headers={**KEY, "authorization": f"Bearer {key}"}).content
        for key in ("sk-a", "sk-b")
    }
    assert len(contents) == 2
    assert len(engine.settled) == 2


def test_a_refusal_is_not_kept(serve: Serve, engine: ScriptedEngine) -> None:
    """Once there is money again, the same key is served."""
    client = serve(engine)
    engine.refusal = BudgetExceededError(BudgetFacts("organisation", "total", 5, 5, 0, None), 1)
    assert client.post(PATH, json=BODY, headers=KEY).status_code == 402
    engine.refusal = None
    assert client.post(PATH, json=BODY, headers=KEY).status_code == 200


def test_a_body_above_the_limit_is_still_refused(serve: Serve, engine: ScriptedEngine) -> None:
    """Also one that does not say how long it is."""
    client = serve(engine, GatewaySettings(max_body_bytes=100))
    pieces = (b"x" * 60 for _ in range(3))
    response = client.post(PATH, content=pieces, headers=KEY)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


@pytest.mark.parametrize(
    "keeping",
    [
        pytest.param(Keeping(max_answers=2), id="too many"),
        pytest.param(Keeping(max_bytes=8), id="too many bytes"),
    ],
)
def test_what_is_kept_is_bounded(keeping: Keeping) -> None:
    """The oldest answer goes first, and is made anew when it is asked for."""
    n_runs = 0

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal n_runs
        n_runs += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"four"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        """Take it."""

    async def ask_all() -> list[int]:
        once, counts = Idempotency(keeping), []
        for key in (b"1", b"2", b"2", b"3", b"3", b"1"):
            await once.run(app, {"path": PATH}, receive, send, "t", key)
            counts.append(n_runs)
        return counts

    assert asyncio.run(ask_all()) == [1, 2, 2, 3, 3, 4]
