"""Ask a chat endpoint as often as told, and report what the client saw, as one JSON object.

``python -m benchmarks.gateway.load '{"url": ..., "body": {...}, ...}'``: see `Load`. It runs in a
process of its own, so that its work is not taken for the gateway's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop

HTTP_OK = 200
LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """``n_requests`` of one ``body`` over so many kept-alive ``connections``, after ``warm_up``."""

    url: str
    body: dict[str, Any]
    key: str = ""
    n_requests: int = 100
    connections: int = 1
    warm_up: int = 20

    def message(self) -> bytes:
        """Give the whole request."""
        parts = urlsplit(self.url)
        body = json.dumps(self.body).encode()
        lines = (
            f"POST {parts.path} HTTP/1.1",
            f"host: {parts.netloc}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *([f"authorization: Bearer {self.key}"] if self.key else []),
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(slots=True)
class Seen:
    """What a client saw; times in seconds."""

    whole_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    n_chunks: int = 0
    n_failed: int = 0
    refusal: str = ""


class Client(asyncio.Protocol):
    """One connection: `ask` sends the request and gives when the first byte and the last came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self.transport = cast("asyncio.Transport", transport)
        self._done: asyncio.Future[None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, which calls the methods below."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Note the time of the first piece."""
        if not self._body:
            self._first_s = time.perf_counter()
        self._body += body

    def on_message_complete(self) -> None:
        """Wake who waits."""
        if self._done is not None:
            self._done.set_result(None)

    async def ask(self, message: bytes, seen: Seen) -> None:
        """Ask once and write down what came."""
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._done = asyncio.get_running_loop().create_future()
        began_s = time.perf_counter()
        self.transport.write(message)
        await asyncio.wait_for(self._done, LONGEST_S)
        ended_s = time.perf_counter()
        if self._parser.get_status_code() != HTTP_OK:
            seen.n_failed += 1
            seen.refusal = self._body.decode(errors="replace")[:300]
            return
        seen.whole_s.append(ended_s - began_s)
        seen.first_s.append(self._first_s - began_s)
        seen.n_chunks += self._body.count(b'"delta"')


async def run(load: Load) -> dict[str, Any]:
    """Put the load on and sum up."""
    parts = urlsplit(load.url)
    loop = asyncio.get_running_loop()
    message = load.message()
    left = 0

    async def client(seen: Seen) -> None:
        nonlocal left
        _, protocol = await loop.create_connection(Client, parts.hostname, parts.port)
        while left > 0:
            left -= 1
            await protocol.ask(message, seen)
        protocol.transport.close()

    async def all_clients(n_requests: int) -> Seen:
        nonlocal left
        left, seen = n_requests, Seen()
        await asyncio.gather(*(client(seen) for _ in range(load.connections)))
        return seen

    await all_clients(load.warm_up)
    began_s = time.perf_counter()
    seen = await all_clients(load.n_requests)
    took_s = time.perf_counter() - began_s
    return {
        "n_ok": len(seen.whole_s),
        "n_failed": seen.n_failed,
        "refusal": seen.refusal,
        "requests_per_s": len(seen.whole_s) / took_s,
        "chunks_per_s": seen.n_chunks / took_s,
        "p50_ms": 1e3 * quantile(seen.whole_s, 0.5),
        "p99_ms": 1e3 * quantile(seen.whole_s, 0.99),
        "first_p50_ms": 1e3 * quantile(seen.first_s, 0.5),
    }


def quantile(seconds: list[float], share: float) -> float:
    """Give the value that ``share`` of them do not exceed; nan without any."""
    if not seconds:
        return float("nan")
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(Load(**json.loads(sys.argv[1]))))))
