"""The heartbeat of a service: say that it lives, and do what has to be done every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cost_models.errors import RheostatError
from router.errors import WebhookError
from router.routing.webhook import event_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from router.routing.books import Books
    from router.routing.pacing import Pacer
    from router.routing.webhook import Webhook
    from storage.alerts import Alert

ROLL_UP_AT_ONCE = 60
"""Hours that one heartbeat rolls up at most: more are there after an upgrade only."""

LOG = logging.getLogger("rheostat.service")


@dataclass(slots=True)
class Heart:
    """Beats every ``beat_s`` seconds once it was started; a replica silent for longer is dead.

    ``follow`` is called with each beat, in another thread: it takes over what others changed.
    ``untold`` are alerts that were not sent yet.
    """

    books: Books
    follow: Callable[[datetime], None]
    beat_s: float
    stale_after_s: float
    webhook: Webhook | None = None
    pacer: Pacer | None = None
    untold: deque[Alert] = field(default_factory=deque, init=False)
    _beating: asyncio.Task[None] | None = field(default=None, init=False)

    async def start(self) -> None:
        """Beat once, and begin to beat."""
        await self._tend_and_tell()
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Beat no more. Idempotent."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})

    async def _beat(self) -> None:
        """Beat until cancelled: an error that ended this would let others take us for dead."""
        while True:
            await asyncio.sleep(self.beat_s)
            try:
                await self.books.kept(self._tend_and_tell())
            except RheostatError as error:
                LOG.warning("the heartbeat met an error: %s", error)

    async def _tend_and_tell(self) -> None:
        """Tend, then send what was passed, in the background: a slow receiver stops no beat."""
        try:
            await asyncio.to_thread(self.tend)
        finally:
            while self.untold:
                alert = self.untold.popleft()
                if self.webhook is not None:
                    self.books.keep(asyncio.ensure_future(self._send(self.webhook, alert)))

    async def _send(self, webhook: Webhook, alert: Alert) -> None:
        """Send an alert; one that cannot be delivered is in the log all the same."""
        try:
            await webhook.send(event_of(alert), self.books.clock())
        except WebhookError as error:
            LOG.warning("an alert was not delivered: %s", error)

    def tend(self) -> None:
        """Say that we live, charge for dead ones, tell of thresholds, roll up, follow others."""
        ledger, now = self.books.ledger, self.books.clock()
        ledger.beat(now)
        self.books.settle_again()
        self.books.close_doubtful()
        self.books.permits.tend()
        for entry in ledger.recover(now, self.stale_after_s):
            LOG.warning(
                "request %s was left open by a dead process; charged %d nano-USD, in doubt",
                entry.request_id,
                entry.charged_nano_usd,
            )
        for alert in ledger.alerts(now, {} if self.pacer is None else self.pacer.paced):
            LOG.warning("%s", alert)
            self.untold.append(alert)
        ledger.roll_up(now, ROLL_UP_AT_ONCE)
        ledger.forget_answers(now)
        done = ledger.judge_trial(now)
        if done is not None:
            LOG.warning("%s", done)
        self.follow(now)
