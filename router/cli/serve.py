"""``rheostat serve``: the gateway."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import EXIT_PROBLEM, console, errors_shown, fail, say_error, say_warning

if TYPE_CHECKING:
    from fastapi import FastAPI

GRACE_S = 30
"""How long a stopping server waits for requests in flight; they settle either way."""


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the ledger.")] = 1,
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
            "Ctrl-C stops it"
        )
        settings = uvicorn.Config(
            partial(served_app, config),
            factory=True,
            workers=workers,
            log_level="critical",
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        if workers > 1:
            from uvicorn.supervisors import Multiprocess

            Multiprocess(settings, sockets=[listening]).run()
        else:
            server = uvicorn.Server(settings)
            with suppress(KeyboardInterrupt):
                server.run(sockets=[listening])
            if not server.started:
                raise typer.Exit(EXIT_PROBLEM)


def served_app(config: Path) -> FastAPI:
    """Build the application inside the process that serves it, and say why it cannot start."""
    from router.cli.build import build_app
    from router.gateway.config import load

    return build_app(load(config), on_failure=lambda error: say_error(str(error)))


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is loaded; say what to do when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        fail(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "choose another --port, or stop what uses it"
        )
    sock.set_inheritable(True)
    return sock
