"""The utility rule and its exceptions, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cost_models.types import Arm
from policies.base import Forecast, Limits
from policies.fixed import SafePolicy
from policies.utility import Mixture, UtilityPolicy

CHEAP, MIDDLE, DEAR = (Arm(name, "direct") for name in ("cheap", "middle", "dear"))
ARMS = (CHEAP, MIDDLE, DEAR)


def forecast(*, familiar: bool = True, quality: tuple[float, ...] = (0.5, 0.8, 0.9)) -> Forecast:
    """One query: dearer arms are better."""
    return Forecast(
        ARMS,
        np.array([[0.001, 0.01, 0.1]]),
        np.array([quality]),
        in_distribution=np.array([familiar]),
    )


@pytest.mark.parametrize(
    ("policy", "limits", "arm", "said"),
    [
        pytest.param(UtilityPolicy(0, CHEAP), Limits(), DEAR, "net of cost", id="price 0"),
        pytest.param(UtilityPolicy(10, CHEAP), Limits(), MIDDLE, "net of cost", id="price 10"),
        pytest.param(UtilityPolicy(100, CHEAP), Limits(), CHEAP, "net of cost", id="price 100"),
        pytest.param(
            UtilityPolicy(0, CHEAP), Limits(0.75), MIDDLE, "reach 0.75", id="a request's target"
        ),
        pytest.param(
            UtilityPolicy(99, CHEAP), Limits(0.99), DEAR, "most accurate", id="out of reach"
        ),
        pytest.param(
            UtilityPolicy(0, CHEAP, accuracy_target=0.4),
            Limits(),
            CHEAP,
            "reach 0.4",
            id="the policy's own target",
        ),
        pytest.param(
            UtilityPolicy(0, CHEAP), Limits(max_cost_usd=0.05), MIDDLE, "net", id="a cost cap"
        ),
        pytest.param(
            UtilityPolicy(0, CHEAP, left_out=frozenset({DEAR})),
            Limits(),
            MIDDLE,
            "net",
            id="an arm left out",
        ),
        pytest.param(
            UtilityPolicy(0, CHEAP, left_out=frozenset({DEAR})),
            Limits(0.85),
            DEAR,
            "reach",
            id="a request's target may need an arm left out",
        ),
        pytest.param(
            UtilityPolicy(0, CHEAP, left_out=frozenset(ARMS)),
            Limits(),
            DEAR,
            "net",
            id="all left out",
        ),
    ],
)
def test_the_rule_picks(policy: UtilityPolicy, limits: Limits, arm: Arm, said: str) -> None:
    """Without exploring, the arm that arithmetic says, and the reason in words."""
    greedy = UtilityPolicy(
        policy.shadow_price_per_usd,
        policy.safe_arm,
        0.0,
        policy.accuracy_target,
        policy.left_out,
    )
    decision = greedy.choose(forecast(), limits, np.random.default_rng(0))
    assert decision.arm == arm
    assert decision.propensity == 1.0
    assert said in decision.reason


def test_a_query_unlike_anything_seen_goes_to_the_safe_arm() -> None:
    """Also when the rule would pick another; the reason says so."""
    policy = UtilityPolicy(100, MIDDLE, epsilon=0)
    decision = policy.choose(forecast(familiar=False), Limits(), np.random.default_rng(0))
    assert decision.arm == MIDDLE
    assert "safe arm" in decision.reason


def test_without_the_safe_arm_a_strange_query_goes_to_the_most_accurate() -> None:
    """The safe arm is too dear for this request: the best that fits."""
    policy = UtilityPolicy(1000, DEAR, epsilon=0)
    limits = Limits(max_cost_usd=0.05)
    decision = policy.choose(forecast(familiar=False), limits, np.random.default_rng(0))
    assert decision.arm == MIDDLE
    assert "does not fit" in decision.reason


def test_without_predictions_the_safe_arm_serves() -> None:
    """A forecast that nothing was fitted for."""
    plain = Forecast(ARMS, np.array([[0.001, 0.01, 0.1]]))
    decision = UtilityPolicy(0, MIDDLE, 0).choose(plain, Limits(), np.random.default_rng(0))
    assert decision.arm == MIDDLE


def test_equal_arms_go_to_the_cheaper() -> None:
    """At a shadow price of 0 equal predictions are decided by cost."""
    tied = forecast(quality=(0.7, 0.9, 0.9))
    assert UtilityPolicy(0, CHEAP, 0).choose(tied, Limits(), np.random.default_rng(0)).arm == MIDDLE


def test_exploring_spreads_evenly_over_feasible_arms() -> None:
    """Propensities by hand: 0.3 / 3 each, the rest to the preferred."""
    probability = UtilityPolicy(0, CHEAP, epsilon=0.3).probability(forecast(), Limits())
    assert probability[0] == pytest.approx([0.1, 0.1, 0.8])
    safe = SafePolicy(CHEAP, epsilon=0.2).probability(forecast(), Limits(max_cost_usd=0.05))
    assert safe[0] == pytest.approx([0.9, 0.1, 0.0])


def test_an_explored_arm_says_so() -> None:
    """Some draw of many is not the preferred arm, and its reason names chance."""
    rng = np.random.default_rng(0)
    policy = UtilityPolicy(0, CHEAP, epsilon=1.0)
    reasons = {policy.choose(forecast(), Limits(), rng).reason for _ in range(20)}
    assert "explored at random" in reasons


def test_a_mixture_decides_its_share_of_queries_by_its_own_price() -> None:
    """By hand: 0.75 for the arm of price 100, 0.25 for that of price 0, less exploration."""
    policy = UtilityPolicy(100, CHEAP, epsilon=0.3, mixture=Mixture(0.0, 0.25))
    probability = policy.probability(forecast(), Limits())
    assert probability[0] == pytest.approx([0.1 + 0.7 * 0.75, 0.1, 0.1 + 0.7 * 0.25])
    rng = np.random.default_rng(0)
    decisions = [policy.choose(forecast(), Limits(), rng) for _ in range(400)]
    dear = [decision for decision in decisions if decision.arm == DEAR]
    assert len(dear) == pytest.approx(400 * 0.275, abs=4 * np.sqrt(400 * 0.275 * 0.725))
    assert [decision.propensity for decision in dear] == pytest.approx([0.275] * len(dear))
    assert {decision.reason for decision in dear} == {
        "the best predicted quality (0.90) net of cost at 0 right answers per USD"
    }


def test_a_target_leaves_a_mixture_nothing_to_decide() -> None:
    """The cheapest arm that reaches it, whatever the price."""
    policy = UtilityPolicy(100, CHEAP, epsilon=0, mixture=Mixture(0.0, 0.5))
    assert policy.probability(forecast(), Limits(0.75))[0] == pytest.approx([0, 1, 0])


@pytest.mark.parametrize(("price", "share"), [(-1.0, 0.5), (np.inf, 0.5), (1.0, 0.0), (1.0, 1.0)])
def test_impossible_mixtures_are_refused(price: float, share: float) -> None:
    """A price of at least 0 and a share that leaves something to both."""
    with pytest.raises(ValueError, match="got"):
        Mixture(price, share)


@pytest.mark.parametrize(
    ("price", "epsilon"), [(-1.0, 0.1), (float("inf"), 0.1), (1.0, -0.1), (1.0, 1.1)]
)
def test_impossible_parameters_are_refused(price: float, epsilon: float) -> None:
    """A policy is valid at birth."""
    with pytest.raises(ValueError, match="got"):
        UtilityPolicy(price, CHEAP, epsilon)
