"""A process reward model behind HTTP, on a loopback port."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from parts import PRICE, asks, catalog, scripted
from sqlalchemy import select

from cost_models.types import Usage
from policies.types import AnswerKind
from router.errors import (
    AllowanceExceededError,
    ProviderError,
    ProviderTimeoutError,
    StrategyConfigError,
)
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.routing.chooser import Chooser
from router.routing.service import RoutingService
from router.types import Answer, Message, Task
from router.verifiers.process_reward import price_of
from router.verifiers.registry import parse_verifier
from storage.models import CallRow, EntryRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from storage.store import Ledger

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


def meter(max_cost_nano_usd: int | None = None) -> Meter:
    """Give a meter over a model that nobody asks."""
    provider = ScriptedProvider([], "small")
    return Meter(provider, PRICE, Allowance(max_cost_nano_usd=max_cost_nano_usd))


def vllm(*rows: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Give a reply of vLLM's pooling interface."""
    return {"object": "list", "data": [{"index": 0, "object": "pooling", "data": list(rows)}]}


async def test_vllm_is_asked_with_marks_and_its_rows_are_steps() -> None:
    """One row a mark: shares of bad and good. A mark in a step is taken out first."""
    async with serving(vllm([0.1, 0.9], [0.7, 0.3], [0.2, 0.8])) as (url, asked):
        verifier = parse_verifier({"process_reward": {"url": url, "model": "prm", "price": "free"}})
        verdict = await verifier.verify(TASK, ANSWER, meter())
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
        parameters = {
            "url": f"{url}/judge",
            "form": "plain",
            "aggregation": "last",
            "price": "free",
        }
        verdict = await parse_verifier({"process_reward": parameters}).verify(TASK, ANSWER, meter())
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
        verifier = parse_verifier({"process_reward": {"url": url, "price": "free"}})
        with pytest.raises(ProviderError):
            await verifier.verify(TASK, ANSWER, meter())


async def test_a_failing_a_slow_and_an_absent_server() -> None:
    """Each is a typed error; an answer without steps asks nobody."""
    async with serving({}, status=503) as (url, asked):
        verifier = parse_verifier({"process_reward": {"url": url, "price": "free"}})
        with pytest.raises(ProviderError) as raised:
            await verifier.verify(TASK, ANSWER, meter())
        assert raised.value.status == 503
        assert (await verifier.verify(TASK, Answer(" "), meter())).quality is None
        assert len(asked) == 1
    with pytest.raises(ProviderError, match="cannot be reached"):
        await verifier.verify(TASK, ANSWER, meter())
    async with serving({}, delay_s=5.0) as (url, _):
        slow = parse_verifier({"process_reward": {"url": url, "timeout_s": 0.05, "price": "free"}})
        with pytest.raises(ProviderTimeoutError):
            await slow.verify(TASK, ANSWER, meter())


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
    given = {"url": f"http://{host}:{port}/", "form": "plain", "price": "free"}
    try:
        verifier = parse_verifier({"process_reward": {**given, "key_variable": "PRM_KEY"}})
        with pytest.raises(ProviderError, match="PRM_KEY with its key is not set"):
            await verifier.verify(TASK, ANSWER, meter())
        monkeypatch.setenv("PRM_KEY", "secret-7")
        await verifier.verify(TASK, ANSWER, meter())
        await parse_verifier({"process_reward": given}).verify(TASK, ANSWER, meter())
    finally:
        await runner.cleanup()
    assert told == ["Bearer secret-7", None]
    assert "secret-7" not in str(verifier)


def test_a_key_in_the_place_of_its_variable_is_refused() -> None:
    """Without repeating it."""
    with pytest.raises(StrategyConfigError, match="not the key itself") as error:
        parse_verifier(
            {"process_reward": {"url": "http://x", "price": "free", "key_variable": "sk-abc"}}
        )
    assert "sk-abc" not in str(error.value)


@pytest.mark.parametrize(
    ("price", "nano_usd"),
    [
        ("free", 0),
        ("0.2 per million tokens", 100 * 200),
        ("0.0001 per request", 100_000),
        ("0.2 per million tokens + 0.0001 per request", 120_000),
    ],
)
async def test_a_verdict_is_paid_at_the_servers_own_price(price: str, nano_usd: int) -> None:
    """By what it reports; held before it is asked, and asked only where that fits."""
    reply = {**vllm(0.9, 0.8, 0.7), "usage": {"prompt_tokens": 100, "total_tokens": 100}}
    async with serving(reply) as (url, asked):
        verifier = parse_verifier({"process_reward": {"url": url, "price": price}})
        (call,) = verifier.worst_case(TASK, 10)
        held = call.own_nano_usd or 0
        allowed = meter(held)
        await verifier.verify(TASK, ANSWER, allowed)
        (record,) = allowed.calls
        assert record.cost_nano_usd == nano_usd <= held
        assert record.usage == Usage(n_calls=1, prompt_tokens=100)
        assert (record.model, record.role) == ("process-reward-model", "verify")
        assert f"http://{record.provider}" == url
        if held:
            with pytest.raises(AllowanceExceededError):
                await verifier.verify(TASK, ANSWER, meter(0))
            assert len(asked) == 1


