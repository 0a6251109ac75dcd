"""An upstream that answers at once, so that what is measured is the gateway: no model, no thought.

``python -m benchmarks.gateway.upstream PORT`` answers ``POST .../chat/completions`` with 50 words
and their usage, or with as many chunks as the request's ``max_tokens`` says, one write for each
few. Any other path says ok.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import lru_cache
from typing import Any, cast

import httptools
import uvloop

WORD = "lorem "
PROMPT_TOKENS, COMPLETION_TOKENS = 100, 50
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
}
CHUNKS_PER_WRITE = 4
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser, which calls the methods below."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        asked: dict[str, Any] = json.loads(self._body) if self._body else {}
        self._body = b""
        model = asked.get("model", "")
        if asked.get("stream"):
            task = asyncio.ensure_future(self._stream(model, asked["max_tokens"]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._transport.write(whole(model))

    async def _stream(self, model: str, n_chunks: int) -> None:
        first, chunk, last = pieces(model)
        self._transport.write(HEAD % (b"text/event-stream", b"transfer-encoding: chunked") + first)
        for sent in range(0, n_chunks, CHUNKS_PER_WRITE):
            self._transport.write(chunk * min(CHUNKS_PER_WRITE, n_chunks - sent))
            await asyncio.sleep(0)
        self._transport.write(last)


@lru_cache
def whole(model: str) -> bytes:
    """Give a whole answer, with its head."""
    message = {"role": "assistant", "content": (WORD * COMPLETION_TOKENS).strip()}
    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode()
    return HEAD % (b"application/json", b"content-length: %d" % len(body)) + body


@lru_cache
def pieces(model: str) -> tuple[bytes, bytes, bytes]:
    """Give the first, a middle and the last piece of a stream, framed."""
    first = event(model, {"role": "assistant", "content": ""})
    ends = event(model, {}, "stop") + event(model, None) + framed(b"data: [DONE]\n\n")
    return first, event(model, {"content": WORD}), ends + b"0\r\n\r\n"


def event(model: str, delta: dict[str, str] | None, reason: str | None = None) -> bytes:
    """Give one chunk; without a delta it is the one that carries the usage."""
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [] if delta is None else [choice],
    }
    if delta is None:
        body["usage"] = USAGE
    return framed(b"data: " + json.dumps(body).encode() + b"\n\n")


def framed(data: bytes) -> bytes:
    """Give one piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
