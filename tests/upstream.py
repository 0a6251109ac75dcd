"""A real OpenAI-compatible server on a loopback port, with scripted replies."""

from __future__ import annotations

import asyncio
import json
import struct
from base64 import b64encode
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Served:
    """One reply of the upstream.

    ``texts`` are the completions; the last one is repeated for a larger n. ``usage`` None counts
    words, False leaves the usage out. ``raw`` replaces the body (of a stream too). ``delay_s``
    passes before the reply, ``gap_s`` before each word of a stream. ``cut_after`` closes the
    connection after that many words of a stream, or 0 at once; ``stall_after`` says nothing more
    from there on. Behind the words come the finish, the usage and the end, each counted as one.
    ``ignores_n`` gives one choice.
    """

    texts: tuple[str, ...] = ("ok",)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    usage: dict[str, Any] | bool | None = None
    raw: bytes | None = None
    delay_s: float = 0.0
    gap_s: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None
    finish_reason: str = "stop"
    ignores_n: bool = False
    message: dict[str, Any] = field(default_factory=dict)
    logprobs: dict[str, Any] | None = None


def error(status: int, message: str, **headers: str) -> Served:
    """Give a reply that is an error in OpenAI's form."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": None}}
    return Served(status=status, raw=json.dumps(body).encode(), headers=headers)


class Upstream:
    """The server. ``replies`` are given in order, then ``default`` for ever.

    ``requests`` keeps the bodies, ``headers`` the headers, ``peers`` the clients' addresses.
    ``asked`` is set by the first request, ``hung_up`` by a client that left before the end.
    """

    Served = Served
    error = staticmethod(error)

    def __init__(self) -> None:
        self.replies: deque[Served] = deque()
        self.default = Served()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.peers: list[tuple[str, int]] = []
        self.n_in_flight = 0
        self.peak_in_flight = 0
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.base_url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Upstream]:
        """Serve on a free port until the block ends."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._embed)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.asked.set()
        if request.transport is not None:
            self.peers.append(request.transport.get_extra_info("peername"))
        served = self.replies.popleft() if self.replies else self.default
        self.n_in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.n_in_flight)
        try:
            await asyncio.sleep(served.delay_s)
            if body.get("stream") and served.status == 200:
                return await self._stream(request, body, served)
            return self._whole(request, body, served)
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise
        finally:
            self.n_in_flight -= 1

    async def _embed(self, request: web.Request) -> web.Response:
        """Give each input the vector [its length, 0.5]; in base64 only if ``message`` says so."""
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        self.asked.set()
        served = self.replies.popleft() if self.replies else self.default
        await asyncio.sleep(served.delay_s)
        if served.raw is not None:
            return web.Response(body=served.raw, status=served.status, headers=served.headers)
        given = body["input"]
        packed = body.get("encoding_format") == "base64" and served.message.get("packs")
        vectors = [[float(len(text)), 0.5] for text in given]
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": b64encode(struct.pack("<2f", *v)).decode() if packed else v,
            }
            for i, v in enumerate(vectors)
        ]
        reply = {"object": "list", "data": data[::-1], "model": body["model"]}
        if served.usage is not False:
            reply["usage"] = served.usage or {
                "prompt_tokens": len(given) * 5,
                "total_tokens": len(given) * 5,
            }
        return web.json_response(reply)

    def _whole(self, request: web.Request, body: dict[str, Any], served: Served) -> web.Response:
        if served.cut_after is not None and request.transport is not None:
            request.transport.close()
        if served.raw is not None:
            return web.Response(body=served.raw, status=served.status, headers=served.headers)
        n = 1 if served.ignores_n else body.get("n", 1)
        texts = [served.texts[min(i, len(served.texts) - 1)] for i in range(n)]
        reply = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": i,
                    "message": {"role": "assistant", "content": text, **served.message},
                    "finish_reason": served.finish_reason,
                    "logprobs": served.logprobs,
                }
                for i, text in enumerate(texts)
            ],
        }
        if served.usage is not False:
            reply["usage"] = served.usage or words(body, texts)
        return web.json_response(reply, status=served.status, headers=served.headers)

    async def _stream(
        self, request: web.Request, body: dict[str, Any], served: Served
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if served.raw is not None:
            await response.write(served.raw)
            return response
        base = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": body["model"],
        }

        def event(choices: list[dict[str, Any]], **further: object) -> bytes:
            return f"data: {json.dumps({**base, 'choices': choices, **further})}\n\n".encode()

        def choice(delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
            return [{"index": 0, "delta": delta, "finish_reason": reason}]

        said = served.texts[0].split(" ")
        events = [
            event(choice({"content": word if i == 0 else f" {word}"}))
            for i, word in enumerate(said)
        ]
        events.append(event(choice(served.message, served.finish_reason)))
        wants_usage = (body.get("stream_options") or {}).get("include_usage")
        if wants_usage and served.usage is not False:
            usage = served.usage or words(body, [served.texts[0]])
            events.append(event([], usage=usage))
        events.append(b"data: [DONE]\n\n")
        await response.write(event(choice({"role": "assistant", "content": ""})))
        for i, one in enumerate(events):
            if served.cut_after == i:
                if request.transport is not None:
                    request.transport.abort()
                return response
            if served.stall_after == i:
                await asyncio.Event().wait()
            await asyncio.sleep(served.gap_s if i < len(said) else 0.0)
            await response.write(one)
        return response


def words(body: dict[str, Any], texts: list[str]) -> dict[str, int]:
    """Count words as tokens."""
    prompt = sum(len(str(message["content"]).split()) for message in body["messages"])
    completion = sum(len(text.split()) for text in texts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
