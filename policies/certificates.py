"""Promises that hold with a stated chance: Learn-then-Test.

Angelopoulos et al. (2021), Learn then Test, arXiv:2110.01052. Policies are ordered in advance from
safe to cheap and tested in that order ("is its accuracy below the target?") on queries used for
nothing else; the first that cannot be rejected ends the walk (fixed-sequence testing). The last
one rejected keeps the promise with probability at least 1 - delta.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MAX_NEEDED = 10_000_000
TINY = 1e-12
HALF = 0.5
SQRT_2 = 2.0**0.5


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was promised, or why it could not be.

    Attributes
    ----------
    accuracy_target, delta : float
        P(accuracy >= target) >= 1 - delta, over all queries and over any batch of at least
        ``n_queries`` others (see `stricter`).
    n_queries : int
        Graded queries that were tested on.
    given : bool
    index : int, or None
        Which of the policies in order; None where none was certified.
    accuracy : float
        Measured accuracy of that policy, or of the safest where none was certified.
    lower_bound : float
        Highest target that its accuracy alone would certify, at the same delta.
    p_value : float
    needed_queries : int, or None
        Where none was certified: graded queries in all that would suffice at the same accuracy;
        None where no number would, the accuracy being no higher than the target.
    """

    accuracy_target: float
    delta: float
    n_queries: int
    given: bool
    index: int | None
    accuracy: float
    lower_bound: float
    p_value: float
    needed_queries: int | None

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        certainty = f"with {1 - self.delta:.0%} certainty"
        promise = f"accuracy of at least {self.accuracy_target:g} {certainty}"
        measured = f"(measured {self.accuracy:.3f})"
        if self.given:
            return f"certified on {self.n_queries} queries: {promise} {measured}"
        short = self.accuracy_target - self.lower_bound
        shown = f"{self.n_queries} queries show {self.lower_bound:.3f} at most"
        told = f"not certified: {promise}; {shown} {measured}"
        if self.needed_queries is None:
            return f"{told}, and more of them would not help: the target is above what was measured"
        more = self.needed_queries - self.n_queries
        return f"{told}, {short:.3f} short; about {more} more graded queries would do"


def certify(
    quality: Sequence[NDArray[np.float64]], accuracy_target: float, delta: float
) -> Certificate:
    """Walk policies from safe to cheap and certify the last whose accuracy passes.

    The tests are at `stricter` (delta).

    Parameters
    ----------
    quality : sequence of ndarray of shape (n,), at least one
        Quality in [0, 1] of each policy's answers to the same queries, the safest policy first. The
        order must not depend on these outcomes.
    accuracy_target : float in (0, 1]
    delta : float in (0, 1)
    """
    at_most = stricter(delta)
    passed: int | None = None
    for index, right in enumerate(quality):
        if p_value(right, accuracy_target) > at_most:
            break
        passed = index
    shown = quality[0 if passed is None else passed]
    return Certificate(
        accuracy_target=accuracy_target,
        delta=delta,
        n_queries=len(shown),
        given=passed is not None,
        index=passed,
        accuracy=float(shown.mean()),
        lower_bound=lower_bound(shown, at_most),
        p_value=p_value(shown, accuracy_target),
        needed_queries=None if passed is not None else needed(shown, accuracy_target, at_most),
    )


def p_value(quality: NDArray[np.float64], accuracy_target: float) -> float:
    """P-value of "the mean quality is below ``accuracy_target``".

    Exact binomial where every quality is 0 or 1, else Hoeffding-Bentkus (Bates et al. 2021,
    arXiv:2101.02703, eq. 12, of which Learn then Test is made). 1 without outcomes.
    """
    n = len(quality)
    if not n:
        return 1.0
    wrong = 1.0 - quality
    allowed = 1.0 - accuracy_target
    total = float(wrong.sum())
    if _binary(quality):
        return float(stats.binom.cdf(round(total), n, allowed))
    rate = total / n
    hoeffding = 1.0 if rate >= allowed else float(np.exp(-n * _kl(rate, allowed)))
    bentkus = float(np.e * stats.binom.cdf(np.ceil(total - TINY), n, allowed))
    return min(1.0, hoeffding, bentkus)


def lower_bound(quality: NDArray[np.float64], delta: float) -> float:
    """Highest accuracy that ``quality`` certifies by itself with probability 1 - ``delta``."""
    n = len(quality)
    if not n:
        return 0.0
    if _binary(quality):
        right = round(float(quality.sum()))
        return float(stats.beta.ppf(delta, right, n - right + 1)) if right else 0.0
    low, high = 0.0, float(quality.mean())
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if p_value(quality, middle) <= delta else (low, middle)
    return low


def needed(quality: NDArray[np.float64], accuracy_target: float, delta: float) -> int | None:
    """Graded queries that would certify the target at the accuracy seen; None if none would."""
    accuracy = float(quality.mean()) if len(quality) else 0.0
    if accuracy <= accuracy_target:
        return None
    binary = _binary(quality)
    low, high = 0, max(1, len(quality))
    while not _would_pass(high, accuracy, accuracy_target, delta, binary=binary):
        low, high = high, 2 * high
        if high > MAX_NEEDED:
            return None
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        if _would_pass(middle, accuracy, accuracy_target, delta, binary=binary):
            high = middle
        else:
            low = middle
    return high


def _would_pass(
    n: int, accuracy: float, accuracy_target: float, delta: float, *, binary: bool
) -> bool:
    allowed = 1.0 - accuracy_target
    wrong = np.ceil(n * (1.0 - accuracy) - TINY)
    exact = float(stats.binom.cdf(wrong, n, allowed))
    if binary:
        return exact <= delta
    hoeffding = float(np.exp(-n * _kl(1.0 - accuracy, allowed)))
    return min(np.e * exact, hoeffding) <= delta


def stricter(delta: float) -> float:
    """Chance at which to test, so that a batch of queries keeps the promise too, not only the mean.

    The mean over all queries is kept from below with chance 1 - ``delta`` by a test at ``delta``.
    What a user can see is the mean of a batch, with a noise of its own, and, if tests and batch
    are halves of one set, luck in one is bad luck in the other. Where the batch is at least as
    large as the tests, its error less theirs has at most sqrt(2) times their spread (normal
    theory): so quantiles are taken that much further out.
    """
    if delta >= HALF:
        return delta
    return float(stats.norm.sf(SQRT_2 * stats.norm.isf(delta)))


def _binary(quality: NDArray[np.float64]) -> bool:
    return bool(np.isin(quality, (0.0, 1.0)).all())


def _kl(rate: float, allowed: float) -> float:
    """Kullback-Leibler divergence of two Bernoulli variables, in nats."""
    p, q = rate, min(max(allowed, TINY), 1.0 - TINY)
    first = p * np.log(p / q) if p > 0 else 0.0
    second = (1.0 - p) * np.log((1.0 - p) / (1.0 - q)) if p < 1 else 0.0
    return float(first + second)
