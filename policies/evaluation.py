"""What a policy would have earned on recorded outcomes, against plain rivals, and calibration.

Every query's outcomes are known for every arm, so a policy is valued exactly: the mean of its
choice probabilities times outcomes. Intervals come from resampling queries (Efron 1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_auc_score

from policies.errors import OutcomeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm

N_RESAMPLES = 1000
COVERAGE = 0.95
Z = 1.959963984540054
"""The normal quantile of (1 + COVERAGE) / 2."""
N_BINS = 10
MIN_PROBABILITY = 1e-6
SUM_TOLERANCE = 1e-6
SOURCE = "outcomes"

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Replay:
    """A policy's value on ``n_queries`` recorded queries, with 95 % bootstrap intervals.

    ``usd_per_correct`` is cost per right answer, None when there is none. ``arm_shares`` is by
    ``str(arm)``, arms that were never picked left out.
    """

    n_queries: int
    accuracy: float
    accuracy_interval: Interval
    cost_usd_per_query: float
    cost_interval: Interval
    usd_per_correct: float | None
    arm_shares: dict[str, float]

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return {
            "n_queries": self.n_queries,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "cost_usd_per_query": self.cost_usd_per_query,
            "cost_interval": list(self.cost_interval),
            "usd_per_correct": self.usd_per_correct,
            "arm_shares": dict(self.arm_shares),
        }


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """How good predicted probabilities were, on ``n`` outcomes.

    ``ece`` is the expected calibration error over ten equal bins (Guo et al. 2017, eq. 3).
    ``auc`` is None with a single class. ``constant_log_loss`` is that of always saying the mean.
    """

    n: int
    brier: float
    ece: float
    auc: float | None
    log_loss: float
    constant_log_loss: float

    def to_dict(self) -> dict[str, float | None]:
        """Give plain values for JSON."""
        return {
            "n": self.n,
            "brier": self.brier,
            "ece": self.ece,
            "auc": self.auc,
            "log_loss": self.log_loss,
            "constant_log_loss": self.constant_log_loss,
        }


def replay(
    probability: NDArray[np.float64],
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    arms: Sequence[Arm],
    seed: int = 0,
) -> Replay:
    """Value choice probabilities on recorded outcomes.

    Parameters
    ----------
    probability, quality, cost_usd : ndarray of shape (n, n_arms)
        Rows of ``probability`` add up to 1. What was not recorded is NaN and must not be picked.
    arms : sequence of Arm, length n_arms
    seed : int
        Seed of the bootstrap.

    Raises
    ------
    OutcomeError
        If a row does not add up to 1 or an arm without an outcome can be picked.
    """
    if not len(probability) or np.abs(probability.sum(axis=1) - 1.0).max() > SUM_TOLERANCE:
        msg = "choice probabilities must add up to 1 for every query, and there must be a query"
        raise OutcomeError(SOURCE, msg)
    picked = probability > 0
    if np.isnan(np.where(picked, quality + cost_usd, 0.0)).any():
        msg = "an arm without recorded quality or cost was picked; offer only recorded arms"
        raise OutcomeError(SOURCE, msg)
    right = (probability * np.where(picked, quality, 0.0)).sum(axis=1)
    spent = (probability * np.where(picked, cost_usd, 0.0)).sum(axis=1)
    shares = probability.mean(axis=0)
    return Replay(
        n_queries=len(right),
        accuracy=float(right.mean()),
        accuracy_interval=bootstrap_mean(right, seed),
        cost_usd_per_query=float(spent.mean()),
        cost_interval=bootstrap_mean(spent, seed),
        usd_per_correct=float(spent.sum() / right.sum()) if right.sum() > 0 else None,
        arm_shares={str(arm): float(s) for arm, s in zip(arms, shares, strict=True) if s > 0},
    )


def bootstrap_mean(values: NDArray[np.float64], seed: int) -> Interval:
    """Give the 95 % percentile bootstrap interval of a mean (Efron 1979)."""
    return bootstrap_means(values[:, None], seed)[0]


def bootstrap_means(values: NDArray[np.float64], seed: int) -> list[Interval]:
    """Give such an interval for each column of (n, k) values; rows are drawn together."""
    tails = ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2)
    low, high = np.quantile(_resampled(values, seed), tails, axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def normal_mean(values: NDArray[np.float64]) -> Interval:
    """Give the 95 % interval of a mean of numbers in [0, 1] by the normal approximation."""
    mean = float(values.mean())
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 1.0
    return max(0.0, mean - Z * error), min(1.0, mean + Z * error)


def bootstrap_lower(values: NDArray[np.float64], level: float, seed: int) -> NDArray[np.float64]:
    """Give what the mean of each column of (n, k) values is below with chance ``level``."""
    return np.asarray(np.quantile(_resampled(values, seed), level, axis=0))


def _resampled(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means of resampled rows, shape (N_RESAMPLES, k)."""
    rng = np.random.default_rng(seed)
    n = len(values)
    drawn = (np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(N_RESAMPLES))
    return np.array([counts @ values / n for counts in drawn])


