"""Time and peak memory of a refit on 1,000,000 outcomes of 20 arms, from the file to the artifact.

Usage: python benchmarks/refit.py [--outcomes 1000000] [--arms 20] [--trials 30]

The line "1,000,000 outcomes x 20 arms" is read as 1,000,000 rows, that is 50,000 queries with one
recorded answer of each of 20 arms; ``--outcomes 20000000`` is the other reading, 1,000,000 queries.
Queries are resampled with replacement from recorded MMLU-Pro outcomes and told apart by a number
before their text, so that none is the same as another; an arm is one recorded model each. What is
timed is what ``rheostat fit`` does with its default settings: read, tune, fit, write. Data is
looked for in ``../shared/data`` beside the repository, or in ``RHEOSTAT_DATA``.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from policies import artifacts
from policies.merging import read_all
from policies.outcomes import read_outcomes
from policies.training import Training, train

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
SOURCE = "mmlu_pro.parquet"
FIT_SECONDS = 240.0
"""What ``rheostat fit`` allows its study by default."""
AT_ONCE = 10_000
"""Queries written at a time."""
KIB_PER_GIB = 2**20
BYTES_PER_KIB = 2**10


def resample(n_outcomes: int, n_arms: int, path: Path) -> None:
    """Write ``n_outcomes`` rows of the priced arms that most queries were asked of."""
    table = read_outcomes(DATA / SOURCE)
    quality, cost = table.quality_matrix(), table.matrix("cost_usd")
    n_known = (~np.isnan(quality + cost)).sum(axis=0)
    chosen = np.argsort(-n_known, kind="stable")[:n_arms]
    whole = np.flatnonzero(~np.isnan((quality + cost)[:, chosen]).any(axis=1))
    rng = np.random.default_rng(0)
    models = [table.arms[i].model for i in chosen]
    strategies = [table.arms[i].strategy for i in chosen]
    writer = None
    for start in range(0, n_outcomes // n_arms, AT_ONCE):
        size = min(AT_ONCE, n_outcomes // n_arms - start)
        picked = rng.choice(whole, size)
        ids = [f"q{start + i}" for i in range(size)]
        texts = [f"No. {start + i}: {table.queries[q]}" for i, q in enumerate(picked)]
        part = pa.table(
            {
                "query_id": np.repeat(ids, n_arms).tolist(),
                "query": [text for text in texts for _ in range(n_arms)],
                "model": models * size,
                "strategy": strategies * size,
                "correct": quality[np.ix_(picked, chosen)].ravel(),
                "cost_usd": cost[np.ix_(picked, chosen)].ravel(),
            }
        )
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part)
    if writer is not None:
        writer.close()


def peak_gib() -> float:
    """Most memory that this process has held, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (KIB_PER_GIB * (BYTES_PER_KIB if sys.platform == "darwin" else 1))


def main() -> None:
    """Resample in a child process, so that its memory does not count, then refit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--trials", type=int, default=30)
    asked = parser.parse_args()
    if not (DATA / SOURCE).is_file():
        sys.exit(f"{DATA / SOURCE} is not there: set RHEOSTAT_DATA")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "outcomes.parquet"
        child = os.fork()
        if child == 0:
            resample(asked.outcomes, asked.arms, path)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit("the outcomes could not be resampled")
        started, cpu = time.perf_counter(), time.process_time()
        table = read_all([path])
        read_s = time.perf_counter() - started
        print(
            f"{len(table):,} outcomes, {len(table.query_ids):,} queries, {len(table.arms)} arms: "
            f"read in {read_s:.0f} s, peak {peak_gib():.1f} GiB",
            flush=True,
        )
        training = Training(trials=asked.trials, derived=True, max_tuning_s=FIT_SECONDS)
        fitted = train(table, training, created_at=datetime.now(UTC))
        artifacts.save(fitted, Path(scratch) / "policy")
        print(
            f"refit in {time.perf_counter() - started:.0f} s "
            f"({time.process_time() - cpu:.0f} s of CPU), peak {peak_gib():.1f} GiB; targets: "
            "600 s, 8 GiB"
        )


if __name__ == "__main__":
    main()
