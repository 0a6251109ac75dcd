"""The floor of this way of building a gateway: FastAPI that passes a request on with aiohttp.

``python -m benchmarks.gateway.bare PORT UPSTREAM``. It checks nothing, decides nothing and writes
nothing down.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JSON = {"content-type": "application/json"}


def application(upstream: str) -> FastAPI:
    """Build the application over an upstream's address, which ends in ``/v1``."""
    app = FastAPI()
    sessions: list[aiohttp.ClientSession] = []

    @app.post("/v1/chat/completions")
    async def pass_on(request: Request) -> Response:
        if not sessions:
            sessions.append(aiohttp.ClientSession())
        body = await request.body()
        url = f"{upstream}/chat/completions"
        reply = await sessions[0].post(url, data=body, headers=JSON)
        if reply.content_type == "text/event-stream":
            return StreamingResponse(_pieces(reply), media_type="text/event-stream")
        async with reply:
            return Response(await reply.read(), reply.status, media_type="application/json")

    return app


async def _pieces(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with reply:
        async for block in reply.content.iter_any():
            yield block


if __name__ == "__main__":
    port, address = sys.argv[1:]
    uvicorn.run(application(address), port=int(port), access_log=False, log_level="warning")
