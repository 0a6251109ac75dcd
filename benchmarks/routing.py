"""Measured against target, on recorded outcomes: fit on one part of the queries, judge on the rest.

Usage: python benchmarks/routing.py [--rows NAME ...] [--folds 2] [--seeds 1] [--trials 10]

Queries are cut by a hash of their text; every part is judged by a policy that was fitted on the
others with the settings of ``rheostat fit``, and figures are means over the parts. Data is looked
for in ``../shared/data`` beside the repository, or in ``RHEOSTAT_DATA``; without it nothing runs.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.assessment import Offer, assess, cheapest_reaching, most_accurate_within
from policies.difficulty import fold_numbers
from policies.merging import merge
from policies.outcomes import read_outcomes
from policies.training import Training, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from policies.outcomes import OutcomeTable

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
PER_THOUSAND = 1000.0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of targets: which outcomes, and how a document is measured against them."""

    name: str
    files: tuple[str, ...]
    measure: Callable[[dict[str, Any]], dict[str, tuple[float, str]]]
    tasks: tuple[str, ...] = ()
    verified: bool = False


def gap(apgr: float, cpt80: float) -> Callable[[dict[str, Any]], dict[str, tuple[float, str]]]:
    """APGR of at least and CPT80 of at most."""

    def measure(document: dict[str, Any]) -> dict[str, tuple[float, str]]:
        return {
            "APGR": (document["apgr"], f">= {apgr}"),
            "CPT50": (document["cpt50"], ""),
            "CPT80": (document["cpt80"], f"<= {cpt80}"),
        }

    return measure


def at_cost(
    *targets: tuple[float, float],
) -> Callable[[dict[str, Any]], dict[str, tuple[float, str]]]:
    """Accuracy within so many USD per 1,000 queries, for pairs of accuracy and cost."""

    def measure(document: dict[str, Any]) -> dict[str, tuple[float, str]]:
        found = {}
        for accuracy, cost in targets:
            reached = most_accurate_within(document, cost / PER_THOUSAND)
            needed = cheapest_reaching(document, accuracy)
            found[f"accuracy at ${cost:g}/1k"] = (
                np.nan if reached is None else reached,
                f">= {accuracy}",
            )
            found[f"$/1k at {accuracy:g}"] = (
                np.nan if needed is None else needed * PER_THOUSAND,
                f"<= {cost:g}",
            )
        best = document["baselines"]["best_fixed"]
        found["best fixed accuracy"] = (best["accuracy"], "")
        found["best fixed $/1k"] = (best["cost_usd_per_query"] * PER_THOUSAND, "")
        return found

    return measure


def saving(least: float) -> Callable[[dict[str, Any]], dict[str, tuple[float, str]]]:
    """Share of the best fixed arm's cost that is saved at its accuracy, at least."""

    def measure(document: dict[str, Any]) -> dict[str, tuple[float, str]]:
        best = document["baselines"]["best_fixed"]
        saved = document["iso_quality_saving"]
        within = most_accurate_within(document, (1.0 - least) * best["cost_usd_per_query"])
        return {
            "iso-quality saving": (np.nan if saved is None else saved, f">= {least}"),
            "accuracy at that cost, less the best fixed arm's": (
                np.nan if within is None else within - best["accuracy"],
                ">= 0",
            ),
        }

    return measure


def samples(most: float) -> Callable[[dict[str, Any]], dict[str, tuple[float, str]]]:
    """Accuracy lost against the dearest point when at most so many samples are drawn."""

    def measure(document: dict[str, Any]) -> dict[str, tuple[float, str]]:
        points = document["frontier"]
        full = max(point["accuracy"] for point in points)
        few = [point for point in points if point["calls_per_query"] <= most]
        return {
            f"points lost at <= {most:g} samples": (
                PER_THOUSAND / 10 * (full - max(point["accuracy"] for point in few)),
                "<= 0.2",
            )
        }

    return measure


ROWS = (
    Row("routellm_gsm8k", ("routellm",), gap(0.66, 0.58), ("gsm8k",)),
    Row("routellm_mmlu", ("routellm",), gap(0.70, 0.55), ("mmlu",)),
    Row("zeroeval_gsm8k", ("zeroeval_gsm8k",), at_cost((0.955, 0.10))),
    Row("zeroeval_math_l5", ("zeroeval_math_l5",), saving(0.5)),
    Row("zeroeval_crux", ("zeroeval_crux",), at_cost((0.88, 2.0))),
    Row("lineage", ("lineage",), at_cost((0.96, 3.3))),
    Row("mot_date", ("mot_cascade",), saving(0.6), ("date_understanding",)),
    Row("mot_gsm8k", ("mot_cascade",), saving(0.6), ("gsm8k",)),
    Row("mot_asdiv", ("mot_cascade",), saving(0.6), ("asdiv",)),
    Row("mot_crepe", ("mot_cascade",), saving(0.6), ("crepe",)),
    Row("mot_navigate", ("mot_cascade",), saving(0.6), ("navigate",)),
    Row("mot_tabmwp", ("mot_cascade",), saving(0.6), ("tabmwp",)),
    Row(
        "game24",
        ("tot_game24", "meta_prompting"),
        at_cost((0.85, 400.0)),
        ("game24",),
        verified=True,
    ),
    Row("esc_last_letters", ("esc_samples",), samples(10.0), ("last_letters",)),
    Row("mmlu_pro", ("mmlu_pro",), at_cost((0.721, 0.50), (0.702, 0.33))),
)


def read(row: Row) -> OutcomeTable:
    """Read the outcomes of a row."""
    return merge([read_outcomes(DATA / f"{name}.parquet", row.tasks) for name in row.files])


def measured(row: Row, folds: int, seed: int, trials: int) -> Iterator[dict[str, Any]]:
    """Fit and judge part by part; gives the assessment of each."""
    table = read(row)
    number = fold_numbers(table.queries, folds, seed)
    for part in range(folds):
        ids = np.array(table.query_ids, dtype=object)
        learned = table.of_queries(ids[number != part].tolist())
        judged = table.of_queries(ids[number == part].tolist())
        training = Training(trials=trials, derived=True, max_tuning_s=240.0)
        fitted = train(learned, training, created_at=datetime.now(UTC))
        yield assess(fitted, judged, Offer(verified=row.verified))


def report(row: Row, folds: int, seeds: int, trials: int) -> None:
    """Print one row: means over parts, the parts, and the targets."""
    started = time.monotonic()
    figures: dict[str, list[float]] = {}
    targets: dict[str, str] = {}
    errors: list[float] = []
    for seed in range(seeds):
        for document in measured(row, folds, seed, trials):
            for name, (value, target) in row.measure(document).items():
                figures.setdefault(name, []).append(value)
                targets[name] = target
            errors += [value["ece"] for value in document["calibration"].values()]
    took = time.monotonic() - started
    print(f"{row.name} ({folds} parts, {seeds} seeds, {took:.0f} s)")
    for name, values in figures.items():
        parts = ", ".join(f"{value:.4f}" for value in values)
        mean = float(np.mean(values)) if np.isfinite(values).all() else float("nan")
        print(f"  {name:46} {mean:8.4f}  {targets[name]:10} [{parts}]")
    print(f"  {'ECE, median over arms':46} {float(np.median(errors)):8.4f}", flush=True)


def main() -> None:
    """Measure all rows, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[row.name for row in ROWS])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=10)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no recorded outcomes in {DATA}; set RHEOSTAT_DATA")
        return
    for row in ROWS:
        if row.name in arguments.rows:
            report(row, arguments.folds, arguments.seeds, arguments.trials)


if __name__ == "__main__":
    main()
