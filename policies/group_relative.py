"""Group-relative policy optimisation of a softmax over arms.

As GRPO does for the samples of a language model (Shao et al. 2024, arXiv:2402.03300, eq. 3 and
section 4.1.2): the rewards of one query's arms are a group, advantages are normalised inside it,
and the policy is held near a reference by a Kullback-Leibler penalty. Recorded outcomes tell the
reward of every arm, so that the expectation over arms is exact and nothing is clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.difficulty import canonical_order, check_outcomes, with_ones
from policies.features import TextFeatures, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm

FLAT = 1e-9
BETA_1, BETA_2, STABLE = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """How to optimise.

    ``shadow_price_per_usd`` >= 0 makes the reward: quality less the price of the cost. ``kl`` >= 0
    holds the policy to the uniform one, ``ridge`` >= 0 shrinks weights of features. With
    ``by_spread`` advantages are divided by the group's standard deviation, as GRPO does; without,
    queries where arms differ more count more (Liu et al. 2025, arXiv:2503.20783).
    """

    shadow_price_per_usd: float = 0.0
    kl: float = 0.02
    ridge: float = 1e-3
    by_spread: bool = True
    steps: int = 300
    rate: float = 0.05
    n_components: int = 32
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GroupRelativePolicy:
    """A fitted softmax policy; ``weights`` has shape (1 + n_features, n_arms)."""

    arms: tuple[Arm, ...]
    features: TextFeatures
    weights: NDArray[np.float64]

    def probability(
        self, texts: Sequence[str], offered: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Probability of each arm, shape (n, n_arms); rows add up to 1, or to 0 without an offer.

        ``offered`` of the same shape is False where an arm cannot be picked.
        """
        encoded = encode(texts, self.features.n_buckets)
        x = with_ones(self.features.transform_encoded(encoded))
        some = np.ones((len(texts), len(self.arms)), dtype=bool) if offered is None else offered
        return softmax(x @ self.weights, some)


def fit_group_relative(
    texts: Sequence[str],
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    arms: Sequence[Arm],
    settings: GroupSettings | None = None,
) -> GroupRelativePolicy:
    """Fit by Adam (Kingma and Ba 2015) on all queries at once; the order of rows does not matter.

    Parameters
    ----------
    texts : sequence of str, length n
    quality, cost_usd : ndarray of shape (n, n_arms), NaN where not recorded
    arms : sequence of Arm, length n_arms
    settings : GroupSettings, or None for the defaults

    Raises
    ------
    OutcomeError
        If shapes disagree, a quality is outside [0, 1], or nothing was observed.
    """
    settings = settings or GroupSettings()
    check_outcomes(texts, quality, arms)
    order = canonical_order(texts)
    encoded = encode([texts[i] for i in order], TextFeatures().n_buckets)
    features = TextFeatures(n_components=settings.n_components, random_state=settings.seed)
    x = with_ones(features.fit_encoded(encoded).transform_encoded(encoded))
    reward = (quality - settings.shadow_price_per_usd * cost_usd)[order]
    advantage, seen = group_advantages(reward, by_spread=settings.by_spread)
    weights = np.zeros((x.shape[1], len(arms)))
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    shrink = np.full((x.shape[1], 1), settings.ridge)
    shrink[0] = 0.0
    for step in range(1, settings.steps + 1):
        gradient = x.T @ _ascent(softmax(x @ weights, seen), advantage, seen, settings.kl) / len(x)
        gradient -= shrink * weights
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = BETA_2 * second + (1 - BETA_2) * gradient**2
        mean, spread = first / (1 - BETA_1**step), second / (1 - BETA_2**step)
        weights += settings.rate * mean / (np.sqrt(spread) + STABLE)
    return GroupRelativePolicy(tuple(arms), features, weights)


def group_advantages(
    reward: NDArray[np.float64], *, by_spread: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give advantages (0 where unknown) and where rewards are known, both (n, n_arms).

    The advantage of an arm is its reward less the mean of its group, divided by the group's
    standard deviation where ``by_spread``; 0 in a group of equal rewards.
    """
    seen = ~np.isnan(reward)
    count = np.maximum(1, seen.sum(axis=1, keepdims=True))
    known = np.where(seen, reward, 0.0)
    centred = np.where(seen, known - known.sum(axis=1, keepdims=True) / count, 0.0)
    if by_spread:
        spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
        centred = np.where(spread > FLAT, centred / np.maximum(spread, FLAT), 0.0)
    return centred, seen


def softmax(logits: NDArray[np.float64], among: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Normalised exponentials among some arms, 0 elsewhere; shapes (n, n_arms)."""
    held = np.where(among, logits, -np.inf)
    top = held.max(axis=1, keepdims=True, initial=-1e300)
    raised = np.where(among, np.exp(held - top), 0.0)
    return np.asarray(raised / np.maximum(raised.sum(axis=1, keepdims=True), FLAT))


def _ascent(
    p: NDArray[np.float64], advantage: NDArray[np.float64], seen: NDArray[np.bool_], kl: float
) -> NDArray[np.float64]:
    """Gradient, by logits, of the expected advantage less ``kl`` times KL(policy, uniform)."""
    log_p = np.log(np.where(p > 0, p, 1.0))
    value = advantage - kl * log_p
    inner = (p * value).sum(axis=1, keepdims=True)
    return np.where(seen, p * (value - inner), 0.0)
