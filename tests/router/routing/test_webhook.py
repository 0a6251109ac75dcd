"""Alerts over HTTP, against a real server: signed, tried again, and never sent elsewhere."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from parts import WORST, asks, at_worst, catalog, scripted

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetFacts
from router.errors import WebhookError
from router.routing.chooser import Chooser
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from router.routing.signing import signing_key
from router.routing.webhook import Event, Webhook, event_of, signature, trial_event
from storage.alerts import Alert
from storage.budgets import BudgetStatus
from storage.engine import create_ledger_engine
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SECRET = "0123456789abcdef"  # noqa: S105 - of this test


class Receiver:
    """A server that answers with each status in order, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Keep what was posted."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((request.path, headers, await request.read()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers={"location": "/elsewhere"})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Receiver]:
        """Serve on a free port until the block ends."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/private-path"
        try:
            yield self
        finally:
            await runner.cleanup()


def alert(percent: int = 80) -> Alert:
    """Say that a budget has spent a share of 1000 nano-USD."""
    facts = BudgetFacts("key:a", "day", 1000, percent * 10, 0, NOW)
    return Alert(BudgetStatus(facts, NOW, 0), percent)


async def test_a_forecast_is_an_event_of_its_own() -> None:
    """With what is projected, the same however the projection moves within the window."""
    status = alert().status
    event = event_of(Alert(status, 130, 1300))
    told = json.loads(event.body)
    assert (told["type"], told["percent"], told["projected_nano_usd"]) == (
        "budget.forecast",
        130,
        1300,
    )
    assert event.event_id == event_of(Alert(status, 131, 1310)).event_id
    assert event.event_id != event_of(Alert(status, 100)).event_id


def test_a_secret_in_the_standard_form_is_decoded() -> None:
    """The example of the specification's libraries; any other text is its own key."""
    event = Event("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    signed = signature(event, 1614265330, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signing_key(SECRET) == SECRET.encode()


async def test_an_event_is_signed_and_the_same_over_retries() -> None:
    """Two failures, then success; the receiver can verify each and tell that they are one."""
    async with Receiver(503, 429, 204).running() as receiver:
        await Webhook(receiver.url, SECRET, pause_s=0.001).send(event_of(alert()), NOW)
    assert len(receiver.got) == 3
    for _, headers, body in receiver.got:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(expected).decode()}"
    assert len({headers["webhook-id"] for _, headers, _ in receiver.got}) == 1
    told = json.loads(receiver.got[0][2])
    assert (told["type"], told["scope"], told["percent"]) == ("budget.threshold", "key:a", 80)
    assert (told["spent_nano_usd"], told["limit_nano_usd"]) == (800, 1000)
    assert event_of(alert(100)).event_id != event_of(alert()).event_id


@pytest.mark.parametrize(("status", "attempts"), [(302, 1), (404, 1), (500, 3)])
async def test_a_failure_is_told_without_the_address(status: int, attempts: int) -> None:
    """Redirects are not followed; only what may change is tried again, and not for ever."""
    async with Receiver(status).running() as receiver:
        with pytest.raises(WebhookError, match=f"it answered {status}") as raised:
            await Webhook(receiver.url, attempts=3, pause_s=0.001).send(trial_event(NOW), NOW)
    assert [path for path, _, _ in receiver.got] == ["/private-path"] * attempts
    assert raised.value.attempts == attempts
    assert "private-path" not in str(raised.value)
    assert "webhook-signature" not in receiver.got[0][1]


async def test_of_two_replicas_one_sends_what_a_budget_has_passed(ledger: Ledger) -> None:
    """Spent beyond all thresholds: one event in all, also after more heartbeats of both."""
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, WORST)])
    other = Ledger(create_ledger_engine(ledger.engine.url.render_as_string(hide_password=False)))
    async with Receiver(200).running() as receiver:
        hook = Webhook(receiver.url, SECRET)
        first, second = (serving(found, hook) for found in (ledger, other))
        await asyncio.gather(first.start(), second.start())
        await first.answer(asks())
        for _ in range(200):
            if receiver.got:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        await asyncio.gather(first.aclose(), second.aclose())
    (told,) = [json.loads(body) for _, _, body in receiver.got]
    assert (told["scope"], told["percent"]) == ("organisation", 100)


def serving(ledger: Ledger, webhook: Webhook) -> RoutingService:
    """Serve one model, which costs its worst case, with a fast heart."""
    arms = catalog(scripted("small", at_worst))
    settings = ServiceSettings(heartbeat_s=0.02)
    return RoutingService(arms, Chooser(arms), ledger, settings, lambda: NOW, webhook)


async def test_an_address_where_nobody_listens_is_told_without_it() -> None:
    """The error of the client, which names the address, is not passed on."""
    async with Receiver(200).running() as receiver:
        gone = receiver.url
    with pytest.raises(WebhookError, match="it was not reached") as raised:
        await Webhook(gone, attempts=2, pause_s=0.001).send(trial_event(NOW), NOW)
    assert "private-path" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)
