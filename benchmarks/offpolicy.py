"""How often off-policy intervals hold the truth, over simulated logs of recorded outcomes.

Usage: python benchmarks/offpolicy.py [--files NAME ...] [--logs 300] [--decisions 1000]

Every query of a file has the outcome of every arm, so that the value of any policy is known. A log
picks queries with replacement, lets a logging policy pick the arm, and keeps that outcome alone
with its propensity; from it the values of other policies are told, and counted where the 95 %
interval holds what the whole matrix says. Predictions are out of fold. Data is looked for in
``../shared/data`` beside the repository, or in ``RHEOSTAT_DATA``; without it nothing runs.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.cross_validation import CrossValidation, Parameters
from policies.offpolicy import Log, doubly_robust, robust_difference, snips
from policies.outcomes import read_outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from policies.offpolicy import OffPolicyValue

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
FILES = (
    ("routellm", "gsm8k"),
    ("routellm", "mmlu"),
    ("zeroeval_gsm8k", None),
    ("zeroeval_math_l5", None),
    ("zeroeval_crux", None),
    ("mmlu_pro", None),
)
MOST_ARMS = 8
MOST_QUERIES = 2000
LOGGED_EPSILON = 0.3
EPSILON = 0.02
VARIANCE = 0.25
SEED = 7


@dataclass(frozen=True, slots=True)
class World:
    """A full matrix of qualities with out-of-fold predictions, each of shape (n, n_arms)."""

    quality: NDArray[np.float64]
    predicted: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, task: str | None) -> World:
        """Read a file; of many arms the best are kept, of many queries a sample."""
        table = read_outcomes(DATA / f"{name}.parquet", () if task is None else (task,))
        quality = table.quality_matrix()
        arms = np.argsort(-np.nan_to_num(np.nanmean(quality, axis=0)), kind="stable")
        spread = np.linspace(0, len(arms) - 1, min(MOST_ARMS, len(arms))).round().astype(int)
        arms = np.sort(arms[spread])
        rows = np.flatnonzero(~np.isnan(quality[:, arms]).any(axis=1))
        if len(rows) > MOST_QUERIES:
            rows = np.sort(np.random.default_rng(SEED).choice(rows, MOST_QUERIES, replace=False))
        quality = quality[np.ix_(rows, arms)]
        data = CrossValidation(
            tuple(table.queries[i] for i in rows),
            quality,
            np.zeros(quality.shape),
            tuple(table.arms[i] for i in arms),
        )
        return cls(quality, data.predict(Parameters()))

    def logging(self) -> NDArray[np.float64]:
        """Give what makes the log: mostly the second best arm, else any."""
        second = int(np.argsort(-self.quality.mean(axis=0), kind="stable")[1])
        return self.epsilon_greedy(np.full(len(self.quality), second), LOGGED_EPSILON)

    def targets(self) -> Mapping[str, NDArray[np.float64]]:
        """Give the policies to value."""
        n, n_arms = self.quality.shape
        means = self.quality.mean(axis=0)
        logits = np.exp(5.0 * self.predicted)
        return {
            "routed": self.epsilon_greedy(self.predicted.argmax(axis=1), EPSILON),
            "best fixed": self.epsilon_greedy(np.full(n, int(means.argmax())), EPSILON),
            "worst fixed": self.epsilon_greedy(np.full(n, int(means.argmin())), EPSILON),
            "softmax": logits / logits.sum(axis=1, keepdims=True),
            "uniform": np.full((n, n_arms), 1.0 / n_arms),
        }

    def epsilon_greedy(self, arm: NDArray[np.intp], epsilon: float) -> NDArray[np.float64]:
        """Pick ``arm`` except for a share of uniform picks."""
        n, n_arms = self.quality.shape
        probability = np.full((n, n_arms), epsilon / n_arms)
        probability[np.arange(n), arm] += 1.0 - epsilon
        return probability


def coverage(
    world: World, logging: NDArray[np.float64], target: NDArray[np.float64], size: int, logs: int
) -> dict[str, tuple[float, float, float]]:
    """Give for each estimator: coverage, mean width, mean effective sample size."""
    quality = world.quality
    value, before = ((p * quality).sum(axis=1).mean() for p in (target, logging))
    truth = {"SNIPS": value, "DR": value, "difference": value - before}
    found: dict[str, list[OffPolicyValue]] = {name: [] for name in truth}
    rng = np.random.default_rng(SEED)
    for _ in range(logs):
        query = rng.integers(0, len(quality), size)
        arm = (logging[query].cumsum(axis=1) < rng.random((size, 1))).sum(axis=1)
        log = Log(arm, logging[query, arm], quality[query, arm])
        expected = world.predicted[query]
        p = expected[np.arange(size), arm].clip(0.0, 1.0)
        found["SNIPS"].append(snips(log, target[query]))
        found["DR"].append(doubly_robust(log, target[query], expected))
        found["difference"].append(
            robust_difference(log, target[query], logging[query], expected, p * (1.0 - p), VARIANCE)
        )
    return {
        name: (
            float(np.mean([v.low <= truth[name] <= v.high for v in values])),
            float(np.mean([v.high - v.low for v in values])),
            float(np.mean([v.effective_n for v in values])),
        )
        for name, values in found.items()
    }


def main() -> None:
    """Print coverage by file, target policy and estimator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--logs", type=int, default=300)
    parser.add_argument("--decisions", type=int, nargs="*", default=[200, 1000])
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no recorded outcomes in {DATA}; set RHEOSTAT_DATA")
        return
    least = 1.0
    print("file                   target       decisions  estimator   coverage  width  effective")
    for name, task in FILES:
        shown = name if task is None else f"{name} {task}"
        if arguments.files and name not in arguments.files:
            continue
        world = World.of(name, task)
        logging = world.logging()
        for target, probability in world.targets().items():
            for size in arguments.decisions:
                found = coverage(world, logging, probability, size, arguments.logs)
                for estimator, (covered, width, effective) in found.items():
                    least = min(least, covered)
                    head = f"{shown:22} {target:12} {size:9}  {estimator:10}"
                    print(f"{head}  {covered:.3f}    {width:.3f}  {effective:9.1f}", flush=True)
    print(f"least coverage {least:.3f}")


if __name__ == "__main__":
    main()