def baselines(
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    arms: Sequence[Arm],
    seed: int = 0,
) -> dict[str, Replay]:
    """Value the plain rivals of a policy.

    ``cheapest`` and ``largest`` always pick the arm with the lowest and highest mean cost,
    ``best_fixed`` the arm with the highest mean quality (ties to the cheaper), ``random_mix`` any
    recorded arm alike, ``oracle`` the cheapest of the arms that do best on each query. A fixed
    arm is valued on the queries where it was recorded.

    Parameters
    ----------
    quality, cost_usd : ndarray of shape (n, n_arms), NaN where not recorded
    arms : sequence of Arm, length n_arms
    seed : int
        Seed of the bootstrap.
    """
    seen = np.asarray(~np.isnan(quality + cost_usd))
    mean_quality, mean_cost = column_means(quality, seen), column_means(cost_usd, seen)
    usable = np.asarray(seen.any(axis=0))
    if not usable.any():
        raise OutcomeError(SOURCE, "no arm has both quality and cost recorded")
    fixed = {
        "cheapest": int(np.where(usable, mean_cost, np.inf).argmin()),
        "largest": int(np.where(usable, mean_cost, -np.inf).argmax()),
        "best_fixed": best_fixed(mean_quality, mean_cost, usable),
    }
    some = np.asarray(seen.any(axis=1))
    held = np.where(seen, quality, -np.inf)
    best = seen & (held >= held.max(axis=1, keepdims=True))
    oracle = np.where(best, cost_usd, np.inf).argmin(axis=1)
    chosen = {
        name: (seen[:, arm], np.eye(len(arms))[np.full(len(quality), arm)])
        for name, arm in fixed.items()
    }
    chosen["random_mix"] = (some, seen / np.maximum(1, seen.sum(axis=1, keepdims=True)))
    chosen["oracle"] = (some, np.eye(len(arms))[oracle])
    return {
        name: replay(probability[rows], quality[rows], cost_usd[rows], arms, seed)
        for name, (rows, probability) in chosen.items()
    }


def best_fixed(
    mean_quality: NDArray[np.float64], mean_cost: NDArray[np.float64], usable: NDArray[np.bool_]
) -> int:
    """Give the number of the usable arm with the highest mean quality, ties to the cheaper."""
    held = np.where(usable, mean_quality, -np.inf)
    return int(np.where(held >= held.max(), mean_cost, np.inf).argmin())


def column_means(values: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Take the mean of each column over the rows where ``seen``; 0 for a column never seen."""
    total = np.where(seen, values, 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(1, seen.sum(axis=0)))


def calibration(predicted: NDArray[np.float64], actual: NDArray[np.float64]) -> CalibrationReport:
    """Compare probabilities with outcomes in [0, 1] of the same shape; NaN outcomes are left out.

    An outcome q between 0 and 1 counts as right with weight q and as wrong with weight 1 - q.
    """
    seen = ~np.isnan(actual)
    p, q = predicted[seen], actual[seen]
    if not p.size:
        raise OutcomeError(SOURCE, "there is no outcome to compare with")
    bins = np.minimum((p * N_BINS).astype(int), N_BINS - 1)
    gap = np.bincount(bins, weights=q - p, minlength=N_BINS)
    weight = np.concatenate([q, 1.0 - q])
    label = np.concatenate([np.ones(p.size), np.zeros(p.size)])
    mixed = 0.0 < q.mean() < 1.0
    return CalibrationReport(
        n=int(p.size),
        brier=float(((p - q) ** 2).mean()),
        ece=float(np.abs(gap).sum() / p.size),
        auc=float(roc_auc_score(label, np.tile(p, 2), sample_weight=weight)) if mixed else None,
        log_loss=log_loss(p, q),
        constant_log_loss=log_loss(np.full(p.shape, q.mean()), q),
    )


def log_loss(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Mean of -(q log p + (1 - q) log(1 - p)); p is kept off 0 and 1 by 1e-6."""
    p = p.clip(MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
    return float(-(q * np.log(p) + (1.0 - q) * np.log1p(-p)).mean())
