"""Whether requests, or how often predictions come true, have changed since a policy was fitted.

Input drift is the energy distance of request features (Szekely and Rizzo 2013), with a permutation
p-value. Calibration drift is the mean of grade less prediction, by a confidence sequence that may
be looked at after every answer (see `policies.sequential`), beside the calibration error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.distance import cdist

from policies.evaluation import calibration
from policies.sequential import bounded_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 20
MOST = 400
"""Requests of each time that are compared; of more, a sample."""
N_PERMUTATIONS = 299


@dataclass(frozen=True, slots=True)
class InputDrift:
    """How far the features of new requests are from those before.

    ``distance`` is 0 for equal samples and at most 1; ``p_value`` the chance of one as large
    without a change. Both are None with fewer than 20 requests on a side.
    """

    n_before: int
    n_after: int
    distance: float | None
    p_value: float | None

    def drifted(self, delta: float) -> bool:
        """Whether a change is shown, wrongly with chance at most ``delta``."""
        return self.p_value is not None and self.p_value <= delta

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CalibrationDrift:
    """How predictions of served answers came true.

    ``bias`` is mean grade less mean prediction, with an interval that holds at every look; ``ece``
    the expected calibration error. None without graded answers.
    """

    n: int
    bias: float | None
    low: float
    high: float
    ece: float | None

    @property
    def drifted(self) -> bool:
        """Whether the interval excludes no bias."""
        return not self.low <= 0.0 <= self.high

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def input_drift(
    before: NDArray[np.float64], after: NDArray[np.float64], seed: int = 0
) -> InputDrift:
    """Compare features of shapes (n_before, n_features) and (n_after, n_features).

    Each feature counts in units of its spread over both.
    """
    n_before, n_after = len(before), len(after)
    if min(n_before, n_after) < FEWEST:
        return InputDrift(n_before, n_after, None, None)
    rng = np.random.default_rng(seed)
    parts = [_sample(part, rng) for part in (before, after)]
    both = np.concatenate(parts)
    spread = both.std(axis=0)
    scaled = both[:, spread > 0] / spread[spread > 0]
    distance = cdist(scaled, scaled)
    n = len(parts[0])
    seen = _energy(distance, np.arange(len(both)) < n)
    as_large = sum(
        _energy(distance, rng.permutation(len(both)) < n) >= seen for _ in range(N_PERMUTATIONS)
    )
    return InputDrift(n_before, n_after, seen, (1 + as_large) / (1 + N_PERMUTATIONS))


def calibration_drift(
    predicted: NDArray[np.float64], quality: NDArray[np.float64], delta: float
) -> CalibrationDrift:
    """Compare predictions with grades in [0, 1], both of shape (n,), in the order of time."""
    n = len(predicted)
    low, high = bounded_mean((1.0 + quality - predicted) / 2.0, delta)
    return CalibrationDrift(
        n=n,
        bias=float((quality - predicted).mean()) if n else None,
        low=2.0 * low - 1.0,
        high=2.0 * high - 1.0,
        ece=calibration(predicted, quality).ece if n else None,
    )


def _sample(part: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return part if len(part) <= MOST else part[rng.choice(len(part), MOST, replace=False)]


def _energy(distance: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Energy coefficient of two groups: (2 E|X-Y| - E|X-X'| - E|Y-Y'|) / 2 E|X-Y|."""
    between = 2.0 * float(distance[np.ix_(first, ~first)].mean())
    within = float(distance[np.ix_(first, first)].mean() + distance[np.ix_(~first, ~first)].mean())
    return (between - within) / between if between > 0 else 0.0