async def test_a_server_of_ones_own_is_paid_by_its_time_and_a_lost_answer_in_full() -> None:
    """Tokens that nobody reports are estimated; a refusal or no connection costs nothing."""
    price = {"price": "3.6 per machine hour", "timeout_s": 0.2}
    async with serving(vllm(0.9, 0.8, 0.7), delay_s=0.01) as (url, _):
        own = meter()
        await parse_verifier({"process_reward": {"url": url, **price}}).verify(TASK, ANSWER, own)
    assert own.usage.estimated
    assert 10_000 <= own.cost_nano_usd <= 200_000
    async with serving({}, delay_s=5.0) as (url, _):
        lost = meter()
        with pytest.raises(ProviderTimeoutError):
            await parse_verifier({"process_reward": {"url": url, **price}}).verify(
                TASK, ANSWER, lost
            )
    assert lost.calls[0].in_doubt
    assert lost.cost_nano_usd == 200_000
    refused, gone = meter(), meter()
    async with serving({}, status=503) as (url, _):
        verifier = parse_verifier({"process_reward": {"url": url, **price}})
        with pytest.raises(ProviderError):
            await verifier.verify(TASK, ANSWER, refused)
    with pytest.raises(ProviderError):
        await verifier.verify(TASK, ANSWER, gone)
    assert refused.cost_nano_usd == gone.cost_nano_usd == 0
    assert len(refused.calls) == len(gone.calls) == 1


@pytest.mark.parametrize(
    "text", ["x" * 50_000, "\n".join("ab" * 90), "\ud800x" * 9_000, "\x00ü\n" * 9_000]
)
async def test_what_is_sent_fits_what_was_held(text: str) -> None:
    """However long and odd the answer: its end is read, and its steps are bounded."""
    async with serving({}, status=503) as (url, asked):
        verifier = parse_verifier({"process_reward": {"url": url, "price": "1 per million tokens"}})
        (call,) = verifier.worst_case(TASK, 10)
        with pytest.raises(ProviderError):
            await verifier.verify(TASK, Answer(text), meter(call.own_nano_usd))
    sent = "".join(message["content"] for message in asked[0][1]["messages"])
    assert len(sent.encode(errors="surrogatepass")) * 1_000 <= (call.own_nano_usd or 0)


async def test_it_is_held_and_in_the_ledger_with_the_request(ledger: Ledger) -> None:
    """A call row of its own, at its own price, and the entry's cost is the sum."""
    async with serving({"scores": [0.9]}) as (url, _):
        judge = f"process_reward(url='{url}', form='plain', price='0.0001 per request')"
        strategy = f'best_of_n(samples=2, batch=2, verifier="{judge}")'
        plain, found = (
            catalog(scripted("small", lambda *_: "Answer: 4"), strategies=(text,))
            for text in ("best_of_n(samples=2, batch=2, verifier='arithmetic')", strategy)
        )
        service = RoutingService(found, Chooser(found), ledger)
        asked = asks(answer_kind=AnswerKind.NUMBER)
        served = await service.answer(asked)
        held = [
            (await RoutingService(c, Chooser(c), ledger).plan(asked)).candidates[0]
            for c in (plain, found)
        ]
    entry = ledger.read(lambda s: s.scalars(select(EntryRow)).one())
    calls = ledger.read(lambda s: s.scalars(select(CallRow).order_by(CallRow.seq)).all())
    assert [(c.role, c.price_source) for c in calls] == [
        ("answer", "test"),
        ("verify", "config process_reward"),
    ]
    assert calls[1].cost_nano_usd == 100_000
    assert calls[1].provider == url.removeprefix("http://")
    assert entry.cost_nano_usd == sum(c.cost_nano_usd for c in calls) == served.cost_nano_usd
    assert (held[1].worst_case_nano_usd or 0) - (held[0].worst_case_nano_usd or 0) == 200_000
    assert ledger.examine() == []


@pytest.mark.parametrize(
    "price", ["", "cheap", "0 per request", "1 per request + 1 per request", "1e-4 per request"]
)
def test_a_price_that_is_not_known_is_refused(price: str) -> None:
    """When the configuration is read, with what to write."""
    with pytest.raises(StrategyConfigError, match="write price='free'"):
        parse_verifier({"process_reward": {"url": "http://x", "price": price}})
    with pytest.raises(StrategyConfigError, match="price has no default"):
        parse_verifier({"process_reward": {"url": "http://x"}})
    assert price_of("0.5 per machine hour").owned
