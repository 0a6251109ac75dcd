"""A gateway in a thread of its own, for programs that serve and ask in one process."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

POLL_S = 0.005


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` on a free loopback port until the block ends; give its address.

    What is in flight at the end is let finish. Raises RuntimeError when the application does not
    start.
    """
    config = uvicorn.Config(app, port=0, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(POLL_S)
        if not server.started:
            msg = "the gateway did not start"
            raise RuntimeError(msg)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
