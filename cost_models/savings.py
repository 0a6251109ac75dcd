"""What was saved against "every question once by the largest model, at that day's price".

Measured where chance decided: what the largest model was picked for with probability p stands for
1 / p decisions (Horvitz and Thompson 1952), within bins of difficulty (post-stratification: doubly
robust, the outcome model being the mean of each bin, Dudik et al. 2014). Intervals resample whole
clusters (Efron 1979; Field and Welsh 2007), since requests of one time and session are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.accuracy import COVERAGE, MIN_GRADED, Estimate
from cost_models.errors import NotEnoughDataError
from cost_models.money import NANO_PER_USD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

N_RESAMPLES = 1000
MIN_PICKS = 30
"""Picks of the baseline below which nothing is said; a bin with less than a third is pooled."""
MIN_CLUSTERS = 12
PICKS = "random picks of the largest model"
HOURS = "hours with requests"


@dataclass(frozen=True, slots=True)
class SavingsSums:
    """Sums by cluster and bin of difficulty, arrays of shape (n_clusters, n_bins).

    Over all decisions that count: how many (``n``), their ``cost`` (nano-USD, every role), and of
    the graded ones the sums of w (``weight``) and w q (``quality``). Over those of them in which
    the baseline was picked, with p its propensity: how many (``picks``), 1 / p (``inverse``),
    cost / p (``inverse_cost``), w / p (``inverse_weight``) and w q / p (``inverse_quality``).
    """

    n: Floats
    cost: Floats
    weight: Floats
    quality: Floats
    picks: Floats
    inverse: Floats
    inverse_cost: Floats
    inverse_weight: Floats
    inverse_quality: Floats
    n_graded: int
    n_baseline_graded: int


@dataclass(frozen=True, slots=True)
class Savings:
    """USD saved, signed and net of judges and exploration; below 0 it was a loss.

    ``measured`` is False where the baseline's cost is taken from picks that were not random.
    ``accuracy_difference`` is served less baseline, None with too few grades of either.
    """

    measured: bool
    n: int
    n_picks: int
    spent_usd: float
    counterfactual_usd: Estimate
    saved_usd: Estimate
    saved_share: Estimate
    accuracy_difference: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        difference = self.accuracy_difference
        return {
            "measured": self.measured,
            "n": self.n,
            "n_picks": self.n_picks,
            "spent_usd": self.spent_usd,
            "counterfactual_usd": self.counterfactual_usd.to_dict(),
            "saved_usd": self.saved_usd.to_dict(),
            "saved_share": self.saved_share.to_dict(),
            "accuracy_difference": None if difference is None else difference.to_dict(),
        }


def savings(sums: SavingsSums, rng: np.random.Generator, *, measured: bool = True) -> Savings:
    """Estimate what was saved; NotEnoughDataError with too few picks of the baseline or clusters.

    With ``measured`` False the ``inverse`` sums are plain ones over all picks of the baseline.
    """
    n_clusters, n_picks = len(sums.n), int(sums.picks.sum())
    if n_picks < MIN_PICKS:
        raise NotEnoughDataError(PICKS, n_picks, MIN_PICKS)
    if n_clusters < MIN_CLUSTERS:
        raise NotEnoughDataError(HOURS, n_clusters, MIN_CLUSTERS)
    pooled = _pooled(sums.picks.sum(axis=0))
    graded = min(sums.n_graded, sums.n_baseline_graded) >= MIN_GRADED
    draws = rng.multinomial(n_clusters, np.full(n_clusters, 1.0 / n_clusters), N_RESAMPLES)
    once = np.ones((1, n_clusters))
    value = _figures(sums, once, pooled)
    spread = _figures(sums, draws.astype(np.float64), pooled)

    def estimate(name: str) -> Estimate:
        low, high = _interval(spread[name])
        return Estimate(float(value[name][0]), low, high, n_picks)

    return Savings(
        measured=measured,
        n=int(sums.n.sum()),
        n_picks=n_picks,
        spent_usd=float(sums.cost.sum()) / NANO_PER_USD,
        counterfactual_usd=estimate("counterfactual"),
        saved_usd=estimate("saved"),
        saved_share=estimate("share"),
        accuracy_difference=estimate("difference") if graded else None,
    )


def _pooled(picks: Floats) -> NDArray[np.intp]:
    """Give each bin a number: those with few picks of the baseline become one with the nearest."""
    enough = np.flatnonzero(picks >= MIN_PICKS / 3.0)
    if not len(enough):
        return np.zeros(len(picks), dtype=np.intp)
    nearest = np.abs(np.arange(len(picks))[:, None] - enough[None, :]).argmin(axis=1)
    return np.asarray(nearest)


def _figures(sums: SavingsSums, draws: Floats, pooled: NDArray[np.intp]) -> dict[str, Floats]:
    """Give the figures of each draw of clusters, shape (n_draws,); ``draws`` says how often."""
    into = np.eye(int(pooled.max()) + 1)[pooled]

    def total(part: Floats) -> Floats:
        return np.asarray(draws @ (part @ into))

    n, inverse = total(sums.n), total(sums.inverse)
    counterfactual = (n * _mean(total(sums.inverse_cost), inverse)).sum(axis=1) / NANO_PER_USD
    saved = counterfactual - total(sums.cost).sum(axis=1) / NANO_PER_USD
    quality = _mean(total(sums.inverse_quality), total(sums.inverse_weight))
    weight = total(sums.weight)
    baseline = (weight * quality).sum(axis=1)
    served = total(sums.quality).sum(axis=1)
    return {
        "counterfactual": counterfactual,
        "saved": saved,
        "share": saved / np.maximum(counterfactual, 1e-12),
        "difference": (served - baseline) / np.maximum(weight.sum(axis=1), 1e-12),
    }


def _mean(over: Floats, under: Floats) -> Floats:
    """Divide by bin; a bin without any has the mean of all."""
    whole = over.sum(axis=1, keepdims=True) / np.maximum(under.sum(axis=1, keepdims=True), 1e-12)
    return np.where(under > 0, over / np.where(under > 0, under, 1.0), whole)


def _interval(values: Floats) -> tuple[float, float]:
    tail = 100.0 * (1.0 - COVERAGE) / 2.0
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return float(low), float(high)
