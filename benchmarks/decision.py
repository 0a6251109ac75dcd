"""Milliseconds of one decision, features included: 64 arms, one query at a time, one core.

Usage: OPENBLAS_NUM_THREADS=1 python benchmarks/decision.py
"""

from __future__ import annotations

import time

import numpy as np

from cost_models.types import Arm, PricedArm
from policies.base import Forecast, Limits
from policies.difficulty import DifficultyEstimator
from policies.utility import UtilityPolicy

N_ARMS = 64
N_QUERIES = 2000
N_DECISIONS = 2000
WORDS = (
    *(
        "how",
        "many",
        "apples",
        "does",
        "each",
        "of",
        "seven",
        "farmers",
        "sell",
        "at",
        "3",
        "dollars",
    ),
    *("prove", "that", "function", "returns", "list", "of", "integers", "which", "statement", "is"),
    *(
        "true",
        "A.",
        "B.",
        "cell",
        "membrane",
        "market",
        "energy",
        "velocity",
        "contract",
        "12",
        "per",
    ),
)


def text(rng: np.random.Generator) -> str:
    """Make a query of 20 to 120 words."""
    return " ".join(rng.choice(WORDS, int(rng.integers(20, 120))).tolist())


def main() -> None:
    """Fit on made-up outcomes, then time decisions on fresh queries."""
    rng = np.random.default_rng(0)
    arms = tuple(Arm(f"model{i // 8}", f"strategy{i % 8}") for i in range(N_ARMS))
    texts = [text(rng) for _ in range(N_QUERIES)]
    quality = (rng.random((N_QUERIES, N_ARMS)) < rng.random(N_ARMS)).astype(float)
    cost = np.broadcast_to(np.geomspace(1e-5, 1e-2, N_ARMS), quality.shape)
    for n_components in (32, 128):
        estimator = DifficultyEstimator(n_components=n_components, n_folds=2)
        estimator.fit(texts, quality, arms=arms, cost_usd=cost)
        policy = UtilityPolicy(1.0, arms[0])
        priced = [PricedArm(arm, float(c), 0) for arm, c in zip(arms, cost[0], strict=True)]
        took = []
        for fresh in [text(rng) for _ in range(N_DECISIONS)]:
            started = time.perf_counter()
            prediction = estimator.predict([fresh], arms)
            policy.choose(Forecast.of(priced, prediction), Limits(), rng)
            took.append(1000.0 * (time.perf_counter() - started))
        median, high = np.quantile(took[100:], [0.5, 0.99])
        print(f"{n_components} topics, {N_ARMS} arms: median {median:.3f} ms, p99 {high:.3f} ms")


if __name__ == "__main__":
    main()
