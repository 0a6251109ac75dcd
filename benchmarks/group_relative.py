"""The utility policy against the group-relative one, on recorded outcomes and the same folds.

Usage: python benchmarks/group_relative.py [--rows NAME ...] [--folds 2] [--seeds 1] [--trials 5]
       [--settings]

Queries are cut by a hash of their text. On the others, both policies are fitted with the same
estimator, as ``rheostat fit --policy`` does; then both are judged on the part. Accuracies are the
highest within a share of the best fixed arm's cost; CPU seconds are those of a fit after the
study, which all share. ``--settings`` adds the learner with GRPO's division by the spread, and with
a reference that is nearly uniform. Data is looked for as in ``routing.py``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from optuna.storages import InMemoryStorage
from routing import DATA, ROWS, read

from policies.assessment import Offer, assess, most_accurate_within
from policies.difficulty import fold_numbers
from policies.group_relative import GroupSettings
from policies.studies import StudyPlace
from policies.training import Training, train
from policies.types import PolicyKind

if TYPE_CHECKING:
    from typing import Any

    from routing import Row

    from policies.outcomes import OutcomeTable

SHARES = (0.1, 0.25, 0.5, 1.0)
OTHERS = {
    "- by spread": GroupSettings(by_spread=True, kl=3.0),
    "- reference nearly uniform": GroupSettings(temperature=10.0, kl=0.02),
}

Figures = dict[str, list[float]]


def judged(
    learned: OutcomeTable, held: OutcomeTable, training: Training, *, verified: bool
) -> tuple[dict[str, Any], float, dict[str, Any]]:
    """Fit on one table and judge on another: the document, CPU seconds and the manifest."""
    started = time.process_time()
    fitted = train(learned, training, created_at=datetime.now(UTC))
    took = time.process_time() - started
    return assess(fitted, held, Offer(verified=verified)), took, dict(fitted.manifest)


def figures_of(document: dict[str, Any]) -> dict[str, float]:
    """Area, and accuracy within shares of the best fixed arm's cost."""
    best = document["baselines"]["best_fixed"]["cost_usd_per_query"]
    found = {"AIQ": document["aiq"]}
    for share in SHARES:
        reached = None if best is None else most_accurate_within(document, share * best)
        found[f"{share:.0%}"] = np.nan if reached is None else reached
    return found


def measured(row: Row, arguments: argparse.Namespace) -> tuple[dict[str, Figures], list[str]]:
    """Measure every policy on every part; also what ``best`` would have taken, part by part."""
    table = read(row)
    ids = np.array(table.query_ids, dtype=object)
    found: dict[str, Figures] = {}
    taken = []
    for seed in range(arguments.seeds):
        number = fold_numbers(table.queries, arguments.folds, seed)
        for part in range(arguments.folds):
            tables = [
                table.of_queries(ids[rows].tolist()) for rows in (number != part, number == part)
            ]
            place = StudyPlace(InMemoryStorage(), "shared")
            plain = Training(trials=arguments.trials, derived=True, study=place)
            train(tables[0], plain, created_at=datetime.now(UTC))  # the study, for all of them
            learner = replace(plain, kind=PolicyKind.GROUP_RELATIVE)
            runs = {
                "utility": plain,
                "group-relative": learner,
                "best": replace(plain, kind=PolicyKind.BEST),
            }
            if arguments.settings:
                runs |= {name: replace(learner, group=group) for name, group in OTHERS.items()}
            for name, training in runs.items():
                document, took, manifest = judged(*tables, training, verified=row.verified)
                figures = {**figures_of(document), "CPU s": took}
                for figure, value in figures.items():
                    found.setdefault(name, {}).setdefault(figure, []).append(value)
                if "contest" in manifest:
                    contest = manifest["contest"]
                    taken.append(
                        f"{manifest['policy_kind']} "
                        f"({contest['gain']:+.4f} +- {contest['gain_error']:.4f})"
                    )
    return found, taken


def report(row: Row, arguments: argparse.Namespace) -> None:
    """Print one row of outcomes: means over parts."""
    found, taken = measured(row, arguments)
    print(row.name, flush=True)
    for name, figures in found.items():
        shown = "  ".join(f"{figure} {np.mean(values):.4f}" for figure, values in figures.items())
        print(f"  {name:28} {shown}", flush=True)
    if taken:
        print(f"  best took: {', '.join(taken)}", flush=True)


def main() -> None:
    """Measure all rows, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[row.name for row in ROWS])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--settings", action="store_true", help="Also fit with other settings.")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no recorded outcomes in {DATA}; set RHEOSTAT_DATA")
        return
    for row in ROWS:
        if row.name in arguments.rows:
            report(row, arguments)


if __name__ == "__main__":
    main()
