"""A gate for cheap arms: the error among the queries that they get keeps a bound.

Fixed-sequence Clopper-Pearson tests along thresholds of predicted quality (Angelopoulos et al.
2021, arXiv:2110.01052, sec. 4), each on the calibration queries that would go to a cheap arm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from policies.base import Limits
from policies.certificates import lower_bound, needed, p_value, stricter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from policies.base import Forecast
    from policies.matrix import OutcomeMatrix
    from policies.utility import UtilityPolicy

    Routed = Callable[[float], tuple[NDArray[np.bool_], NDArray[np.float64]]]

CLOSED = 2.0
"""Threshold of a gate that lets nothing through."""
LIKELY_SHARE = 0.8
STEP = 0.02


@dataclass(frozen=True, slots=True)
class CheapGate:
    """What was promised of cheap arms, or why it could not be.

    Attributes
    ----------
    allowance, delta : float
        P(error among queries sent to cheap arms <= allowance) >= 1 - delta.
    n_queries : int
        Graded queries that were tested on.
    given : bool
    threshold : float
        Predicted quality from which on a cheap arm may be picked; 2 where none was promised.
    share, error : float
        Share of the queries that a cheap arm gets, and the error among them; where nothing was
        promised, at the threshold that came nearest.
    upper_bound : float
        Least allowance that these queries would bear out.
    needed_queries : int, or None
        Graded queries in all that would do, where nothing was promised; None if none would.
    """

    allowance: float
    delta: float
    n_queries: int
    given: bool
    threshold: float
    share: float
    error: float
    upper_bound: float
    needed_queries: int | None

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        promise = (
            f"an error of at most {self.allowance:g} among queries sent to cheap arms "
            f"with {1 - self.delta:.0%} certainty"
        )
        if self.given:
            return (
                f"certified on {self.n_queries} queries: {promise} (measured {self.error:.3f}); "
                f"they get {self.share:.0%} of the queries"
            )
        told = f"not certified: {promise}; no query is sent to one"
        if self.upper_bound > self.allowance:
            short = self.upper_bound - self.allowance
            told += f"; {self.n_queries} queries allow {self.upper_bound:.3f}, {short:.3f} too much"
        if self.needed_queries is None:
            return f"{told}, and more of them would not help: the arms are wrong too often"
        more = max(1, self.needed_queries - self.n_queries)
        return f"{told}; about {more} more graded queries would do"


def cheap_gate(
    routed: Routed, score: NDArray[np.float64], allowance: float, delta: float
) -> CheapGate:
    """Lower the gate from few queries to many until the error can no longer be told to be small.

    Parameters
    ----------
    routed : callable
        From a threshold to which queries a cheap arm gets, and the error in [0, 1] of what answers
        each, both of shape (n,).
    score : ndarray of shape (n,)
        Highest predicted quality of a cheap arm, below 0 where there is none; it gives the
        thresholds to try, and must not depend on the outcomes tested on.
    allowance, delta : float in (0, 1)
    """
    at_most = stricter(delta)
    n = len(score)
    passed: tuple[float, NDArray[np.float64]] | None = None
    nearest = (CLOSED, np.zeros(0), np.inf)
    for threshold in _thresholds(score, allowance, at_most):
        sent, wrong = routed(threshold)
        right = 1.0 - wrong[sent]
        p = p_value(right, 1.0 - allowance)
        if p < nearest[2]:
            nearest = (threshold, right, p)
        if p > at_most:
            break
        passed = (threshold, right)
    threshold, right = nearest[:2] if passed is None else passed
    share = len(right) / n if n else 0.0
    wanted = None
    if passed is None and share:
        among = needed(right, 1.0 - allowance, at_most)
        wanted = None if among is None else int(np.ceil(among / share))
    return CheapGate(
        allowance=allowance,
        delta=delta,
        n_queries=n,
        given=passed is not None,
        threshold=CLOSED if passed is None else threshold,
        share=share,
        error=float(1.0 - right.mean()) if len(right) else 0.0,
        upper_bound=1.0 - lower_bound(right, at_most),
        needed_queries=wanted,
    )


def score_gate(
    score: NDArray[np.float64], wrong: NDArray[np.float64], allowance: float, delta: float
) -> CheapGate:
    """Gate one cheap arm by ``score``, the predicted probability that it is right; shape (n,).

    ``wrong`` of shape (n,) is 1 where the arm was wrong, else 0.
    """
    return cheap_gate(lambda threshold: (score >= threshold, wrong), score, allowance, delta)


def cheap_routed(
    policy: UtilityPolicy, forecast: Forecast, data: OutcomeMatrix
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which queries the rule sends to another arm than the safe one, and the errors of all picks.

    Both have shape (n,).
    """
    arm = policy.preferred(forecast, forecast.feasible(Limits()), Limits())
    cheap = np.array([name != policy.safe_arm for name in forecast.arms], dtype=bool)[arm]
    return cheap, 1.0 - data.quality[np.arange(len(arm)), arm]


def _thresholds(score: NDArray[np.float64], allowance: float, delta: float) -> Sequence[float]:
    """Thresholds from a share of queries that has a fair chance to pass, to all of them.

    It is the first at which four fifths of the allowance would pass, or where the predictions
    expect more errors there, the one that they are surest of: they are no outcomes tested on.
    """
    falling = np.sort(score[score >= 0.0])[::-1]
    n = len(falling)
    if not n:
        return []
    counts = np.maximum(1, np.ceil(np.arange(STEP, 1.0 + STEP / 2, STEP) * n)).astype(int)
    failing = np.cumsum(1.0 - falling)[counts - 1]
    hoped = stats.binom.cdf(np.ceil(failing), counts, allowance)
    fair = stats.binom.cdf(np.ceil(LIKELY_SHARE * allowance * counts), counts, allowance) <= delta
    start = int(fair.argmax())
    if not fair[start] or hoped[start] > delta:
        start = int(hoped.argmin())
    return [float(threshold) for threshold in falling[counts[start:] - 1]]
