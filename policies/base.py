"""The policy protocol: what is forecast of the offered arms, and the caller's limits, to a choice.

A policy is arithmetic: the same forecast and generator state give the same decision. It works on
many queries at once, so that replaying history runs the very code that serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from policies.errors import NoAffordableArmError
from policies.types import Decision, Offered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm, PricedArm
    from policies.predictor import Prediction

TIE = 1e-12


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller asks; None is no limit.

    ``accuracy_target`` in (0, 1] is reached by the cheapest arm predicted to, or else approached
    by the most accurate. Arms expected to cost above ``max_cost_usd`` or to take longer than
    ``max_latency_s`` are never picked.
    """

    accuracy_target: float | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of ``arms`` on n queries.

    Attributes
    ----------
    arms : tuple of Arm, length n_arms
    cost_usd : ndarray of shape (n, n_arms)
        Expected cost.
    quality : ndarray of shape (n, n_arms), or None
        Probability that the answer is right; None when nothing was fitted.
    latency_s : ndarray of shape (n, n_arms), or None
    difficulty : ndarray of shape (n,), or None
    in_distribution : ndarray of bool, shape (n,), or None
        False for queries unlike anything seen.
    offered : ndarray of bool, shape (n, n_arms), or None
        False where an arm cannot serve a query; None when all can.
    features : ndarray of shape (n, n_features), or None
        What the predictions were made from, see `Prediction`.
    """

    arms: tuple[Arm, ...]
    cost_usd: NDArray[np.float64]
    quality: NDArray[np.float64] | None = None
    latency_s: NDArray[np.float64] | None = None
    difficulty: NDArray[np.float64] | None = None
    in_distribution: NDArray[np.bool_] | None = None
    offered: NDArray[np.bool_] | None = None
    features: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, arms: Sequence[PricedArm], prediction: Prediction | None) -> Forecast:
        """Forecast one query; ``prediction`` is for exactly these arms, None before any fit."""
        return cls(
            arms=tuple(priced.arm for priced in arms),
            cost_usd=np.array([[priced.expected_cost_usd for priced in arms]]),
            quality=None if prediction is None else prediction.quality,
            latency_s=np.array([[priced.expected_latency_s for priced in arms]]),
            difficulty=None if prediction is None else prediction.difficulty,
            in_distribution=None if prediction is None else prediction.in_distribution,
            features=None if prediction is None else prediction.features,
        )

    def feasible(self, limits: Limits) -> NDArray[np.bool_]:
        """Which arms keep the hard limits, shape (n, n_arms)."""
        fits = np.isfinite(self.cost_usd)
        if self.offered is not None:
            fits &= self.offered
        if limits.max_cost_usd is not None:
            fits &= self.cost_usd <= limits.max_cost_usd
        if limits.max_latency_s is not None and self.latency_s is not None:
            fits &= self.latency_s <= limits.max_latency_s
        return fits


class Policy(Protocol):
    """A way to choose an arm. ``version`` names exactly this policy with all its parameters."""

    @property
    def version(self) -> str:
        """Name of this very policy."""
        ...

    def probability(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64]:
        """Probability with which each arm is picked, shape (n, n_arms).

        Rows add up to 1; a row is zero where there is no arm to pick. An infeasible arm has 0.
        """
        ...

    def choose(self, forecast: Forecast, limits: Limits, rng: np.random.Generator) -> Decision:
        """Choose for a forecast of one query; NoAffordableArmError if no arm can be picked."""
        ...


def explore(
    preferred: NDArray[np.intp], feasible: NDArray[np.bool_], epsilon: float
) -> NDArray[np.float64]:
    """Pick ``preferred`` with 1 - ``epsilon``, and any feasible arm alike with the rest.

    Parameters
    ----------
    preferred : ndarray of shape (n,)
        Number of an arm that is feasible, wherever one is.
    feasible : ndarray of bool, shape (n, n_arms)
    epsilon : float in [0, 1]
    """
    n_feasible = feasible.sum(axis=1, keepdims=True)
    probability = np.where(feasible, epsilon / np.maximum(1, n_feasible), 0.0)
    rows = np.flatnonzero(n_feasible[:, 0])
    probability[rows, preferred[rows]] += 1.0 - epsilon
    return probability


def first_best(
    value: NDArray[np.float64], cost_usd: NDArray[np.float64], among: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Give the arm with the highest value in each row; ties go to the cheaper, then the first.

    All arguments have shape (n, n_arms); rows of ``among`` without a True give 0.
    """
    held = np.where(among, value, -np.inf)
    tied = among & (held >= held.max(axis=1, keepdims=True, initial=-np.inf) - TIE)
    return np.asarray(np.where(tied, cost_usd, np.inf).argmin(axis=1))


def dearest(cost_usd: NDArray[np.float64], among: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Give the number of the arm expected to cost most in each row, the first of equals."""
    return np.asarray(np.where(among, cost_usd, -np.inf).argmax(axis=1))


def prefer(
    arm: Arm, forecast: Forecast, feasible: NDArray[np.bool_], otherwise: NDArray[np.intp]
) -> NDArray[np.intp]:
    """``arm`` where it is feasible, else ``otherwise``; shape (n,)."""
    if arm not in forecast.arms:
        return otherwise
    index = forecast.arms.index(arm)
    return np.where(feasible[:, index], index, otherwise)


def draw(
    forecast: Forecast, probability: NDArray[np.float64], rng: np.random.Generator
) -> tuple[int, float]:
    """Draw an arm for one query: its number and its propensity.

    Raises NoAffordableArmError when no arm has a probability above 0.
    """
    row = probability[0]
    if not row.any():
        cheapest = forecast.cost_usd.min(initial=np.inf)
        msg = (
            f"none of {len(forecast.arms)} arms keeps the limits (the cheapest is expected to "
            f"cost {cheapest:.9f} USD); raise max_cost_usd or max_latency_s, or allow more arms"
        )
        raise NoAffordableArmError(msg)
    reached = row.cumsum()
    picked = int((reached / reached[-1]).searchsorted(rng.random(), side="right"))
    return picked, float(row[picked])


def decision(
    forecast: Forecast, picked: int, propensity: float, version: str, reason: str
) -> Decision:
    """Write down a choice for one query with all that replaying it needs."""
    return Decision(
        arm=forecast.arms[picked],
        propensity=propensity,
        policy_version=version,
        predicted_quality=None if forecast.quality is None else float(forecast.quality[0, picked]),
        predicted_cost_usd=float(forecast.cost_usd[0, picked]),
        difficulty=None if forecast.difficulty is None else float(forecast.difficulty[0]),
        reason=reason,
        offered=_offered(forecast),
    )


def _offered(forecast: Forecast) -> Offered:
    quality = forecast.quality
    return Offered(
        arms=forecast.arms,
        cost_usd=tuple(forecast.cost_usd[0].tolist()),
        quality=None if quality is None else tuple(quality[0].tolist()),
    )
