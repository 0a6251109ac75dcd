"""``rheostat serve``: the gateway."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import EXIT_PROBLEM, console, errors_shown, fail, say_error, say_warning

if TYPE_CHECKING:
    from fastapi import FastAPI

    from router.gateway.config import Config

GRACE_S = 30
"""How long a stopping server waits for requests in flight; they settle either way."""

HEALTH_S = 60
"""How long a worker may be silent, on a busy machine, before it is started anew."""

FIRST_KEY_NAME = "admin"
PARENT_CHECK_S = 1.0
BACKLOG = 2048

SWITCH_S = 0.0005
"""How long a busy thread keeps the interpreter from the one that writes the ledger. That one lets
go for every call to the database; with Python's 5 ms a commit of a dozen calls waits for 60."""

GARBAGE_THRESHOLD = 10_000
"""New objects between two searches for garbage; a request leaves hardly any in cycles."""


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the ledger.")] = 1,
    no_watch: Annotated[
        bool, typer.Option("--no-watch", help="Read the file again at SIGHUP alone.")
    ] = False,
) -> None:
    """Serve the OpenAI-compatible gateway until it is stopped."""
    with errors_shown():
        import uvicorn

        from router.gateway.config import load

        loaded = load(config)
        if workers > 1 and loaded.uses_local_models:
            fail("embedded models are loaded once in one process; use --workers 1")
        for slip in loaded.price_slips():
            say_warning(slip)
        listening = listen(host, port)
        address, bound_port = listening.getsockname()[:2]
        console().print(
            f"Rheostat on http://{address}:{bound_port}/v1, ledger {loaded.ledger_shown}; "
            "Ctrl-C stops it",
            soft_wrap=True,
        )
        _make_first_key(loaded)
        settings = uvicorn.Config(
            partial(served_app, config, os.getpid() if workers > 1 else None, watch=not no_watch),
            factory=True,
            workers=workers,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
            timeout_worker_healthcheck=HEALTH_S,
        )
        if workers > 1:
            from router.cli.supervising import Supervisor

            Supervisor(settings, sockets=[listening]).run()
        else:
            server = uvicorn.Server(settings)
            with suppress(KeyboardInterrupt):
                server.run(sockets=[listening])
            if not server.started:
                raise typer.Exit(EXIT_PROBLEM)


def _make_first_key(config: Config) -> None:
    """Make a key and show it, once, where keys are asked for and there is none yet."""
    pepper = config.auth.pepper
    if pepper is None or config.auth.keys:
        return
    from router.cli.build import open_ledger, utc_now
    from storage.keys import create_first_key

    ledger = open_ledger(config)
    try:
        secret = pepper.get_secret_value()
        shown = ledger.write(lambda s: create_first_key(s, FIRST_KEY_NAME, secret, utc_now()))
    finally:
        ledger.close()
    if shown is not None:
        console().print(
            f"the first key, named {FIRST_KEY_NAME!r}; keep it, it is not shown again:\n{shown}",
            soft_wrap=True,
        )


def served_app(config: Path, supervisor_pid: int | None = None, *, watch: bool = True) -> FastAPI:
    """Build the application inside the process that serves it, and say why it cannot start.

    A changed configuration is taken over at SIGHUP and, with ``watch``, when the file changes.

    A worker whose supervisor is gone stops by itself: nobody else would stop it.
    """
    from router.cli.build import build_gateway
    from router.cli.reloading import WATCH_S, Reloader
    from router.gateway.config import load

    if supervisor_pid is not None:
        Thread(target=_end_with, args=(supervisor_pid,), name="supervisor", daemon=True).start()
    loaded = load(config)

    def begin() -> None:
        tune_interpreter()
        reloader.begin(watch_s=WATCH_S if watch else None)

    async def end() -> None:
        await reloader.aclose()

    gateway = build_gateway(
        loaded,
        on_failure=lambda error: say_error(str(error)),
        on_ready=begin,
        on_end=end,
    )
    reloader = Reloader(config, loaded, gateway, say_warning)
    return gateway.app


def tune_interpreter() -> None:
    """Suit the interpreter to serving: what was loaded is no garbage, and threads take turns."""
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def _end_with(supervisor_pid: int) -> None:
    while os.getppid() == supervisor_pid:
        time.sleep(PARENT_CHECK_S)
    os.kill(os.getpid(), signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is loaded; say what to do when it is taken.

    Who connects while the models are loaded waits instead of being refused.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        fail(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "choose another --port, or stop what uses it"
        )
    sock.set_inheritable(True)
    return sock
