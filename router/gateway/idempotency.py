"""Idempotency keys: a request that is sent again gets the first answer, and is charged once.

A request with a key runs apart from its connection: a client that leaves and comes back with the
same key finds its answer, or waits for the one under way. Answers are kept in this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from router.errors import RequestError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_KEY_BYTES = 255
OK = 200
REPLAYED = (b"x-rheostat-replayed", b"true")


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much is kept: answers, their bytes in all, the bytes of one, and for how long."""

    max_answers: int = 10_000
    max_bytes: int = 64 << 20
    max_bytes_of_one: int = 1 << 20
    seconds: float = 24 * 3600.0


@dataclass(slots=True)
class _Exchange:
    """One answer as it grows: what was asked (a digest), what was sent so far."""

    digest: bytes
    messages: list[Message] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    work: asyncio.Task[None] | None = None
    n_bytes: int = 0
    ended_s: float | None = None

    async def record(self, message: Message) -> None:
        """Add to the answer and wake who follows it."""
        self.messages.append(message)
        self.n_bytes += len(message.get("body", b""))
        self._wake()

    def end(self) -> None:
        """Say that nothing follows."""
        self.ended_s = time.monotonic()
        self._wake()

    async def follow(self, send: Send, *, is_first: bool) -> None:
        """Send the answer from its beginning to its end, as it comes; raise what ended it."""
        n_sent = 0
        while True:
            grown = self.grown
            while n_sent < len(self.messages):
                await send(self.messages[n_sent] if is_first else _marked(self.messages[n_sent]))
                n_sent += 1
            if self.ended_s is not None:
                break
            await grown.wait()
        if self.work is not None and not self.work.cancelled():
            self.work.result()

    @property
    def is_good(self) -> bool:
        """True for a whole answer with status 200."""
        return bool(self.messages) and (
            self.messages[0].get("status") == OK
            and not self.messages[-1].get("more_body", False)
            and self.messages[-1]["type"] == "http.response.body"
        )

    def _wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


class Idempotency:
    """The answers of one process by tenant, path and key; only those of status 200 are kept."""

    def __init__(self, keeping: Keeping | None = None) -> None:
        self._keeping = keeping or Keeping()
        self._exchanges: OrderedDict[tuple[str, str, bytes], _Exchange] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()
        self._n_bytes = 0

    async def run(  # noqa: PLR0913, PLR0917 - an ASGI call, with its tenant and key
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, tenant: str, key: bytes
    ) -> None:
        """Answer one request with a key.

        Raises RequestError for a key that is empty or too long, and for one that came with
        another body before.
        """
        if not 0 < len(key) <= MAX_KEY_BYTES:
            msg = f"an Idempotency-Key has 1 to {MAX_KEY_BYTES} bytes, got {len(key)}"
            raise RequestError(msg, param="Idempotency-Key", code="invalid_value")
        body = await _whole_body(receive)
        digest = sha256(body).digest()
        place = (tenant, scope["path"], key)
        self._forget_old()
        found = self._exchanges.get(place)
        if found is not None and found.digest != digest:
            msg = (
                "this Idempotency-Key came with another body before; use a new key for each "
                "new request"
            )
            raise RequestError(msg, param="Idempotency-Key", code="idempotency_key_reused")
        if found is not None:
            self._exchanges.move_to_end(place)
            await found.follow(send, is_first=False)
            return
        exchange = _Exchange(digest)
        self._exchanges[place] = exchange
        exchange.work = asyncio.create_task(self._work(app, scope, body, place, exchange))
        self._running.add(exchange.work)
        exchange.work.add_done_callback(self._running.discard)
        await exchange.follow(send, is_first=True)

    async def aclose(self) -> None:
        """Wait for what is under way: its cost is to be settled before the ledger closes."""
        while self._running:
            await asyncio.wait(self._running)

    async def _work(
        self,
        app: ASGIApp,
        scope: Scope,
        body: bytes,
        place: tuple[str, str, bytes],
        exchange: _Exchange,
    ) -> None:
        try:
            await app(scope, _receiving(body), exchange.record)
        finally:
            exchange.end()
            if exchange.is_good and exchange.n_bytes <= self._keeping.max_bytes_of_one:
                self._n_bytes += exchange.n_bytes
            else:
                del self._exchanges[place]
            self._forget_old()

    def _forget_old(self) -> None:
        """Drop finished answers that are too old or too many, the least lately asked for first."""
        keeping, now = self._keeping, time.monotonic()
        for place, exchange in list(self._exchanges.items()):
            if exchange.ended_s is None:
                continue
            too_old = now - exchange.ended_s > keeping.seconds
            too_many = len(self._exchanges) > keeping.max_answers
            if not (too_old or too_many or self._n_bytes > keeping.max_bytes):
                break
            del self._exchanges[place]
            self._n_bytes -= exchange.n_bytes


def _marked(message: Message) -> Message:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message["headers"], REPLAYED]}


async def _whole_body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(pieces)


def _receiving(body: bytes) -> Receive:
    """Hand a body over, then say nothing: the work does not end with the connection."""
    is_read = False

    async def receive() -> dict[str, Any]:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
