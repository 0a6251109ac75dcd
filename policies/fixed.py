"""Policies that ask no predictions: always one arm, or one safe arm while others are explored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.base import dearest, decision, draw, explore, prefer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.base import Forecast, Limits
    from policies.types import Decision


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """Always ``arm``; where it is not feasible there is nothing to pick."""

    arm: Arm

    @property
    def version(self) -> str:
        """Name of this policy: ``fixed:MODEL|STRATEGY``."""
        return f"fixed:{self.arm}"

    def probability(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64]:
        """Give 1 for the arm where it is feasible, else 0; shape (n, n_arms)."""
        is_arm = np.array([arm == self.arm for arm in forecast.arms], dtype=bool)
        return np.asarray(forecast.feasible(limits) & is_arm, dtype=np.float64)

    def choose(self, forecast: Forecast, limits: Limits, rng: np.random.Generator) -> Decision:
        """Choose the arm; NoAffordableArmError where it is not feasible."""
        picked, propensity = draw(forecast, self.probability(forecast, limits), rng)
        return decision(forecast, picked, propensity, self.version, "the fixed arm")


@dataclass(frozen=True, slots=True)
class SafePolicy:
    """A safe arm, and now and then another, before anything was fitted.

    ``arm`` is picked with probability 1 - ``epsilon`` (the dearest feasible arm where it is not
    feasible); the rest is spread evenly over all feasible arms, so that their outcomes can be
    learned from. ``epsilon`` is in [0, 1].
    """

    arm: Arm
    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)

    @property
    def version(self) -> str:
        """Name of this policy with its parameters."""
        return f"safe:{self.arm}:{self.epsilon:g}"

    def probability(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64]:
        """Give the probability of each arm, shape (n, n_arms)."""
        feasible = forecast.feasible(limits)
        return explore(self._preferred(forecast, feasible), feasible, self.epsilon)

    def choose(self, forecast: Forecast, limits: Limits, rng: np.random.Generator) -> Decision:
        """Choose for one query; NoAffordableArmError if no arm is feasible."""
        feasible = forecast.feasible(limits)
        preferred = self._preferred(forecast, feasible)
        picked, propensity = draw(forecast, explore(preferred, feasible, self.epsilon), rng)
        if picked != preferred[0]:
            reason = "nothing was fitted yet: explored at random"
        elif forecast.arms[picked] == self.arm:
            reason = "nothing was fitted yet: the safe arm"
        else:
            reason = "nothing was fitted yet and the safe arm does not fit: the dearest that does"
        return decision(forecast, picked, propensity, self.version, reason)

    def _preferred(self, forecast: Forecast, feasible: NDArray[np.bool_]) -> NDArray[np.intp]:
        return prefer(self.arm, forecast, feasible, dearest(forecast.cost_usd, feasible))


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless ``epsilon`` is in [0, 1]."""
    if not 0.0 <= epsilon <= 1.0:
        msg = f"epsilon is a share of choices in [0, 1], got {epsilon}"
        raise ValueError(msg)
