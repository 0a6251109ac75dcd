"""Pacing: a budget that would run out lasts to the end of its window, and a floor holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.types import Arm
from policies.base import Forecast, Limits
from policies.group_relative import Correction, learned_policy
from policies.pacing import WORTH_OF_DEAREST, Pacing
from policies.utility import Mixture, UtilityPolicy

ARMS = tuple(Arm(name, "direct") for name in ("cheap", "middle", "dear"))
COST_USD = np.array([0.0002, 0.002, 0.02])
STRENGTH = np.array([0.0, 1.5, 3.0])
N = 6_000
AT_ONCE = 10
"""Requests between two looks at what was spent."""

POLICY = UtilityPolicy(1.0, ARMS[2], epsilon=0.02)
SHARES = st.floats(0, 1)


@dataclass
class Period:
    """What came of one window: when the money was gone, in shares of it, and how good it was."""

    ended: float
    spent_share: float
    quality: float
    n_served: int


def day(
    policy: UtilityPolicy, limit_usd: float, pacing: Pacing | None, *, busy: bool = False
) -> Period:
    """Serve a window of queries of all kinds, coming evenly, or all in its middle third."""
    rng = np.random.default_rng(0)
    hardness = rng.normal(1.0, 1.5, N)
    quality = 1.0 / (1.0 + np.exp(hardness[:, None] - STRENGTH))
    low, high = (1 / 3, 2 / 3) if busy else (0.0, 1.0)
    at = np.sort(rng.uniform(low, high, N))
    spent, right = 0.0, []
    for start in range(0, N, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        planned = float(at[start])
        if pacing is not None and pacing.hours is not None:
            planned = min(1.0, max(0.0, (planned - 1 / 3) * 3))
        served = policy
        if pacing is not None:
            factor = pacing.factor(spent / limit_usd, planned)
            served = pacing.applied(policy, factor, COST_USD.max())
        n = len(quality[some])
        forecast = Forecast(ARMS, np.tile(COST_USD, (n, 1)), quality[some])
        probability = served.probability(forecast, Limits())
        for p, q, moment in zip(probability, quality[some], at[some], strict=True):
            picked = rng.choice(len(ARMS), p=p)
            cost = COST_USD[picked] * rng.lognormal(-0.125, 0.5)
            if spent + cost > limit_usd:
                return Period(float(moment), spent / limit_usd, float(np.mean(right)), len(right))
            spent += cost
            right.append(q[picked])
    return Period(1.0, spent / limit_usd, float(np.mean(right)), len(right))


def test_a_budget_lasts_to_the_end_where_it_ran_out_before() -> None:
    """And pays for better answers in all than serving the first half well and the rest not."""
    limit_usd = 30.0
    before = day(POLICY, limit_usd, None)
    paced = day(POLICY, limit_usd, Pacing())
    assert before.ended < 0.6
    assert paced.ended > 0.98
    assert 0.95 < paced.spent_share <= 1.0
    assert paced.quality * paced.n_served > 1.2 * before.quality * before.n_served


@pytest.mark.parametrize("limit_usd", [6.0, 15.0, 45.0], ids=str)
@pytest.mark.parametrize("price", [0.0, 0.1, 5.0], ids=str)
def test_it_lasts_whatever_the_price_began_at(limit_usd: float, price: float) -> None:
    """Also from nothing, and where a hundred times the price is needed."""
    paced = day(replace(POLICY, shadow_price_per_usd=price), limit_usd, Pacing())
    assert paced.ended > 0.97
    assert paced.spent_share > 0.93


def test_a_profile_of_the_day_is_followed() -> None:
    """Where all comes in the middle third, an even plan keeps money back that nobody asks for."""
    even = day(POLICY, 15.0, Pacing(), busy=True)
    known = day(POLICY, 15.0, Pacing(hours=(0.0,) * 8 + (1.0,) * 8 + (0.0,) * 8), busy=True)
    assert even.spent_share < 0.75
    assert known.spent_share > 0.95
    assert known.ended > 0.64
    assert known.quality > even.quality


def test_a_target_that_ranks_above_the_budget_holds() -> None:
    """Quality stays above it though the money goes; ranked below, it gives way and money lasts."""
    target, limit_usd = 0.75, 12.0
    policy = replace(POLICY, accuracy_target=target, epsilon=0.0)
    kept = day(policy, limit_usd, Pacing(keep_accuracy_target=True))
    lowered = day(policy, limit_usd, Pacing())
    assert kept.quality >= target
    assert kept.ended < 0.5
    assert lowered.ended > 0.97
    assert lowered.quality < target
    enough = day(policy, 90.0, Pacing(keep_accuracy_target=True))
    unpaced = day(replace(policy, accuracy_target=None), 90.0, None)
    assert unpaced.ended < 0.9
    assert enough.ended > 0.97
    assert enough.quality >= target


def test_within_the_plan_nothing_changes() -> None:
    """Money to spare is not spent for its own sake, unless a lower price is allowed."""
    plain = day(POLICY, 1000.0, None)
    assert day(POLICY, 1000.0, Pacing()) == plain
    assert day(POLICY, 1000.0, Pacing(min_factor=0.01)).quality > plain.quality


@given(spent=st.floats(0, 3), planned=SHARES, more=SHARES)
def test_the_factor_is_bounded_and_grows_with_what_was_spent(
    spent: float, planned: float, more: float
) -> None:
    """1 on the plan, never outside its bounds."""
    pacing = Pacing(gain=7, min_factor=0.5, max_factor=50)
    factor = pacing.factor(spent, planned)
    assert 0.5 * (1 - 1e-9) <= factor <= 50 * (1 + 1e-9)
    assert pacing.factor(spent + more, planned) >= factor
    assert pacing.factor(planned, planned) == 1.0


def test_all_prices_of_a_policy_are_paced_and_its_version_says_so() -> None:
    """A mixture keeps its share; a target is lowered in step; what has no price gets one."""
    mixed = replace(POLICY, mixture=Mixture(4.0, 0.3), version="p")
    paced = Pacing().applied(mixed, 3.0, 0.02)
    assert (paced.shadow_price_per_usd, paced.mixture) == (3.0, Mixture(12.0, 0.3))
    assert paced.version == "p:paced"
    aimed = replace(POLICY, accuracy_target=0.8)
    law = Pacing(max_factor=100)
    assert law.applied(aimed, 10.0, 1.0).accuracy_target == pytest.approx(0.4)
    assert law.applied(aimed, 100.0, 1.0).accuracy_target == pytest.approx(0.0)
    free = replace(POLICY, shadow_price_per_usd=0.0)
    assert law.applied(free, 2.0, 0.02).shadow_price_per_usd == 2 * WORTH_OF_DEAREST / 0.02
    assert law.applied(free, 0.5, 0.02) is free
    only_target = replace(free, accuracy_target=0.8)
    assert replace(law, keep_accuracy_target=True).applied(only_target, 9.0, 0.02) is only_target


def test_a_learned_policy_keeps_the_floor_too() -> None:
    """What is drawn reaches it, but for what is explored; the most accurate where none does."""
    learned = Correction(ARMS, np.zeros((2, 1, 3)), 1.0, 10.0, temperature=0.05)
    policy = replace(learned_policy(replace(POLICY, epsilon=0.0), learned), accuracy_target=0.6)
    paced = Pacing(keep_accuracy_target=True).applied(policy, 1000.0, 0.02)
    quality = np.array([[0.5, 0.65, 0.9], [0.1, 0.2, 0.3]])
    cost_usd = np.tile(COST_USD, (2, 1))
    forecast = Forecast(ARMS, cost_usd, quality, features=np.zeros((2, 1)))
    probability = paced.probability(forecast, Limits())
    assert probability[0, 0] == 0.0
    assert probability[0, 1] > 0.99
    assert probability[1].tolist() == [0.0, 0.0, 1.0]
    own = paced.probability(forecast, Limits(accuracy_target=0.4))
    assert own[0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("wrong", [{"gain": 0}, {"min_factor": 2}, {"max_factor": 0.5}], ids=str)
def test_a_law_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """At birth."""
    with pytest.raises(ValueError, match="pacing has a gain above 0"):
        Pacing(**wrong)  # type: ignore[arg-type] - fields by name
