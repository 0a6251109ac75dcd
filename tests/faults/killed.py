"""A gateway that kills itself, as a power cut would, at a named point of its n-th request.

``killed.py CONFIG POINT N`` serves until the ledger has come to the point N times. Points:

- ``before reserve``: the hold's transaction has written, and is not committed
- ``reserved``: the hold is committed, and nobody was told
- ``replied``: the settlement is about to write what the upstream said
- ``before commit``: the settlement is written, and is not committed
- ``during commit``: some time after the commit was asked for; N is then followed by milliseconds
- ``settled``: the settlement is committed, and nobody was told
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.orm import Session

from router.cli.build import build_app
from router.gateway.background import serving
from router.gateway.config import load

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

RESERVING, SETTLING = "INSERT INTO entries", "INSERT INTO calls"


def die(after_s: float = 0.0) -> None:
    """End this process without a word, now or a moment later."""
    if after_s > 0.0:
        threading.Thread(target=lambda: (time.sleep(after_s), die())).start()
        return
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Trap:
    """Counts how often the ledger comes to a point, and dies at the n-th."""

    def __init__(self, engine: Engine, point: str, n: int, after_s: float) -> None:
        self.point, self.n, self.after_s = point, n, after_s
        self.came = count(1)
        self.doing = ""
        event.listen(engine, "before_cursor_execute", self.on_statement)
        event.listen(engine, "begin", self.on_begin)
        event.listen(engine, "commit", self.on_commit)
        event.listen(Session, "after_commit", self.on_committed)

    def here(self, point: str) -> None:
        """Die if this is the point."""
        if point == self.point and next(self.came) == self.n:
            die(self.after_s)

    def on_begin(self, _connection: Connection) -> None:
        """Forget what the transaction before did."""
        if threading.current_thread().name == "ledger":
            self.doing = ""

    def on_statement(self, *arguments: object) -> None:
        """Notice what a transaction is about."""
        statement = str(arguments[2])
        if statement.startswith(RESERVING):
            self.doing = RESERVING
        elif statement.startswith(SETTLING) and self.doing != SETTLING:
            self.doing = SETTLING
            self.here("replied")

    def on_commit(self, _connection: Connection) -> None:
        """Come to the end of a transaction, before the database is asked to commit it."""
        if threading.current_thread().name == "ledger":
            if self.doing == RESERVING:
                self.here("before reserve")
            elif self.doing == SETTLING:
                self.here("before commit")
                self.here("during commit")

    def on_committed(self, session: Session) -> None:
        """Come to the moment after the commit; the end of a savepoint is none."""
        if threading.current_thread().name == "ledger" and not session.in_nested_transaction():
            doing, self.doing = self.doing, ""
            if doing == RESERVING:
                self.here("reserved")
            elif doing == SETTLING:
                self.here("settled")


def main(config: str, point: str, n: str, after_ms: str = "0") -> None:
    """Serve until then."""
    app = build_app(load(Path(config)))
    Trap(app.state.engine.service.ledger.engine, point, int(n), float(after_ms) / 1e3)
    with serving(app) as base_url:
        sys.stdout.write(f"{base_url}\n")
        sys.stdout.flush()
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
