"""Measure the report of a month on a large ledger: time, memory, size, in a process of its own.

``python benchmarks/report.py [--requests-per-day N] [--days D] [--ledger URL]`` simulates D days
(90) of N requests (50,000: about 5,000,000 calls), or takes the simulated ledger at URL. It makes
the report of the last whole month from it in a fresh interpreter, as ``rheostat report --format
html`` does. Printed are the CPU time (user and system), the wall time and the peak of resident
memory, with the interpreter's start and every import; the CPU time of each part; and the size of
each format. Target at 5,000,000 calls: 2 s and 500 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from policies.synthetic import World
from router.cli.build import open_database
from router.jobs.simulate import simulate
from router.reports.document import report_document
from router.reports.page import report_page
from router.reports.periods import named_period
from router.reports.reading import ReportQuestion, read_material
from router.reports.sheets import report_csv
from storage.models import CallRow
from storage.simulation import simulated_facts

if TYPE_CHECKING:
    from storage.store import Ledger

END = date(2026, 10, 1)
MONTH = "2026-09"
ROUNDS = 5
CONFIG = """ledger: {url}
models: [{{name: sim-large, model: simulated/sim-large, price: {{input_usd_per_million_tokens: 3,
  output_usd_per_million_tokens: 12}}}}]
auth: {{mode: open}}
accuracy_target: 0.7
"""


def main() -> None:
    """Fill or open the ledger, then measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests-per-day", type=int, default=50_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--ledger", help="a ledger of `rheostat simulate` that is there already")
    parser.add_argument("--period", default=MONTH)
    asked = parser.parse_args()
    with TemporaryDirectory(dir=".") as folder:
        url = asked.ledger or f"sqlite:///{Path(folder, 'made.db').resolve()}"
        ledger = open_database(url)
        if ledger.read(simulated_facts) is None:
            start = END - timedelta(days=asked.days)
            simulate(ledger, World(start, asked.days, asked.requests_per_day))
        n_calls = ledger.read(lambda session: session.scalar(select(func.count(CallRow.id))))
        print(f"{n_calls:,} calls; report of {asked.period}")
        _parts(ledger, asked.period)
        ledger.close()
        config = Path(folder, "rheostat.yaml")
        config.write_text(CONFIG.format(url=url), "utf-8")
        _whole(config, asked.period)


def _parts(ledger: Ledger, name: str) -> None:
    """Print the CPU time of each part, the least of some rounds, and the sizes."""
    period = named_period(name, UTC, datetime(END.year, END.month, END.day, tzinfo=UTC))
    before = period.earlier(UTC)
    question = ReportQuestion(period, period.end, (before.since, before.end), target=0.7)
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        at = time.process_time()
        material = ledger.read(lambda session: read_material(session, question))
        at = _took(best, "read", at)
        document = report_document(material)
        at = _took(best, "document", at)
        page = report_page(document)
        _took(best, "page", at)
    print(", ".join(f"{part} {1000 * took:,.0f} ms" for part, took in best.items()), "of CPU")
    sizes = {"html": page, "json": json.dumps(document), "csv": report_csv(document)}
    print(", ".join(f"{form} {len(text.encode()):,} bytes" for form, text in sizes.items()))


def _took(best: dict[str, float], part: str, since: float) -> float:
    now = time.process_time()
    best[part] = min(best.get(part, float("inf")), now - since)
    return now


def _whole(config: Path, name: str) -> None:
    """Make the report as the command does, and print what its process used."""
    command = "from router.cli.main import main; main()"
    typed = ["report", "--config", str(config), "--period", name, "--format", "html"]
    least: tuple[float, float] = (float("inf"), float("inf"))
    for _ in range(ROUNDS):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(  # noqa: S603 - this interpreter
            [sys.executable, "-c", command, *typed], check=True, stdout=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        least = min(least, (cpu, time.perf_counter() - begun))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"whole command: {least[0]:.2f} s of CPU, {least[1]:.2f} s, {peak:,.0f} MB at the most")


if __name__ == "__main__":
    main()
