"""Measure the gateway beside direct calls, a bare pass-through and litellm's proxy, in one run.

``python -m benchmarks.gateway [--rounds N] [--requests N] [--litellm PROGRAM]``, on Linux, from the
project's root. One upstream answers all of them at once; it and the load share one CPU, the server
under test has another. Ours runs as operators run it: a key of the ledger, two budgets, every
request held and settled in a durable SQLite ledger, and for `auto` a fitted policy that decides.
litellm's proxy checks a static key and has no database; the bare application does nothing but pass
requests on. Each figure is the median over the rounds.

On a machine that others use, believe the CPU seconds before any time on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gateway import servers

TEXT = "Say in fifty words what a rheostat is, and what it was used for in a theatre. " * 4
MESSAGES = [
    {"role": "system", "content": "You answer briefly and in plain words. " * 4},
    {"role": "user", "content": TEXT},
]
N_CHUNKS = 200
N_COMMITS = 100
COLUMNS = (
    ("cpu_s_per_1000", "CPU s/1000", "{:.3f}"),
    ("cpu_s_per_1000_at_1", "at 1 conn.", "{:.3f}"),
    ("p50_ms", "+p50 ms", "{:+.2f}"),
    ("p99_ms", "+p99 ms", "{:+.2f}"),
    ("rps_16", "req/s at 16", "{:.0f}"),
    ("rps_64", "at 64", "{:.0f}"),
    ("first_ms", "+first ms", "{:+.2f}"),
    ("chunks_per_s", "chunks/s", "{:.0f}"),
    ("rss_mb", "idle MB", "{:.0f}"),
    ("ready_s", "ready s", "{:.2f}"),
)
ADDED = ("p50_ms", "p99_ms", "first_ms")
"""Figures shown as what a server adds to a direct call of the same round."""

Row = dict[str, float]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--litellm", help="litellm's program, where it is not on the PATH")
    asked = parser.parse_args()
    print(machine(), flush=True)
    rounds = [one_round(asked.requests, asked.litellm) for _ in range(asked.rounds)]
    if not any("litellm proxy" in rows for rows in rounds):
        print("litellm proxy: left out, it is not installed (pip install 'litellm[proxy]')")
    medians = {
        name: {
            key: statistics.median(rows[name][key] for rows in rounds) for key in rounds[0][name]
        }
        for name in rounds[0]
    }
    show(medians)


def machine() -> str:
    """Name the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((s.partition(": ")[2] for s in lines if s.startswith("model name")), "CPU unknown")
    return (
        f"{model}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()}; load average {os.getloadavg()[0]:.1f}"
    )


def one_round(n_requests: int, program: str | None) -> dict[str, Row]:
    """Measure every server once, one after the other, over one upstream."""
    rows: dict[str, Row] = {}
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-"))
        )
        upstream = stack.enter_context(servers.upstream(folder))
        rows.update(measured(upstream, n_requests))
        for fitted in (False, True):
            with servers.rheostat(folder, upstream.base_url, fitted=fitted) as ours:
                rows.update(measured(ours, n_requests))
        with servers.bare(folder, upstream.base_url) as floor:
            rows.update(measured(floor, n_requests))
        rows["two commits"] = {"p50_ms": 2 * commit_ms(folder / "commit.db")}
        with servers.litellm(folder, upstream.base_url, program) as other:
            if other is not None:
                rows.update(measured(other, max(100, n_requests // 5)))
    for name in rows.keys() - {"direct", "two commits"}:
        for key in ADDED:
            rows[name][key] -= rows["direct"][key]
    return rows


def measured(server: servers.Server, n_requests: int) -> dict[str, Row]:
    """Put each load on a server, for each model that it is asked for."""
    idle = {"rss_mb": server.rss_mb, "ready_s": server.ready_s}
    return {
        name: {**idle, **_loads(server, model, n_requests)} for name, model in server.models.items()
    }


def _loads(server: servers.Server, model: str, n_requests: int) -> Row:
    body = {"model": model, "messages": MESSAGES, "max_tokens": N_CHUNKS}
    streamed = {**body, "stream": True}
    one, cpu_1 = put(server, body, n_requests // 2, 1)
    some, cpu_16 = put(server, body, 2 * n_requests, 16)
    many, _ = put(server, body, 2 * n_requests, 64)
    first, _ = put(server, streamed, n_requests // 10, 1)
    chunks, _ = put(server, streamed, n_requests // 4, 16)
    return {
        "cpu_s_per_1000": cpu_16,
        "cpu_s_per_1000_at_1": cpu_1,
        "p50_ms": one["p50_ms"],
        "p99_ms": one["p99_ms"],
        "rps_16": some["requests_per_s"],
        "rps_64": many["requests_per_s"],
        "first_ms": first["first_p50_ms"],
        "chunks_per_s": chunks["chunks_per_s"],
    }


def put(
    server: servers.Server, body: dict[str, Any], n_requests: int, connections: int
) -> tuple[dict[str, Any], float]:
    """Put a load on, in a process of its own; give its report and CPU seconds per 1,000 requests.

    The load's warm-up is counted with it. RuntimeError when a request failed.
    """
    load = {
        "url": f"{server.base_url}/chat/completions",
        "key": server.key,
        "body": body,
        "n_requests": n_requests,
        "connections": connections,
        "warm_up": 2 * connections,
    }
    before_s = server.cpu_s
    client = subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-m", "benchmarks.gateway.load", json.dumps(load)],
        stdout=subprocess.PIPE,
        env=servers.environment(),
    )
    servers.pin(client.pid, servers.LOAD_CPU)
    report = json.loads(client.communicate()[0])
    if report["n_failed"]:
        msg = f"{report['n_failed']} requests failed: {report['refusal']}"
        raise RuntimeError(msg)
    n_asked = n_requests + load["warm_up"]
    return report, 1000 * (server.cpu_s - before_s) / n_asked


def commit_ms(path: Path) -> float:
    """Measure one durable commit of SQLite, as the ledger makes them, in milliseconds."""
    took = []
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (x)")
    for i in range(N_COMMITS):
        began_s = time.perf_counter()
        connection.execute("INSERT INTO t VALUES (?)", (i,))
        took.append(time.perf_counter() - began_s)
    connection.close()
    return 1e3 * statistics.median(took)


def show(rows: dict[str, Row]) -> None:
    """Print the table, then ours beside litellm's."""
    print(f"{'':<15}" + "".join(f"{title:>12}" for _, title, _ in COLUMNS))
    for name, row in rows.items():
        cells = [
            shape.replace("+", "" if name in {"direct", "two commits"} else "+").format(row[key])
            if row.get(key)
            else "-"
            for key, _, shape in COLUMNS
        ]
        print(f"{name:<15}" + "".join(f"{cell:>12}" for cell in cells))
    for peer in ("bare FastAPI", "litellm proxy"):
        for name in ("rheostat", "rheostat auto"):
            if peer in rows:
                ratios = [f"{rows[name][key] / rows[peer][key]:.3f}x" for key, _, _ in COLUMNS]
                print(f"{name} / {peer}:")
                print(f"{'':<15}" + "".join(f"{r:>12}" for r in ratios))


if __name__ == "__main__":
    main()
