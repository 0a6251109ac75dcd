"""What a policy would have earned, from logs that another policy made.

Every live decision stores the propensity of its arm. Rewards are reweighed by how much more often
the new policy would have picked the logged arm. Self-normalised importance sampling (SNIPS,
Swaminathan and Joachims 2015, eq. 10) and doubly robust values (Dudik et al. 2014,
arXiv:1503.02834, eq. 3.4), with normal-theory intervals whose degrees of freedom are those of the
effective sample size (Kish 1965); for SNIPS of rewards 0 and 1 no narrower than an exact one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from policies.errors import OutcomeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = "log"
COVERAGE = 0.95
MIN_EFFECTIVE = 3.0
TOLERANCE = 1e-6
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class OffPolicyValue:
    """An estimated mean reward with its 95 % interval.

    ``effective_n`` = (sum of weights)^2 / (sum of squared weights), at most ``n``: how many direct
    observations the log is worth. Below 3 nothing can be said and the interval is infinite.
    """

    estimate: float
    low: float
    high: float
    effective_n: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """Give plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Log:
    """Logged decisions.

    Attributes
    ----------
    arm : ndarray of int, shape (n,)
        Number of the arm that was picked.
    propensity : ndarray of shape (n,), in (0, 1]
    reward : ndarray of shape (n,)
        Quality, cost, or a mix of them; graded decisions only.

    Raises
    ------
    OutcomeError
        If there is no decision, a propensity is outside (0, 1] or a reward is not finite.
    """

    arm: NDArray[np.intp]
    propensity: NDArray[np.float64]
    reward: NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.arm):
            raise OutcomeError(SOURCE, "there is no graded decision to learn from")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            msg = "every decision needs the propensity with which it was made, in (0, 1]"
            raise OutcomeError(SOURCE, msg, column="propensity")
        if not np.isfinite(self.reward).all():
            raise OutcomeError(SOURCE, "every decision needs a finite reward", column="correct")

    def weights(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weigh each decision by choice probabilities of shape (n, n_arms); shape (n,)."""
        _check(probability, len(self.arm))
        return np.asarray(probability[np.arange(len(self.arm)), self.arm] / self.propensity)


def snips(log: Log, probability: NDArray[np.float64]) -> OffPolicyValue:
    """Self-normalised importance sampling: sum of w r over sum of w.

    ``probability`` of shape (n, n_arms) is what the new policy would do on each logged query.
    Where it gives no logged arm any weight the value is unknown: NaN, with an infinite interval.
    """
    weight = log.weights(probability)
    total = float(weight.sum())
    if total <= 0:
        return OffPolicyValue(float("nan"), -np.inf, np.inf, 0.0, len(weight))
    estimate = float((weight * log.reward).sum() / total)
    influence = weight * (log.reward - estimate) / (total / len(weight))
    value = _value(estimate, influence, weight)
    return _proportion(value) if _is_whole(log.reward) else value


def doubly_robust(
    log: Log, probability: NDArray[np.float64], predicted: NDArray[np.float64]
) -> OffPolicyValue:
    """Predicted reward of the new policy, corrected by reweighed residuals.

    Unbiased when the propensities are right or the predictions are. ``predicted`` of shape
    (n, n_arms) is the reward expected of each arm, fitted on other decisions than these. Of rewards
    of 0 and 1 the spread is at least what the predictions let expect: where few of the rarer kind
    were seen, what was seen tells too little.
    """
    weight = log.weights(probability)
    rows = np.arange(len(weight))
    direct = (probability * predicted).sum(axis=1)
    term = direct + weight * (log.reward - predicted[rows, log.arm])
    estimate = float(term.mean())
    value = _value(estimate, term - estimate, weight)
    if not _is_whole(log.reward) or not np.isfinite(value.high):
        return value
    expected = predicted[rows, log.arm].clip(0.0, 1.0)
    seen = (weight * (log.reward - expected)) ** 2
    likely = weight**2 * expected * (1.0 - expected)
    missing = max(0.0, float((likely - seen).sum())) / float(((term - estimate) ** 2).sum() + TINY)
    reach = (value.high - value.low) / 2.0 * float(np.sqrt(1.0 + missing))
    return replace(value, low=estimate - reach, high=estimate + reach)


def _value(
    estimate: float, influence: NDArray[np.float64], weight: NDArray[np.float64]
) -> OffPolicyValue:
    n = len(weight)
    square = float((weight**2).sum())
    effective = float(weight.sum() ** 2 / square) if square > 0 else 0.0
    if effective < MIN_EFFECTIVE:
        return OffPolicyValue(estimate, -np.inf, np.inf, effective, n)
    spread = float(np.sqrt((influence**2).sum() / (n * (n - 1.0))))
    inflated = spread * np.sqrt(effective / (effective - 1.0))
    reach = float(stats.t.ppf((1.0 + COVERAGE) / 2.0, effective - 1.0)) * inflated
    return OffPolicyValue(estimate, estimate - reach, estimate + reach, effective, n)


def _is_whole(reward: NDArray[np.float64]) -> bool:
    return bool(np.isin(reward, (0.0, 1.0)).all())


def _proportion(value: OffPolicyValue) -> OffPolicyValue:
    """Widen the interval of a mean of zeros and ones to an exact one (Korn and Graubard 1998).

    The variance found is turned into a number of Bernoulli trials, no more than the effective
    sample size, and these into a Clopper-Pearson interval: near 0 or 1, where few rewards of the
    rarer kind were seen or none, normal theory is far too sure of itself.
    """
    mean = min(max(value.estimate, 0.0), 1.0)
    if not np.isfinite(value.high):
        return value
    reach = (value.high - value.low) / 2.0
    trials = value.effective_n
    if reach > 0:
        z = float(stats.norm.ppf((1.0 + COVERAGE) / 2.0))
        trials = min(trials, mean * (1.0 - mean) * (z / reach) ** 2)
    right, tail = mean * trials, (1.0 - COVERAGE) / 2.0
    low = float(stats.beta.ppf(tail, right, trials - right + 1.0)) if right > 0 else 0.0
    high = float(stats.beta.ppf(1.0 - tail, right + 1.0, trials - right)) if right < trials else 1.0
    return OffPolicyValue(
        value.estimate, min(value.low, low), max(value.high, high), value.effective_n, value.n
    )


def _check(probability: NDArray[np.float64], n: int) -> None:
    if len(probability) != n or np.abs(probability.sum(axis=1) - 1.0).max() > TOLERANCE:
        msg = f"choice probabilities of {n} decisions must add up to 1 for each of them"
        raise OutcomeError(SOURCE, msg)
