"""Idempotency keys: a request that is sent again gets the first answer, and is charged once.

A request with a key runs apart from its connection: a client that leaves and comes back with the
same key finds its answer, or waits for the one under way. Answers are kept in a store that all
processes of a ledger share, or else in this process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from router.errors import RequestError
from storage.answers import ClaimState
from storage.errors import LedgerError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from storage.answers import Claim

MAX_KEY_BYTES = 255
OK = 200
FIRST_POLL_S = 0.05
LAST_POLL_S = 1.0
POLL_GROWTH = 1.5
LOG = logging.getLogger("rheostat.gateway")
Place = tuple[str, str, bytes]
"""Tenant, path and key."""

REPLAYED = (b"x-rheostat-replayed", b"true")


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much is kept: answers, their bytes in all, the bytes of one, and for how long.

    The first two and the last are of this process's memory. A request that another process runs is
    waited for up to ``wait_s``.
    """

    max_answers: int = 10_000
    max_bytes: int = 64 << 20
    max_bytes_of_one: int = 1 << 20
    seconds: float = 24 * 3600.0
    wait_s: float = 30.0


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
        return _is_good(self.messages)

    def _wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


class AnswerStore(Protocol):
    """Where answers outlive the process, and where processes agree on who runs a request.

    Its methods raise LedgerUnavailableError when it cannot be reached.
    """

    async def claim(self, place: Place, digest: bytes) -> Claim:
        """Claim a key for a body, or say what stands in the way."""
        ...

    async def keep(self, place: Place, digest: bytes, answer: bytes | None) -> None:
        """Keep the answer to a claimed key; None gives the key back."""
        ...


class Idempotency:
    """Answers by tenant, path and key; only those of status 200 are kept.

    With a ``store`` they are kept there, without one in this process.
    """

    def __init__(self, keeping: Keeping | None = None, store: AnswerStore | None = None) -> None:
        self._keeping = keeping or Keeping()
        self._store = store
        self._exchanges: OrderedDict[Place, _Exchange] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()
        self._n_bytes = 0

    async def run(  # noqa: PLR0913, PLR0917 - an ASGI call, with its tenant and key
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, tenant: str, key: bytes
    ) -> None:
        """Answer one request with a key.

        Raises RequestError for a key that is empty or too long, for one that came with another
        body before, and for one whose request another process has run for too long.
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
            raise _reused()
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
        self, app: ASGIApp, scope: Scope, body: bytes, place: Place, exchange: _Exchange
    ) -> None:
        try:
            if self._store is None:
                await app(scope, _receiving(body), exchange.record)
            else:
                await self._work_stored(self._store, app, scope, body, place, exchange)
        finally:
            exchange.end()
            fits = exchange.n_bytes <= self._keeping.max_bytes_of_one
            if self._store is None and exchange.is_good and fits:
                self._n_bytes += exchange.n_bytes
            elif self._exchanges.get(place) is exchange:
                del self._exchanges[place]
            self._forget_old()

    async def _work_stored(  # noqa: PLR0913, PLR0917 - an ASGI call, with where its answer goes
        self,
        store: AnswerStore,
        app: ASGIApp,
        scope: Scope,
        body: bytes,
        place: Place,
        exchange: _Exchange,
    ) -> None:
        """Run a request that this process may run, or give what another one was answered.

        The last bytes are held back until the answer is kept: who has seen an answer sees it again.
        """
        kept = await self._claimed(store, place, exchange.digest)
        if kept is not None:
            for message in unpacked(kept):
                await exchange.record(_marked(message))
            return
        is_open = True

        async def record(message: Message) -> None:
            nonlocal is_open
            if is_open and _is_end(message):
                is_open = False
                whole = [*exchange.messages, message]
                n_bytes = exchange.n_bytes + len(message.get("body", b""))
                is_kept = _is_good(whole) and n_bytes <= self._keeping.max_bytes_of_one
                await self._keep(store, place, exchange.digest, packed(whole) if is_kept else None)
                self._exchanges.pop(place, None)
            await exchange.record(message)

        try:
            await app(scope, _receiving(body), record)
        finally:
            if is_open:
                await self._keep(store, place, exchange.digest, None)

    async def _claimed(self, store: AnswerStore, place: Place, digest: bytes) -> bytes | None:
        """Wait until the request may be run (None) or its answer is there."""
        until_s = time.monotonic() + self._keeping.wait_s
        pause_s = FIRST_POLL_S
        while True:
            claim = await store.claim(place, digest)
            if claim.state is ClaimState.OTHER_BODY:
                raise _reused()
            if claim.state is not ClaimState.UNDER_WAY:
                return claim.answer
            if time.monotonic() >= until_s:
                msg = (
                    "the first request with this Idempotency-Key is still under way elsewhere; "
                    "send it again later"
                )
                raise RequestError(msg, param="Idempotency-Key", code="idempotency_key_in_use")
            await asyncio.sleep(pause_s)
            pause_s = min(LAST_POLL_S, pause_s * POLL_GROWTH)

    async def _keep(
        self, store: AnswerStore, place: Place, digest: bytes, answer: bytes | None
    ) -> None:
        """Keep an answer; one that cannot be kept is given all the same, since it is paid for."""
        try:
            await store.keep(place, digest, answer)
        except LedgerError as error:
            LOG.warning("an answer to an idempotency key was not kept: %s", error)

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


def packed(messages: list[Message]) -> bytes:
    """Give a whole answer as bytes to keep."""
    begin = messages[0]
    head = {
        "status": begin["status"],
        "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in begin["headers"]],
    }
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return zlib.compress(json.dumps(head).encode() + b"\n" + body, level=1)


def unpacked(kept: bytes) -> list[Message]:
    """Give an answer again as it was sent, its body in one piece."""
    head, _, body = zlib.decompress(kept).partition(b"\n")
    told = json.loads(head)
    headers = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in told["headers"]]
    return [
        {"type": "http.response.start", "status": told["status"], "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]


def _is_good(messages: list[Message]) -> bool:
    return bool(messages) and messages[0].get("status") == OK and _is_end(messages[-1])


def _is_end(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def _reused() -> RequestError:
    msg = "this Idempotency-Key came with another body before; use a new key for each new request"
    return RequestError(msg, param="Idempotency-Key", code="idempotency_key_reused")


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
