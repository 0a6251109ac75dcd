"""Milliseconds of one decision, features included: 64 arms, one query at a time, one core.

Usage: OPENBLAS_NUM_THREADS=1 chrt -r 10 python benchmarks/decision.py [--decisions 5000]

Queries are recorded ones of realistic lengths (MMLU-Pro, GSM8K, CRUXEval), fitted on one half and
decided on the other, each once, in a warm process; the garbage collector stays on, as in service.
Both are timed: the clock, which a busy machine makes longer, and the CPU time of the thread, which
it does not. Data is in ``../shared/data`` beside the repository, or in ``RHEOSTAT_DATA``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from cost_models.types import Arm, PricedArm
from policies.base import Forecast, Limits
from policies.difficulty import DifficultyEstimator
from policies.outcomes import read_outcomes
from policies.utility import UtilityPolicy

DATA = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[2] / "shared" / "data"))
FILES = ("mmlu_pro.parquet", "zeroeval_gsm8k.parquet", "zeroeval_crux.parquet")
N_ARMS = 64
N_FITTED = 2000
N_WARM = 200
MS_PER_NS = 1e-6


def recorded_texts(rng: np.random.Generator) -> list[str]:
    """Give the different queries of the files, shuffled."""
    found = {text for name in FILES for text in read_outcomes(DATA / name).queries}
    texts = sorted(found)
    return [texts[i] for i in rng.permutation(len(texts))]


def main() -> None:
    """Fit on made-up outcomes of recorded queries, then time decisions on others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decisions", type=int, default=4000)
    n_decisions = parser.parse_args().decisions
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: set RHEOSTAT_DATA")
    rng = np.random.default_rng(0)
    texts = recorded_texts(rng)
    fitted, fresh = texts[:N_FITTED], texts[N_FITTED : N_FITTED + N_WARM + n_decisions]
    arms = tuple(Arm(f"model{i // 8}", f"strategy{i % 8}") for i in range(N_ARMS))
    quality = (rng.random((len(fitted), N_ARMS)) < rng.random(N_ARMS)).astype(float)
    cost = np.broadcast_to(np.geomspace(1e-5, 1e-2, N_ARMS), quality.shape)
    length = np.array([len(text) for text in fresh])
    print(
        f"{len(fresh) - N_WARM} queries of {np.median(length):.0f} characters (median), "
        f"{np.quantile(length, 0.99):.0f} (p99); targets: median 0.5 ms, p99 1 ms"
    )
    for n_components in (32, 128):
        estimator = DifficultyEstimator(n_components=n_components, n_folds=2)
        estimator.fit(fitted, quality, arms=arms, cost_usd=cost)
        policy = UtilityPolicy(1.0, arms[0])
        priced = [PricedArm(arm, float(c), 0) for arm, c in zip(arms, cost[0], strict=True)]
        took = []
        for text in fresh:
            clock, cpu = time.perf_counter_ns(), time.thread_time_ns()
            prediction = estimator.predict([text], arms)
            policy.choose(Forecast.of(priced, prediction), Limits(), rng)
            took.append((time.perf_counter_ns() - clock, time.thread_time_ns() - cpu))
        for name, values in zip(("clock", "CPU"), np.array(took[N_WARM:]).T, strict=True):
            median, high, most = np.quantile(values * MS_PER_NS, [0.5, 0.99, 1.0])
            print(
                f"{n_components} topics, {N_ARMS} arms, {name}: median {median:.3f} ms, "
                f"p99 {high:.3f} ms, most {most:.3f} ms"
            )
        slow = np.argsort([cpu for _, cpu in took[N_WARM:]])[-n_decisions // 100 :]
        print(f"  the slowest 1 % have {np.median(length[N_WARM:][slow]):.0f} characters (median)")


if __name__ == "__main__":
    main()
