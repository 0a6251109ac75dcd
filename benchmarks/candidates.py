"""Candidates for the difficulty estimator, on the same folds of recorded outcomes: a table.

Usage: python benchmarks/candidates.py [--rows NAME ...] [--queries 2000] [--arms 12] [--folds 3]

Every query is predicted by a fit that did not see it. Queries are drawn by a hash of their text,
arms evenly in their accuracy. Log loss and APGR are given with their difference from the shipped
estimator and its standard error (paired over queries; bootstrap for APGR). Times are CPU time.
Data is in ``../shared/data`` beside the repository, or in ``RHEOSTAT_DATA``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rivals import CANDIDATES, Sample

from policies.difficulty import fold_numbers
from policies.evaluation import calibration
from policies.metrics import gap_recovery
from policies.outcomes import read_outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from rivals import Predict

    Floats = NDArray[np.float64]

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "routellm_mmlu": ("routellm", ("mmlu",)),
    "routellm_gsm8k": ("routellm", ("gsm8k",)),
    "zeroeval_math_l5": ("zeroeval_math_l5", ()),
    "zeroeval_crux": ("zeroeval_crux", ()),
    "mmlu_pro": ("mmlu_pro", ()),
    "lineage": ("lineage", ()),
}
TIMED_QUERIES = 60
RESAMPLES = 200
MIN_OUTCOMES = 0.5
LEAST_P = 1e-6
HEADER = (
    "| candidate | log loss | less shipped | Brier | AUC | ECE | APGR | less shipped | CPT80 |"
    " fit, s | predict, us |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Result:
    """Out-of-fold probabilities (n, n_arms), CPU seconds a fit (mean) and us a query (median)."""

    p: Floats
    fit_s: float
    predict_us: float


def read(name: str, n_queries: int, n_arms: int) -> Sample:
    """Draw queries and arms; arms with outcomes on fewer than half of the queries are left out."""
    file, tasks = ROWS[name]
    table = read_outcomes(DATA / f"{file}.parquet", tasks)
    of_id = dict(zip(table.texts["query_id"], table.texts["task"], strict=True))
    task = [of_id[query_id] or "" for query_id in table.query_ids]
    quality = table.quality_matrix()
    n_parts = max(1, len(task) // n_queries)
    rows = np.flatnonzero(fold_numbers(table.queries, n_parts, 7) == 0)[:n_queries]
    seen = (~np.isnan(quality)).mean(axis=0) >= min(MIN_OUTCOMES, (~np.isnan(quality)).mean())
    kept = np.flatnonzero(seen)
    ranked = kept[np.argsort(np.nanmean(quality[:, kept], axis=0), kind="stable")]
    places = np.linspace(0, len(ranked) - 1, min(n_arms, len(ranked))).round().astype(int)
    arms = np.sort(ranked[places])
    rows = rows[~np.isnan(quality[rows][:, arms]).all(axis=1)]
    return Sample(
        [table.queries[i] for i in rows],
        [task[i] for i in rows],
        quality[np.ix_(rows, arms)],
        [table.arms[i] for i in arms],
    )


def cross_validate(fit: Callable[[Sample], Predict], sample: Sample, n_folds: int) -> Result:
    """Predict every query by a fit on the other folds."""
    number = fold_numbers(sample.texts, n_folds, 0)
    p = np.zeros(sample.quality.shape)
    fitting, asking = [], []
    for fold in range(n_folds):
        train, test = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
        started = time.process_time()
        predict = fit(_take(sample, train))
        fitting.append(time.process_time() - started)
        asked = _take(sample, test)
        p[test] = predict(asked.texts, asked.tasks)
        for text, task in list(zip(asked.texts, asked.tasks, strict=True))[:TIMED_QUERIES]:
            begun = time.thread_time_ns()
            predict([text], [task])
            asking.append((time.thread_time_ns() - begun) / 1000.0)
    return Result(p, float(np.mean(fitting)), float(np.median(asking)))


def _take(sample: Sample, rows: NDArray[np.intp]) -> Sample:
    return Sample(
        [sample.texts[i] for i in rows],
        [sample.tasks[i] for i in rows],
        sample.quality[rows],
        sample.arms,
    )


def losses(p: Floats, quality: Floats) -> Floats:
    """Log loss of each query, mean over its arms; shape (n,)."""
    kept = p.clip(LEAST_P, 1.0 - LEAST_P)
    loss = -(quality * np.log(kept) + (1.0 - quality) * np.log1p(-kept))
    return np.asarray(np.nanmean(loss, axis=1))


def gaps(p: Floats, quality: Floats, drawn: NDArray[np.intp]) -> tuple[float, float]:
    """APGR and CPT80 of two arms on the queries ``drawn``."""
    strong = int(quality.mean(axis=0).argmax())
    gain = (p[:, strong] - p[:, 1 - strong])[drawn]
    found = gap_recovery(gain, quality[drawn, 1 - strong], quality[drawn, strong])
    return (np.nan, np.nan) if found is None else (found.apgr, found.cpt80)


def gap_columns(p: Floats, base: Floats, quality: Floats) -> str:
    """APGR, its difference from ``base`` with a bootstrap standard error, and CPT80."""
    if quality.shape[1] != 2 or np.isnan(quality).any():
        return "| | | "
    every = np.arange(len(quality))
    apgr, cpt80 = gaps(p, quality, every)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLES):
        drawn = rng.integers(0, len(every), len(every))
        differences.append(gaps(p, quality, drawn)[0] - gaps(base, quality, drawn)[0])
    change = apgr - gaps(base, quality, every)[0]
    return f"| {apgr:.3f} | {change:+.3f} ± {np.std(differences):.3f} | {cpt80:.3f} "


def line(name: str, result: Result, base: Result, quality: Floats) -> str:
    """One row of the table."""
    difference = losses(result.p, quality) - losses(base.p, quality)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    reports = [calibration(p, q) for p, q in zip(result.p.T, quality.T, strict=True)]
    brier, ece = np.mean([[report.brier, report.ece] for report in reports], axis=0)
    auc = np.mean([report.auc for report in reports if report.auc is not None])
    return (
        f"| {name} | {losses(result.p, quality).mean():.4f} "
        f"| {difference.mean():+.4f} ± {error:.4f} | {brier:.4f} | {auc:.3f} | {ece:.3f} "
        f"{gap_columns(result.p, base.p, quality)}| {result.fit_s:.2f} | {result.predict_us:.0f} |"
    )


def main() -> None:
    """Print a table for each row of data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--arms", type=int, default=12)
    parser.add_argument("--folds", type=int, default=3)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: set RHEOSTAT_DATA")
    for row in arguments.rows:
        sample = read(row, arguments.queries, arguments.arms)
        print(f"\n{row}: {len(sample.texts)} queries, {len(sample.arms)} arms\n\n{HEADER}")
        base = None
        for name, fit in CANDIDATES.items():
            result = cross_validate(fit, sample, arguments.folds)
            base = base or result
            print(line(name, result, base, sample.quality), flush=True)


if __name__ == "__main__":
    main()
