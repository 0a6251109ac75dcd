"""The utility policy: the arm with the best predicted quality net of what it costs.

The plug-in rule of CARROT (Somerstep et al. 2025, arXiv:2502.03261): argmax p - lambda * c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.base import dearest, decision, draw, explore, first_best, prefer
from policies.fixed import check_epsilon

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.base import Forecast, Limits
    from policies.types import Decision


@dataclass(frozen=True, slots=True)
class UtilityPolicy:
    """Maximise ``quality - shadow_price_per_usd * cost_usd`` over feasible arms, exploring a bit.

    ``shadow_price_per_usd`` >= 0 is how many right answers one USD has to buy. A request's
    accuracy target, or else ``accuracy_target``, replaces that rule by: the cheapest arm
    predicted to reach it, the most accurate if none does. A query unlike anything seen goes to
    ``safe_arm`` (the most accurate feasible arm where that is not feasible). ``epsilon`` in
    [0, 1] is the share of uniform picks: above 0 it keeps logged decisions reusable. Arms in
    ``left_out`` are only explored, unless nothing else is feasible or a request has a target.
    """

    shadow_price_per_usd: float
    safe_arm: Arm
    epsilon: float = 0.02
    accuracy_target: float | None = None
    left_out: frozenset[Arm] = frozenset()
    version: str = "utility"

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not 0.0 <= self.shadow_price_per_usd < np.inf:
            msg = f"a shadow price is finite and at least 0, got {self.shadow_price_per_usd}"
            raise ValueError(msg)

    def probability(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64]:
        """Give the probability of each arm, shape (n, n_arms)."""
        feasible = forecast.feasible(limits)
        return explore(self.preferred(forecast, feasible, limits), feasible, self.epsilon)

    def choose(self, forecast: Forecast, limits: Limits, rng: np.random.Generator) -> Decision:
        """Choose for one query; NoAffordableArmError if no arm is feasible."""
        feasible = forecast.feasible(limits)
        preferred = self.preferred(forecast, feasible, limits)
        picked, propensity = draw(forecast, explore(preferred, feasible, self.epsilon), rng)
        if picked == preferred[0]:
            reason = self._reason(forecast, picked, limits)
        else:
            reason = "explored at random"
        return decision(forecast, picked, propensity, self.version, reason)

    def valued(self, forecast: Forecast) -> NDArray[np.float64]:
        """Give the quality that the rule takes for each arm's, shape (n, n_arms)."""
        if forecast.quality is None:
            msg = "nothing was predicted of these queries"
            raise ValueError(msg)
        return forecast.quality

    def preferred(
        self, forecast: Forecast, feasible: NDArray[np.bool_], limits: Limits
    ) -> NDArray[np.intp]:
        """Give the number of the arm that the rule prefers, shape (n,); 0 where none is feasible.

        Without predictions it is the safe arm.
        """
        cost_usd, quality = forecast.cost_usd, forecast.quality
        if quality is None:
            return prefer(self.safe_arm, forecast, feasible, dearest(cost_usd, feasible))
        target = self._target(limits)
        own_target = limits.accuracy_target is not None
        kept = feasible if own_target else self._kept(forecast, feasible)
        best = first_best(quality, cost_usd, kept)
        if target is None:
            chosen = first_best(quality - self.shadow_price_per_usd * cost_usd, cost_usd, kept)
        else:
            reaching = kept & (quality >= target)
            cheapest = first_best(-cost_usd, -quality, reaching)
            chosen = np.where(reaching.any(axis=1), cheapest, best)
        if forecast.in_distribution is None:
            return chosen
        safe = prefer(self.safe_arm, forecast, feasible, best)
        return np.where(forecast.in_distribution, chosen, safe)

    def _kept(self, forecast: Forecast, feasible: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Feasible arms that are not left out; all feasible ones where that leaves none."""
        if not self.left_out:
            return feasible
        wanted = np.array([arm not in self.left_out for arm in forecast.arms], dtype=bool)
        kept = feasible & wanted
        return np.where(kept.any(axis=1, keepdims=True), kept, feasible)

    def _target(self, limits: Limits) -> float | None:
        return self.accuracy_target if limits.accuracy_target is None else limits.accuracy_target

    def _reason(self, forecast: Forecast, picked: int, limits: Limits) -> str:
        if forecast.quality is None:
            return "no predictions for this request: the safe arm"
        if forecast.in_distribution is not None and not forecast.in_distribution[0]:
            if forecast.arms[picked] == self.safe_arm:
                return "unlike anything seen: the safe arm"
            return "unlike anything seen and the safe arm does not fit: the most accurate that does"
        target = self._target(limits)
        quality = forecast.quality[0, picked]
        if target is None:
            price = f"{self.shadow_price_per_usd:g} right answers per USD"
            return f"the best predicted quality ({quality:.2f}) net of cost at {price}"
        if quality >= target:
            return f"the cheapest arm predicted ({quality:.2f}) to reach {target:g}"
        return f"no arm is predicted to reach {target:g}: the most accurate ({quality:.2f})"
