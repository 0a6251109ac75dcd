"""Server-sent events: a stream that says it is alive, stops when the client leaves, ends cleanly.

The work runs in one task of its own, from before the status line is decided: an error that comes
before the first event still gets its own status, a later one becomes an event.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import Response

from router.gateway.wire import to_choices
from router.types import Chunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
    from typing import TypeVar

    from starlette.types import Receive, Scope, Send

    from router.gateway.wire import ChunkWire
    from router.routing.types import Served

    T = TypeVar("T")

THINKING = b": thinking\n\n"
ROLE = {"role": "assistant", "content": ""}
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
CLIENT_GONE = 499

MAX_PENDING = 64
"""So many events are made ahead of a client that reads slowly."""


class ClientGoneError(Exception):
    """The client left; nobody reads what would be answered."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``, and cancel it if the client leaves meanwhile: ClientGoneError then.

    The request's body must have been read.
    """
    task = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnected(receive))
    watcher.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if watcher.done() and not watcher.cancelled():
            raise ClientGoneError from None
        raise
    finally:
        watcher.cancel()


async def events(
    stream: AsyncGenerator[Chunk | Served, None], wire: ChunkWire
) -> AsyncGenerator[bytes, None]:
    """Encode one streamed choice; its end is held back until the commit."""
    reason: str | None = None
    begun = False
    async with aclosing(stream):
        async for item in stream:
            if not isinstance(item, Chunk):
                yield wire.last(item, reason or item.answer.finish_reason)
                continue
            delta = item.delta
            if not begun:
                begun = True
                if "role" not in delta:
                    yield wire.delta(ROLE)
            if "tool_calls" in delta:
                delta = {**delta, "tool_calls": _numbered(delta["tool_calls"])}
            if delta or item.logprobs:
                yield wire.delta(delta, item.logprobs)
            reason = item.finish_reason or reason


class EventWire(Protocol):
    """How a dialect writes the events of one streamed answer."""

    def start(self) -> bytes:
        """Begin the answer."""
        ...

    def delta(self, delta: Mapping[str, Any]) -> bytes:
        """Give one piece; empty for one that says nothing."""
        ...

    def last(self, served: Served, reason: str) -> bytes:
        """End the answer; only for a request whose cost is committed."""
        ...

    def error(self, status: int, error: Mapping[str, Any]) -> bytes:
        """End the answer with an error."""
        ...


async def dialect_events(
    stream: AsyncGenerator[Chunk | Served, None], wire: EventWire
) -> AsyncGenerator[bytes, None]:
    """Encode one streamed answer in a dialect; its end is held back until the commit."""
    reason: str | None = None
    begun = False
    async with aclosing(stream):
        async for item in stream:
            if not begun:
                begun = True
                yield wire.start()
            if not isinstance(item, Chunk):
                yield wire.last(item, reason or item.answer.finish_reason)
                continue
            if event := wire.delta(item.delta):
                yield event
            reason = item.finish_reason or reason


async def whole_events(
    answer: Callable[[], Awaitable[Served]], wire: ChunkWire
) -> AsyncGenerator[bytes, None]:
    """Encode an answer of several choices, whole, one after the other."""
    served = await answer()
    choices = to_choices(served.answer)
    for i, choice in enumerate(choices):
        message = dict(choice["message"])
        if "tool_calls" in message:
            message["tool_calls"] = _numbered(message["tool_calls"])
        yield wire.delta(message, choice["logprobs"], i)
        if i < len(choices) - 1:
            yield wire.finish(choice["finish_reason"], i)
    yield wire.last(served, choices[-1]["finish_reason"], len(choices) - 1)


def _numbered(tool_calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"index": i, **call} for i, call in enumerate(tool_calls)]


class EventStream(Response):
    """The response that sends what ``source`` yields; events that come in one go share a write.

    ``describe`` gives the event for an error that comes after the first byte; ``headers`` are sent
    beside those of every stream. Create it, await ``begin``, then return it from the endpoint.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        describe: Callable[[BaseException], bytes],
        *,
        progress_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers={**HEADERS, **(headers or {})})
        del self.headers["content-length"]
        loop = asyncio.get_running_loop()
        self._describe = describe
        self._progress_s = progress_s
        self._opened: asyncio.Future[None] = loop.create_future()
        self._begun: asyncio.Future[None] = loop.create_future()
        self._pending: list[bytes] = []
        self._news: asyncio.Future[None] = loop.create_future()
        self._sent: asyncio.Future[None] = loop.create_future()
        self._watcher: asyncio.Task[None] | None = None
        self._pump = asyncio.create_task(self._run(source))
        self._pump.add_done_callback(lambda _: self._note_begin())

    async def begin(self, receive: Receive) -> None:
        """Wait for the first event, at most ``progress_s``; raise what went wrong before it.

        ClientGoneError if the client left.
        """
        self._watcher = asyncio.create_task(_disconnected(receive))
        self._watcher.add_done_callback(lambda _: self._pump.cancel())
        try:
            await asyncio.wait({self._begun}, timeout=self._progress_s)
        except asyncio.CancelledError:
            await self._stop()
            raise
        if not self._pump.done():
            return
        self._watcher.cancel()
        if self._pump.cancelled():
            raise ClientGoneError
        self._pump.result()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the events as they come, comments while there are none, and the end."""
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            self._opened.set_result(None)
            while not self._pump.done():
                waited_for = {self._pump, self._news}
                came, _ = await asyncio.wait(
                    waited_for, timeout=self._progress_s, return_when=asyncio.FIRST_COMPLETED
                )
                await send(_body(self._collected() if came else THINKING))
            if self._pending:
                await send(_body(self._collected()))
            if not self._pump.cancelled():
                error = self._pump.exception()
                if error is not None:
                    await send(_body(self._describe(error)))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._stop()

    async def _run(self, source: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(source):
            async for event in source:
                self._note_begin()
                await self._opened
                self._pending.append(event)
                if not self._news.done():
                    self._news.set_result(None)
                if len(self._pending) >= MAX_PENDING:
                    await self._sent

    def _collected(self) -> bytes:
        """Take what was made since the last time, and let more be made."""
        block = b"".join(self._pending)
        self._pending.clear()
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        if not self._sent.done():
            self._sent.set_result(None)
        self._sent = loop.create_future()
        return block

    async def _stop(self) -> None:
        """End the work, if it is still under way, and wait until it has let go."""
        if self._watcher is not None:
            self._watcher.cancel()
        self._pump.cancel()
        await asyncio.wait({self._pump})

    def _note_begin(self) -> None:
        if not self._begun.done():
            self._begun.set_result(None)


def _body(block: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": block, "more_body": True}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
