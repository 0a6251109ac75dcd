"""A process reward model behind HTTP, on a loopback port."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from policies.types import AnswerKind
from router.errors import ProviderError, ProviderTimeoutError, StrategyConfigError
from router.types import Answer, Message, Task
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "What is 6 * 7?"),), AnswerKind.NUMBER)
ANSWER = Answer("First <extra_0> step.\n\nSecond step.\n\nAnswer: 42")


@asynccontextmanager
async def serving(reply: Any, *, status: int = 200, delay_s: float = 0.0) -> AsyncIterator[Any]:  # noqa: ANN401 - JSON
    """Serve one reply at every path; gives the address and what was asked."""
    asked: list[tuple[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append((request.path, await request.json()))
        await asyncio.sleep(delay_s)
        return web.json_response(reply, status=status)

    app = web.Application()
    app.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}", asked
    finally:
        await runner.cleanup()


def vllm(*rows: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Give a reply of vLLM's pooling interface."""
    return {"object": "list", "data": [{"index": 0, "object": "pooling", "data": list(rows)}]}


async def test_vllm_is_asked_with_marks_and_its_rows_are_steps() -> None:
    """One row a mark: shares of bad and good. A mark in a step is taken out first."""
    async with serving(vllm([0.1, 0.9], [0.7, 0.3], [0.2, 0.8])) as (url, asked):
        verifier = parse_verifier({"process_reward": {"url": url, "model": "prm"}})
        verdict = await verifier.verify(TASK, ANSWER)
    assert verdict.steps == (0.9, 0.3, 0.8)
    assert verdict.quality == 0.3
    assert "step 2" in verdict.reason
    ((path, body),) = asked
    assert path == "/pooling"
    assert body["model"] == "prm"
    assert body["messages"][0] == {"role": "user", "content": "What is 6 * 7?"}
    assert body["messages"][1]["content"].count("<extra_0>") == 3


async def test_the_plain_form_and_logits() -> None:
    """Question and steps as a list; a number out of [0, 1] is a logit."""
    async with serving({"scores": [0.5, 0.0, -40.0]}) as (url, asked):
        parameters = {"url": f"{url}/judge", "form": "plain", "aggregation": "last"}
        verdict = await parse_verifier({"process_reward": parameters}).verify(TASK, ANSWER)
    assert verdict.steps[:2] == (0.5, 0.0)
    assert verdict.quality == pytest.approx(0.0, abs=1e-12)
    ((path, body),) = asked
    assert path == "/judge"
    assert body["question"] == "What is 6 * 7?"
    assert len(body["steps"]) == 3


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(vllm([0.1, 0.9]), id="too few"),
        pytest.param(vllm("x", "y", "z"), id="no numbers"),
        pytest.param(vllm([], [], []), id="empty rows"),
        pytest.param({"detail": "no"}, id="another shape"),
        pytest.param([], id="a list"),
        pytest.param(vllm(True, False, True), id="truth values"),  # noqa: FBT003 - JSON
    ],
)
async def test_a_reply_that_does_not_fit_is_the_servers_error(reply: object) -> None:
    """Never a guess."""
    async with serving(reply) as (url, _):
        verifier = parse_verifier({"process_reward": {"url": url}})
        with pytest.raises(ProviderError):
            await verifier.verify(TASK, ANSWER)


async def test_a_failing_a_slow_and_an_absent_server() -> None:
    """Each is a typed error; an answer without steps asks nobody."""
    async with serving({}, status=503) as (url, asked):
        verifier = parse_verifier({"process_reward": {"url": url}})
        with pytest.raises(ProviderError) as raised:
            await verifier.verify(TASK, ANSWER)
        assert raised.value.status == 503
        assert (await verifier.verify(TASK, Answer(" "))).quality is None
        assert len(asked) == 1
    with pytest.raises(ProviderError, match="cannot be reached"):
        await verifier.verify(TASK, ANSWER)
    async with serving({}, delay_s=5.0) as (url, _):
        slow = parse_verifier({"process_reward": {"url": url, "timeout_s": 0.05}})
        with pytest.raises(ProviderTimeoutError):
            await slow.verify(TASK, ANSWER)


async def test_the_servers_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent as a bearer token and is in no text; one that is not set is told by its name."""
    told: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        told.append(request.headers.get("Authorization"))
        return web.json_response({"scores": [1.0, 1.0, 1.0]})

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    given = {"url": f"http://{host}:{port}/", "form": "plain"}
    try:
        verifier = parse_verifier({"process_reward": {**given, "key_variable": "PRM_KEY"}})
        with pytest.raises(ProviderError, match="PRM_KEY with its key is not set"):
            await verifier.verify(TASK, ANSWER)
        monkeypatch.setenv("PRM_KEY", "secret-7")
        await verifier.verify(TASK, ANSWER)
        await parse_verifier({"process_reward": given}).verify(TASK, ANSWER)
    finally:
        await runner.cleanup()
    assert told == ["Bearer secret-7", None]
    assert "secret-7" not in str(verifier)


def test_a_key_in_the_place_of_its_variable_is_refused() -> None:
    """Without repeating it."""
    with pytest.raises(StrategyConfigError, match="not the key itself") as error:
        parse_verifier({"process_reward": {"url": "http://x", "key_variable": "sk-abc"}})
    assert "sk-abc" not in str(error.value)
