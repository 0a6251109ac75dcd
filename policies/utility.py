"""The utility policy: the arm with the best predicted quality net of what it costs.

The plug-in rule of CARROT (Somerstep et al. 2025, arXiv:2502.03261): argmax p - lambda * c. Where
few arms are worth having, no one lambda meets a budget: the optimum of the linear program under
one budget is then a mixture of the rule at two neighbouring lambdas (Everett 1963, on gaps).
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
class Mixture:
    """Another shadow price, by which a ``share`` in (0, 1) of the queries is decided."""

    shadow_price_per_usd: float
    share: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.shadow_price_per_usd < np.inf or not 0.0 < self.share < 1.0:
            msg = f"a mixture has a price of at least 0 and a share in (0, 1), got {self}"
            raise ValueError(msg)

    def to_dict(self) -> dict[str, float]:
        """Give plain values for JSON."""
        return {"shadow_price_per_usd": self.shadow_price_per_usd, "share": self.share}


@dataclass(frozen=True, slots=True)
class UtilityPolicy:
    """Maximise ``quality - shadow_price_per_usd * cost_usd`` over feasible arms, exploring a bit.

    ``shadow_price_per_usd`` >= 0 is how many right answers one USD has to buy. A request's
    accuracy target, or else ``accuracy_target``, replaces that rule by: the cheapest arm
    predicted to reach it, the most accurate if none does. A query unlike anything seen goes to
    ``safe_arm`` (the most accurate feasible arm where that is not feasible). ``epsilon`` in
    [0, 1] is the share of uniform picks: above 0 it keeps logged decisions reusable. Arms in
    ``left_out`` are only explored, unless nothing else is feasible or a request has a target.
    With a ``gate``, arms other than ``safe_arm`` are picked only where they are predicted to be
    right with at least that probability, whatever the target; above 1 it lets nothing through.
    Only exploration, or a safe arm that is not feasible, passes it by. With a ``floor``, arms
    predicted below it are not picked while others reach it, nor any but the most accurate where
    none does; a request's own target takes its place. With a ``mixture``, its
    price takes the place of ``shadow_price_per_usd`` for the mixture's share of queries, drawn at
    random; a target leaves it nothing to decide.
    """

    shadow_price_per_usd: float
    safe_arm: Arm
    epsilon: float = 0.02
    accuracy_target: float | None = None
    left_out: frozenset[Arm] = frozenset()
    gate: float | None = None
    mixture: Mixture | None = None
    floor: float | None = None
    version: str = "utility"

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not 0.0 <= self.shadow_price_per_usd < np.inf:
            msg = f"a shadow price is finite and at least 0, got {self.shadow_price_per_usd}"
            raise ValueError(msg)
        if self.gate is not None and not 0.0 <= self.gate < np.inf:
            msg = f"a gate is finite and at least 0, got {self.gate}"
            raise ValueError(msg)

    def probability(self, forecast: Forecast, limits: Limits) -> NDArray[np.float64]:
        """Give the probability of each arm, shape (n, n_arms)."""
        feasible = forecast.feasible(limits)
        return self._mixed(forecast, feasible, limits)[1]

    def choose(self, forecast: Forecast, limits: Limits, rng: np.random.Generator) -> Decision:
        """Choose for one query; NoAffordableArmError if no arm is feasible."""
        feasible = forecast.feasible(limits)
        preferred, probability = self._mixed(forecast, feasible, limits)
        picked, propensity = draw(forecast, probability, rng)
        price = next((price for price, arm in preferred if picked == arm[0]), None)
        if price is not None:
            reason = self._reason(forecast, picked, limits, price)
        else:
            reason = "explored at random"
        return decision(forecast, picked, propensity, self.version, reason)

    def _mixed(
        self, forecast: Forecast, feasible: NDArray[np.bool_], limits: Limits
    ) -> tuple[list[tuple[float, NDArray[np.intp]]], NDArray[np.float64]]:
        """Give what the rule prefers at each of its prices, and the probability of each arm."""
        own, mixture = self.shadow_price_per_usd, self.mixture
        preferred = self._preferred(forecast, feasible, limits, own)
        probability = explore(preferred, feasible, self.epsilon)
        if mixture is None:
            return [(own, preferred)], probability
        price, share = mixture.shadow_price_per_usd, mixture.share
        instead = self._preferred(forecast, feasible, limits, price)
        probability *= 1.0 - share
        probability += share * explore(instead, feasible, self.epsilon)
        return [(own, preferred), (price, instead)], probability

    def valued(self, forecast: Forecast) -> NDArray[np.float64]:
        """Give the quality that the rule takes for each arm's, shape (n, n_arms)."""
        if forecast.quality is None:
            msg = "nothing was predicted of these queries"
            raise ValueError(msg)
        return forecast.quality

    def preferred(
        self, forecast: Forecast, feasible: NDArray[np.bool_], limits: Limits
    ) -> NDArray[np.intp]:
        """Give the number of the arm that the rule prefers at its own price, shape (n,).

        0 where none is feasible; without predictions the safe arm.
        """
        return self._preferred(forecast, feasible, limits, self.shadow_price_per_usd)

    def _preferred(
        self,
        forecast: Forecast,
        feasible: NDArray[np.bool_],
        limits: Limits,
        price_per_usd: float,
    ) -> NDArray[np.intp]:
        cost_usd, quality = forecast.cost_usd, forecast.quality
        if quality is None:
            return prefer(self.safe_arm, forecast, feasible, dearest(cost_usd, feasible))
        target = self._target(limits)
        own_target = limits.accuracy_target is not None
        kept = feasible if own_target else self._kept(forecast, feasible)
        kept = self._let_through(forecast, kept, quality)
        if not own_target:
            kept = self._above_floor(forecast, kept, quality)
        best = first_best(quality, cost_usd, kept)
        if target is None:
            chosen = first_best(quality - price_per_usd * cost_usd, cost_usd, kept)
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

    def _let_through(
        self, forecast: Forecast, kept: NDArray[np.bool_], quality: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Keep what passes the gate and the safe arm; all where that leaves nothing."""
        if self.gate is None:
            return kept
        safe = np.array([arm == self.safe_arm for arm in forecast.arms], dtype=bool)
        through = kept & ((quality >= self.gate) | safe)
        return np.where(through.any(axis=1, keepdims=True), through, kept)

    def _above_floor(
        self, forecast: Forecast, kept: NDArray[np.bool_], quality: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Keep what reaches the floor; the most accurate alone where that leaves nothing."""
        if self.floor is None:
            return kept
        reaching = kept & (quality >= self.floor)
        best = first_best(quality, forecast.cost_usd, kept)
        alone = kept & (np.arange(kept.shape[1]) == best[:, None])
        return np.where(reaching.any(axis=1, keepdims=True), reaching, alone)

    def _target(self, limits: Limits) -> float | None:
        return self.accuracy_target if limits.accuracy_target is None else limits.accuracy_target

    def _reason(self, forecast: Forecast, picked: int, limits: Limits, price_per_usd: float) -> str:
        if forecast.quality is None:
            return "no predictions for this request: the safe arm"
        if forecast.in_distribution is not None and not forecast.in_distribution[0]:
            if forecast.arms[picked] == self.safe_arm:
                return "unlike anything seen: the safe arm"
            return "unlike anything seen and the safe arm does not fit: the most accurate that does"
        target = self._target(limits)
        quality = forecast.quality[0, picked]
        if target is None:
            price = f"{price_per_usd:g} right answers per USD"
            above = "" if self.floor is None else f", not below {self.floor:g}"
            return f"the best predicted quality ({quality:.2f}) net of cost at {price}{above}"
        if quality >= target:
            return f"the cheapest arm predicted ({quality:.2f}) to reach {target:g}"
        return f"no arm is predicted to reach {target:g}: the most accurate ({quality:.2f})"
