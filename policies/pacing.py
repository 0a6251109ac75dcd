"""Pacing: the shadow price follows what was spent against a plan, so that a budget lasts.

Adaptive pacing moves a multiplier by what was spent beyond the plan (Balseiro and Gur 2019,
Management Science 65(9)); in its multiplicative form (dual mirror descent with entropy: Balseiro,
Lu and Mirrokni 2023, Operations Research 71(1)) the steps add up to the exponential of all that
was spent beyond it. So the price follows from the budget's counters alone: replicas agree on it
without a word, and a restart forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.utility import UtilityPolicy

LEAST_LEFT = 1e-9
WORTH_OF_DEAREST = 0.01
"""Share of a right answer that the dearest arm's cost is first held to be worth, where a policy
has no price of its own to multiply."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How the price follows spending.

    It is the policy's own price times a factor in [``min_factor``, ``max_factor``], with
    0 < min <= 1 <= max: the exponential of ``gain`` > 0 times what was spent beyond the plan, as
    a share of what the plan has left. The plan spreads evenly over the window, or by ``hours``,
    the weights of the 24 hours of a day. With ``keep_accuracy_target`` an accuracy target ranks
    above the budget: arms predicted below it are not picked however high the price is. Without,
    the target is lowered as the factor grows, to nothing at its greatest.
    """

    gain: float = 40.0
    min_factor: float = 1.0
    max_factor: float = 10_000.0
    keep_accuracy_target: bool = False
    hours: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not (self.gain > 0.0 and 0.0 < self.min_factor <= 1.0 <= self.max_factor < float("inf")):
            msg = f"pacing has a gain above 0 and 0 < min_factor <= 1 <= max_factor, got {self!r}"
            raise ValueError(msg)

    def factor(self, spent_share: float, planned_share: float) -> float:
        """Give the factor of the price where so much of the limit is spent, and so much planned.

        ``spent_share`` >= 0, ``planned_share`` in [0, 1]. A spending that holds the share beyond
        the plan still is on the limit when the window ends.
        """
        beyond = (spent_share - planned_share) / max(1.0 - planned_share, LEAST_LEFT)
        least, most = log(self.min_factor), log(self.max_factor)
        return exp(min(max(self.gain * beyond, least), most))

    def is_at_most(self, factor: float) -> bool:
        """Tell whether a factor is as high as it may be: pacing can do no more."""
        return factor >= self.max_factor * (1.0 - LEAST_LEFT)

    def applied(self, policy: UtilityPolicy, factor: float, dearest_usd: float) -> UtilityPolicy:
        """Give the policy at its price times ``factor``; its version says that it is paced.

        The policy itself where it has no price and only a target, which ranks above the budget, or
        spending is within the plan. ``dearest_usd`` is the highest expected cost among the arms of
        the request. A request's own accuracy target is left alone, as always.
        """
        version = f"{policy.version}:paced"
        target = policy.accuracy_target
        if target is not None and not self.keep_accuracy_target:
            kept = 1.0 - log(max(factor, 1.0)) / max(log(self.max_factor), LEAST_LEFT)
            return replace(policy, accuracy_target=target * kept, version=version)
        price = policy.shadow_price_per_usd
        if price <= 0.0:
            if target is not None or factor <= 1.0 or dearest_usd <= 0.0:
                return policy
            price = WORTH_OF_DEAREST / dearest_usd
        mixture = policy.mixture
        if mixture is not None:
            other = mixture.shadow_price_per_usd * factor
            mixture = replace(mixture, shadow_price_per_usd=other)
        return replace(
            policy,
            shadow_price_per_usd=price * factor,
            mixture=mixture,
            accuracy_target=None,
            floor=target,
            version=version,
        )
