"""Measure what a newcomer waits for: imports of each package, and ``rheostat --help``.

Every figure comes from fresh processes. ``python benchmarks/import_time.py [N]`` runs each case N
times (10 unless given) and prints minimum, median and maximum in milliseconds, with the heavy
libraries that the import pulled in. The first row is Python itself, to be read beside the others.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

HEAVY = ("litellm", "sklearn", "scipy", "optuna", "xllamacpp", "fastapi", "pydantic", "sqlalchemy")
IMPORTED = ("cost_models", "policies", "storage", "router", "router.cli.main")
N_RUNS = 10
REPORT_IMPORT = """\
import sys, time
started = time.perf_counter()
import {module}
print(time.perf_counter() - started, *(name for name in {heavy!r} if name in sys.modules))
"""


def main(n_runs: int) -> None:
    """Print the table."""
    print(f"{'milliseconds, ' + str(n_runs) + ' fresh processes':<36}   min   med   max  heavy")
    show("python -c pass (whole process)", [time_process("-c", "pass") for _ in range(n_runs)])
    for module in IMPORTED:
        runs = [time_import(module) for _ in range(n_runs)]
        show(f"import {module}", [seconds for seconds, _ in runs], runs[-1][1])
    script = str(Path(sys.executable).with_name("rheostat"))
    show("rheostat --help (whole process)", [time_process(script, "--help") for _ in range(n_runs)])


def show(what: str, seconds: list[float], heavy: tuple[str, ...] = ()) -> None:
    """Print one row."""
    figures = (min(seconds), statistics.median(seconds), max(seconds))
    cells = " ".join(f"{1000 * figure:5.0f}" for figure in figures)
    print(f"{what:<36} {cells}  {', '.join(heavy) or '-'}")


def time_import(module: str) -> tuple[float, tuple[str, ...]]:
    """Seconds that an import takes inside a fresh process, and the heavy libraries it loads."""
    code = REPORT_IMPORT.format(module=module, heavy=HEAVY)
    seconds, *heavy = run("-c", code).split()
    return float(seconds), tuple(heavy)


def time_process(*arguments: str) -> float:
    """Seconds from start to end of a fresh process."""
    started = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - started


def run(*arguments: str) -> str:
    """Run Python with ``arguments`` and give what it prints; fail when it fails."""
    return subprocess.run(  # noqa: S603 - this interpreter, with arguments from this file
        [sys.executable, *arguments], check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else N_RUNS)
