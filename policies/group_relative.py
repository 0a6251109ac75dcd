"""Group-relative policy optimisation of a softmax over arms.

As GRPO does for the samples of a language model (Shao et al. 2024, arXiv:2402.03300, eq. 3 and
21): the rewards of one query's arms are a group, an advantage is a reward relative to its group,
and the policy is held near a reference by a Kullback-Leibler penalty. Recorded outcomes tell the
reward of every arm, so that expectations over the group are exact and nothing is clipped. What
language models start from, a policy that is good already, is here the utility rule, made soft.

One set of weights serves every shadow price: the reward, quality less price times cost, is that of
prices from one end to the other while fitting. An operator, a certificate or a sweep changes the
price of a policy long after its fit, where a family fitted price by price would have gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from policies.base import decision, draw
from policies.utility import UtilityPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.base import Forecast, Limits
    from policies.types import Decision

FLAT = 1e-9
BETA_1, BETA_2, STABLE = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How to optimise.

    The reference is a softmax of predicted quality net of cost, divided by a finite
    ``temperature`` > 0: the lower, the nearer to the utility rule. ``kl`` >= 0 holds the policy to
    it, ``entropy`` >= 0 rewards spread, ``ridge`` >= 0 shrinks weights. With ``by_spread``
    advantages are divided by the group's standard deviation, as GRPO does; without, queries where
    arms differ more count more (Liu et al. 2025, arXiv:2503.20783). Each of ``steps`` sees every
    query, at one of ``n_prices``.
    """

    temperature: float = 0.003
    kl: float = 0.1
    entropy: float = 0.0
    ridge: float = 1e-3
    by_spread: bool = False
    steps: int = 200
    rate: float = 0.05
    n_prices: int = 12

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < np.inf or min(self.kl, self.entropy, self.ridge) < 0.0:
            msg = f"a temperature is above 0, kl, entropy and ridge at least 0, got {self!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What was learned: logits that are added to those of the reference.

    Attributes
    ----------
    arms : tuple of Arm, length n_arms
    weights : ndarray of shape (2, n_features, n_arms)
        At the lowest and at the highest price; between them, they are mixed by its logarithm.
    low_per_usd, high_per_usd : float, > 0
        The two prices.
    temperature : float, > 0
        Of the reference.
    """

    arms: tuple[Arm, ...]
    weights: NDArray[np.float64]
    low_per_usd: float
    high_per_usd: float
    temperature: float

    def logits(
        self, x: NDArray[np.float64], arms: Sequence[Arm], price_per_usd: float
    ) -> NDArray[np.float64]:
        """Logits of ``arms`` for features (n, n_features); 0 for an arm that was not fitted."""
        place = {arm: i for i, arm in enumerate(self.arms)}
        known = [(i, place[arm]) for i, arm in enumerate(arms) if arm in place]
        found = np.zeros((len(x), len(arms)))
        if known:
            here, there = map(list, zip(*known, strict=True))
            share = position(price_per_usd, self.low_per_usd, self.high_per_usd)
            low, high = self.weights[:, :, there]
            found[:, here] = x @ ((1.0 - share) * low + share * high)
        return found


@dataclass(frozen=True, slots=True)
class GroupRelativePolicy(UtilityPolicy):
    """Draw an arm from a learned softmax; the utility rule decides where nothing was learned.

    The rule takes over for a request's own accuracy target, a query unlike anything seen, and
    arms without predictions. Arms are those that are feasible, not left out and let through by the
    gate: the softmax is normalised among them. It has no mixture: it meets a budget by its price.
    """

    correction: Correction = field(kw_only=True)

    def probability(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64]:
        """Give the probability of each arm, shape (n, n_arms).

        ValueError if there are predictions without the features that they were made from.
        """
        by_rule = UtilityPolicy.probability(self, forecast, limits)
        logits = self._logits(forecast, limits)
        if logits is None or forecast.quality is None:
            return by_rule
        feasible = forecast.feasible(limits)
        kept = self._let_through(forecast, self._kept(forecast, feasible), forecast.quality)
        kept = self._above_floor(forecast, kept, forecast.quality)
        drawn = softmax(logits, kept)
        explored = feasible / np.maximum(1, feasible.sum(axis=1, keepdims=True))
        learned = (1.0 - self.epsilon) * drawn + self.epsilon * explored
        if forecast.in_distribution is None:
            return np.asarray(learned)
        return np.asarray(np.where(forecast.in_distribution[:, None], learned, by_rule))

    def choose(self, forecast: Forecast, limits: Limits, rng: np.random.Generator) -> Decision:
        """Choose for one query; NoAffordableArmError if no arm is feasible."""
        strange = forecast.in_distribution is not None and not forecast.in_distribution[0]
        if strange or self._logits(forecast, limits) is None:
            return UtilityPolicy.choose(self, forecast, limits, rng)
        probability = self.probability(forecast, limits)
        picked, propensity = draw(forecast, probability, rng)
        price = f"{self.shadow_price_per_usd:g} right answers per USD"
        reason = f"drawn with probability {propensity:.2f} by what was learned, at {price}"
        return decision(forecast, picked, propensity, self.version, reason)

    def valued(self, forecast: Forecast) -> NDArray[np.float64]:
        """Give predicted quality as it was corrected, at this policy's price, (n, n_arms)."""
        quality, x = _known(forecast)
        learned = self.correction
        logits = learned.logits(x, forecast.arms, self.shadow_price_per_usd)
        return quality + learned.temperature * logits

    def _logits(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64] | None:
        """Give the logits of all arms, shape (n, n_arms); None where the rule has to decide."""
        if forecast.quality is None or self._target(limits) is not None:
            return None
        net = self.valued(forecast) - self.shadow_price_per_usd * forecast.cost_usd
        return np.asarray(net / self.correction.temperature)


