"""Alerts over HTTP: signed, with time-outs and retries, to one address that the operator chose.

Headers and signature follow Standard Webhooks (standardwebhooks.com, specification 1.0.0): its
libraries verify what is sent here. The address comes from the configuration alone, and no
redirect is followed, so that nobody else decides what is called.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from router.errors import WebhookError
from router.routing.signing import signing_key

if TYPE_CHECKING:
    from datetime import datetime

    from storage.alerts import Alert

WORTH_RETRYING = frozenset({408, 425, 429})
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Event:
    """What is sent. ``event_id`` stays the same over retries: receivers drop what they know."""

    event_id: str
    body: bytes


def event_of(alert: Alert) -> Event:
    """Give the event of an alert; amounts are whole nano-USD.

    ``budget.threshold``, or ``budget.forecast`` with what is projected for the window's end.
    """
    facts = alert.status.facts
    start = alert.status.window_start.isoformat()
    is_forecast = alert.projected_nano_usd is not None
    what = "forecast" if is_forecast else alert.percent
    named = f"{facts.scope}\n{facts.period}\n{start}\n{what}\n{facts.limit_nano_usd}"
    projected = {"projected_nano_usd": alert.projected_nano_usd} if is_forecast else {}
    return _event(
        f"alert_{hashlib.sha256(named.encode()).hexdigest()[:32]}",
        "budget.forecast" if is_forecast else "budget.threshold",
        {
            "text": str(alert),
            "percent": alert.percent,
            "scope": facts.scope,
            "period": facts.period,
            "soft": alert.status.soft,
            "window_start": start,
            "resets_at": facts.resets_at.isoformat() if facts.resets_at else None,
            "limit_nano_usd": facts.limit_nano_usd,
            "spent_nano_usd": facts.spent_nano_usd,
            "held_nano_usd": facts.held_nano_usd,
            **projected,
        },
    )


def trial_event(now: datetime) -> Event:
    """Give the event by which an operator tries the address."""
    text = "Rheostat can reach this address; alerts of budgets arrive here"
    return _event(f"test_{int(now.timestamp() * 1e6)}", "alerts.test", {"text": text})


def _event(event_id: str, kind: str, facts: dict[str, Any]) -> Event:
    return Event(event_id, json.dumps({"type": kind, "id": event_id, **facts}).encode())


def signature(event: Event, timestamp: int, secret: str) -> str:
    """Sign an event: ``v1,`` and the HMAC-SHA256 of id, time (s) and body, in base64."""
    signed = f"{event.event_id}.{timestamp}.".encode() + event.body
    digest = hmac.new(signing_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address for alerts. ``timeout_s`` bounds each attempt.

    The pause after the first attempt is ``pause_s``; it doubles with each.
    """

    url: str
    secret: str | None = None
    attempts: int = 4
    timeout_s: float = 5.0
    pause_s: float = 1.0

    async def send(self, event: Event, now: datetime) -> None:
        """Deliver an event; WebhookError when no attempt was answered with success.

        An answer that another attempt would not change (a redirect, most of 4xx) ends it at once.
        """
        timestamp = int(now.timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": event.event_id,
            "webhook-timestamp": str(timestamp),
        }
        if self.secret is not None:
            headers["webhook-signature"] = signature(event, timestamp, self.secret)
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            for i in range(1, self.attempts + 1):
                problem, again = await self._attempt(session, event.body)
                if problem is None:
                    return
                if not again or i == self.attempts:
                    raise WebhookError(problem, attempts=i)
                await asyncio.sleep(self.pause_s * 2 ** (i - 1))

    async def _attempt(
        self, session: aiohttp.ClientSession, body: bytes
    ) -> tuple[str | None, bool]:
        """Post once; give what went wrong, None for nothing, and whether to try again.

        Errors are told by their kind alone: their texts may hold the address, which is secret.
        """
        try:
            async with session.post(self.url, data=body, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"it was not reached ({type(error).__name__})", True
        if answer.ok and status < 300:  # noqa: PLR2004 - 2xx is success, as RFC 9110 says
            return None, False
        return f"it answered {status}", status >= SERVER_ERROR or status in WORTH_RETRYING
