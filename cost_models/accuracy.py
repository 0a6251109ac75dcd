"""Accuracy from a graded sample, and whether it meets a target.

An answer that was graded with probability pi stands for w = 1 / pi answers (Hajek 1971): accuracy
is the sum of w q over the sum of w. Its variance is linearised (Sarndal, Swensson and Wretman 1992,
section 5.5, independent picks) and turned into an effective number of trials, and these into an
exact binomial interval (Korn and Graubard 1998), which holds near 0 and 1 too.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaincinv

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

COVERAGE = 0.95
MIN_GRADED = 30
"""Below so many grades nothing is said."""


class Standing(StrEnum):
    """How a figure stands to its target; ``WATCH`` says that the data do not decide."""

    ON_TRACK = "on track"
    WATCH = "watch"
    BREACH = "breach"
    NOT_ENOUGH_DATA = "not enough data"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval [``low``, ``high``], from ``n`` observations."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON; what is not finite is None."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class GradeSums:
    """Sums over graded answers of weight w and quality q in [0, 1]; sums add.

    ``weight`` is the sum of w, ``quality`` of w q, and ``weight2``, ``weight2_quality`` and
    ``weight2_quality2`` of w^2, w^2 q and w^2 q^2.
    """

    n: int = 0
    weight: float = 0.0
    quality: float = 0.0
    weight2: float = 0.0
    weight2_quality: float = 0.0
    weight2_quality2: float = 0.0

    def __add__(self, other: GradeSums) -> GradeSums:
        return GradeSums(
            self.n + other.n,
            self.weight + other.weight,
            self.quality + other.quality,
            self.weight2 + other.weight2,
            self.weight2_quality + other.weight2_quality,
            self.weight2_quality2 + other.weight2_quality2,
        )

    @classmethod
    def of(cls, quality: ArrayLike, sample_prob: ArrayLike) -> GradeSums:
        """Sum up grades, and the probabilities in (0, 1] with which they were given; shape (n,)."""
        q, w = np.asarray(quality, dtype=float), 1.0 / np.asarray(sample_prob, dtype=float)
        w2 = w * w
        parts = (w, w * q, w2, w2 * q, w2 * q * q)
        return cls(len(q), *(float(part.sum()) for part in parts))

    @property
    def mean(self) -> float:
        """Weighted mean quality; NaN without grades."""
        return self.quality / self.weight if self.weight > 0 else float("nan")

    @property
    def variance(self) -> float:
        """Linearised variance of the mean, at least 0; NaN without grades."""
        p = self.mean
        spread = self.weight2_quality2 - 2.0 * p * self.weight2_quality + p * p * self.weight2
        return max(0.0, spread) / self.weight**2 if self.weight > 0 else float("nan")

    @property
    def trials(self) -> float:
        """How many plain right-or-wrong answers the sample is worth, at most its Kish size."""
        kish = self.weight**2 / self.weight2
        p = min(max(self.mean, 0.0), 1.0)
        return min(kish, p * (1.0 - p) / self.variance) if self.variance > 0 else kish


def accuracy(sums: GradeSums, coverage: float = COVERAGE) -> Estimate | None:
    """Estimate the mean quality of all answers; None below `MIN_GRADED` grades."""
    if sums.n < MIN_GRADED:
        return None
    tail = (1.0 - coverage) / 2.0
    return Estimate(sums.mean, _lower(sums, tail), _upper(sums, tail), sums.n)


def lower_bound(sums: GradeSums, certainty: float = COVERAGE) -> float:
    """Give what the accuracy exceeds with probability ``certainty``: a one-sided bound."""
    return _lower(sums, 1.0 - certainty)


def against_target(sums: GradeSums, target: float, certainty: float = COVERAGE) -> Standing:
    """Hold the accuracy against a target in [0, 1], by one-sided bounds on either side."""
    if sums.n < MIN_GRADED:
        return Standing.NOT_ENOUGH_DATA
    if _lower(sums, 1.0 - certainty) >= target:
        return Standing.ON_TRACK
    return Standing.BREACH if _upper(sums, 1.0 - certainty) < target else Standing.WATCH


def _lower(sums: GradeSums, tail: float) -> float:
    right = sums.mean * sums.trials
    return float(betaincinv(right, sums.trials - right + 1.0, tail)) if right > 0 else 0.0


def _upper(sums: GradeSums, tail: float) -> float:
    right = sums.mean * sums.trials
    if right >= sums.trials:
        return 1.0
    return float(betaincinv(right + 1.0, sums.trials - right, 1.0 - tail))
