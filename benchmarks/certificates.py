"""How often promises are broken, over random resplits of RouteLLM's recorded outcomes.

Predictions are out of fold. Each resplit certifies on one part; "broken" is told by all queries,
of which that part is a sample, and "on the rest" by the others alone, where bad luck in one part is
good luck in the other. Thresholds that are walked are fixed before: what is judged is what was
tested.
Usage: python benchmarks/certificates.py [--resplits 200] [--task mmlu] [--held N]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.certificates import certify
from policies.cross_validation import CrossValidation, Parameters
from policies.gates import score_gate
from policies.outcomes import read_outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
DELTA = 0.1
ALLOWANCES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
N_STEPS = 40


def walk(
    score: NDArray[np.float64],
    weak: NDArray[np.float64],
    strong: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> list[NDArray[np.float64]]:
    """Quality of the answers as ever more queries, by score, go to the weak arm."""
    return [np.where(score > threshold, weak, strong) for threshold in thresholds]


def gates(
    resplits: Sequence[NDArray[np.intp]],
    size: int,
    predicted: NDArray[np.float64],
    weak: NDArray[np.float64],
) -> None:
    """Print how often gates let through more errors than allowed."""
    for allowance in ALLOWANCES:
        broken, seen, shares = 0, 0, []
        for order in resplits:
            held, rest = order[:size], order[size:]
            gate = score_gate(predicted[held, 0], 1.0 - weak[held], allowance, DELTA)
            if not gate.given:
                shares.append(0.0)
                continue
            through = predicted[rest, 0] >= gate.threshold
            shares.append(float(through.mean()))
            seen += bool(through.any()) and float(1.0 - weak[rest][through].mean()) > allowance
            everybody = predicted[:, 0] >= gate.threshold
            broken += float(1.0 - weak[everybody].mean()) > allowance
        rates = f"broken {broken / len(resplits):.3f}, on the rest {seen / len(resplits):.3f}"
        print(f"gate, error <= {allowance:.2f}: {rates}, cheap share {np.mean(shares):.3f}")


def accuracies(
    resplits: Sequence[NDArray[np.intp]],
    size: int,
    predicted: NDArray[np.float64],
    quality: NDArray[np.float64],
) -> None:
    """Print how often certified policies miss their accuracy target."""
    weak, strong = quality.T
    gap = predicted[:, 0] - predicted[:, 1]
    thresholds = np.quantile(gap, np.linspace(1.0, 0.0, N_STEPS))
    for loss in (0.01, 0.02, 0.03, 0.05, 0.08):
        target = float(strong.mean()) - loss
        broken = seen = given = 0
        cheap = []
        for order in resplits:
            held, rest = order[:size], order[size:]
            walked = walk(gap[held], weak[held], strong[held], thresholds)
            found = certify(walked, target, DELTA)
            if found.index is None:
                continue
            given += 1
            sent = gap > thresholds[found.index]
            right = np.where(sent, weak, strong)
            seen += float(right[rest].mean()) < target
            broken += float(right.mean()) < target
            cheap.append(float(sent.mean()))
        share = float(np.mean(cheap)) if cheap else 0.0
        times = len(resplits)
        rates = f"given {given / times:.3f}, broken {broken / times:.3f}"
        rates += f", on the rest {seen / times:.3f}"
        print(f"accuracy >= {target:.3f}: {rates}, cheap share {share:.3f}")


def main() -> None:
    """Print violations of both kinds of promise and the share of cheap calls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resplits", type=int, default=200)
    parser.add_argument("--task", default="mmlu")
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--held", type=int, default=None, help="queries to certify on, else half")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no recorded outcomes in {DATA}; set RHEOSTAT_DATA")
        return
    table = read_outcomes(DATA / "routellm.parquet", (arguments.task,))
    quality = table.quality_matrix()
    data = CrossValidation(table.queries, quality, table.matrix("cost_usd"), table.arms)
    predicted = data.predict(Parameters(n_components=arguments.components))
    weak = quality[:, 0]
    size = min(arguments.held or len(quality), len(quality) // 2)
    rng = np.random.default_rng(0)
    resplits = [rng.permutation(len(quality)) for _ in range(arguments.resplits)]
    print(f"{arguments.task}: {len(quality)} queries, {size} of them to certify on, delta {DELTA}")
    gates(resplits, size, predicted, weak)
    accuracies(resplits, size, predicted, quality)


if __name__ == "__main__":
    main()