def _known(forecast: Forecast) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give predictions and the features that they were made from; ValueError without them."""
    if forecast.quality is None or forecast.features is None:
        msg = "a group-relative policy needs predictions and the features that they were made from"
        raise ValueError(msg)
    return forecast.quality, forecast.features


def learned_policy(utility: UtilityPolicy, correction: Correction) -> GroupRelativePolicy:
    """Make the policy that explores, plays safe and values a USD as the utility policy does."""
    return GroupRelativePolicy(
        shadow_price_per_usd=utility.shadow_price_per_usd,
        safe_arm=utility.safe_arm,
        epsilon=utility.epsilon,
        accuracy_target=utility.accuracy_target,
        left_out=utility.left_out,
        gate=utility.gate,
        version=utility.version,
        correction=correction,
    )


@dataclass(frozen=True, slots=True)
class Groups:
    """Recorded outcomes of n queries by arm, with what was predicted of them, out of fold.

    ``quality``, ``cost_usd`` (NaN where not recorded), ``predicted`` and ``expected_usd`` have
    shape (n, n_arms); ``x`` has shape (n, n_features), first column ones.
    """

    x: NDArray[np.float64]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    predicted: NDArray[np.float64]
    expected_usd: NDArray[np.float64]

    def rows(self, index: NDArray[np.intp], x: NDArray[np.float64]) -> Groups:
        """Pick queries, with other features for them."""
        parts = (self.quality, self.cost_usd, self.predicted, self.expected_usd)
        return Groups(x, *(part[index] for part in parts))


def fit_correction(
    groups: Groups,
    arms: Sequence[Arm],
    prices_per_usd: Sequence[float],
    settings: GroupSettings | None = None,
) -> Correction:
    """Learn by Adam (Kingma and Ba 2015), every query at one price after the other.

    Prices lie between the least above 0 and the greatest of ``prices_per_usd``, and at 0 where that
    is one of them.
    """
    settings = settings or GroupSettings()
    seen = ~np.isnan(groups.quality + groups.cost_usd)
    some = np.flatnonzero(seen.sum(axis=1) > 1)
    seen, groups = seen[some], groups.rows(some, groups.x[some])
    right, spent = np.nan_to_num(groups.quality), np.nan_to_num(groups.cost_usd)
    grid, low, high = _grid(prices_per_usd, settings.n_prices)
    shares = np.array([position(price, low, high) for price in grid])
    weights = np.zeros((2, groups.x.shape[1], len(arms)))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, settings.steps + 1 if len(some) else 1):
        turn = (np.arange(len(some)) + step) % len(grid)
        price, share = grid[turn][:, None], shares[turn][:, None]
        reference = (groups.predicted - price * groups.expected_usd) / settings.temperature
        logits = (
            reference + (1.0 - share) * (groups.x @ weights[0]) + share * (groups.x @ weights[1])
        )
        start = softmax(reference, seen)
        advantage = group_advantages(right - price * spent, start, by_spread=settings.by_spread)
        slope = ascent(softmax(logits, seen), advantage, start, settings.kl, settings.entropy)
        both = np.stack([groups.x.T @ ((1.0 - share) * slope), groups.x.T @ (share * slope)])
        gradient = both / len(some) - settings.ridge * weights
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = BETA_2 * second + (1 - BETA_2) * gradient**2
        mean, spread = first / (1 - BETA_1**step), second / (1 - BETA_2**step)
        rate = settings.rate * (1.0 - (step - 1) / settings.steps)
        weights += rate * mean / (np.sqrt(spread) + STABLE)
    weights -= weights.mean(axis=2, keepdims=True)
    return Correction(tuple(arms), weights, low, high, settings.temperature)


def position(price_per_usd: float, low: float, high: float) -> float:
    """Where a price lies between two by its logarithm, in [0, 1]."""
    if price_per_usd <= low or high <= low:
        return 0.0
    return float(min(1.0, np.log(price_per_usd / low) / np.log(high / low)))


def group_advantages(
    reward: NDArray[np.float64], share: NDArray[np.float64], *, by_spread: bool
) -> NDArray[np.float64]:
    """Give each arm's reward relative to its group's mean, shape (n, n_arms).

    ``share``, whose rows add up to 1, is how often an arm is in its group: GRPO draws groups from
    the policy that it starts from. With ``by_spread`` it is divided by the group's standard
    deviation; 0 in a group of equal rewards.
    """
    centred = reward - (share * reward).sum(axis=1, keepdims=True)
    if by_spread:
        spread = np.sqrt((share * centred**2).sum(axis=1, keepdims=True))
        centred = np.where(spread > FLAT, centred / np.maximum(spread, FLAT), 0.0)
    return np.where(share > 0, centred, 0.0)


def softmax(logits: NDArray[np.float64], among: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Normalised exponentials among some arms, 0 elsewhere; shapes (n, n_arms)."""
    held = np.where(among, logits, -np.inf)
    top = held.max(axis=1, keepdims=True, initial=-1e300)
    raised = np.exp(held - top)
    return np.asarray(raised / np.maximum(raised.sum(axis=1, keepdims=True), FLAT))


def ascent(
    p: NDArray[np.float64],
    advantage: NDArray[np.float64],
    reference: NDArray[np.float64],
    kl: float,
    entropy: float,
) -> NDArray[np.float64]:
    """Gradient by logits of E[advantage] - kl * KL(p, reference) + entropy * H(p); (n, n_arms)."""
    log_p = np.log(np.where(p > 0, p, 1.0))
    log_reference = np.log(np.where(reference > 0, reference, 1.0))
    value = advantage - kl * (log_p - log_reference) - entropy * log_p
    return np.asarray(p * (value - (p * value).sum(axis=1, keepdims=True)))


def _grid(
    prices_per_usd: Sequence[float], n_prices: int
) -> tuple[NDArray[np.float64], float, float]:
    """Prices to fit at, and the least above 0 and the greatest; 1 where there is none."""
    positive = [price for price in prices_per_usd if price > 0]
    zero = [0.0] if min(prices_per_usd) <= 0 else []
    if not positive:
        return np.zeros(1), 1.0, 1.0
    low, high = min(positive), max(positive)
    return np.array([*zero, *np.geomspace(low, high, max(1, n_prices - len(zero)))]), low, high
