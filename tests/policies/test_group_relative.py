"""The group-relative policy learns what was planted, by the gradient that it says."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from planted import ARMS, BEST, COST_USD, LARGE, ODD, SMALL, kind_of, planted

from cost_models.types import Arm
from policies.base import Forecast, Limits
from policies.group_relative import (
    Correction,
    GroupRelativePolicy,
    Groups,
    GroupSettings,
    ascent,
    fit_correction,
    group_advantages,
    learned_policy,
    position,
    softmax,
)
from policies.utility import UtilityPolicy

PRICES = (0.0, 1.0, 20_000.0)
BLIND = GroupSettings(temperature=0.05, kl=0.0, steps=150)
"""For groups of which nothing is predicted: all has to be learned."""
RULE = UtilityPolicy(5.0, LARGE, epsilon=0.0)
NEW = Arm("new", "direct")


def features(texts: tuple[str, ...]) -> np.ndarray:
    """Make a column of ones, and one that marks each kind."""
    kinds = [list(BEST).index(kind_of(text)) for text in texts]
    return np.hstack([np.ones((len(texts), 1)), np.eye(3)[kinds]])


def groups(n: int, seed: int = 0) -> Groups:
    """Planted outcomes in the order of ARMS; every arm is predicted to be right as often."""
    table = planted(n, seed)
    columns = [table.arms.index(arm) for arm in ARMS]
    cost = table.matrix("cost_usd")[:, columns]
    return Groups(
        features(table.queries),
        table.quality_matrix()[:, columns],
        cost,
        np.full(cost.shape, 0.5),
        cost,
    )


def forecast(texts: tuple[str, ...], **changed: object) -> Forecast:
    """Expect the arms to be alike in quality, at what they cost."""
    cost = np.tile([COST_USD[arm] for arm in ARMS], (len(texts), 1))
    made = Forecast(ARMS, cost, np.full(cost.shape, 0.5), features=features(texts))
    return replace(made, **changed)  # type: ignore[arg-type]  # a test's fields


@cache
def learned() -> Correction:
    """Learn from 240 planted queries."""
    return fit_correction(groups(240), ARMS, PRICES, BLIND)


def policy(price: float = 5.0, **changed: object) -> GroupRelativePolicy:
    """Make the policy at a price."""
    rule = replace(RULE, shadow_price_per_usd=price, **changed)  # type: ignore[arg-type]
    return learned_policy(rule, learned())


def test_advantages_of_a_group_by_hand() -> None:
    """Rewards 1, 0, 0 of arms alike: mean 1/3, deviation sqrt(2)/3; of one share, its own mean."""
    reward = np.array([[1.0, 0.0, 0.0, 9.0], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    share = np.array([[1 / 3] * 3 + [0.0], [0.5, 0.5, 0.0, 0.0], [0.75, 0.25, 0.0, 0.0]])
    spread = group_advantages(reward, share, by_spread=True)
    root = np.sqrt(2.0)
    assert spread[0] == pytest.approx([root, -1 / root, -1 / root, 0.0])
    assert spread[1].tolist() == [0.0] * 4
    plain = group_advantages(reward, share, by_spread=False)
    assert plain[0] == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0.0])
    assert plain[2] == pytest.approx([0.25, -0.75, 0.0, 0.0])


def test_the_gradient_is_that_of_the_objective() -> None:
    """Against differences of expected advantage, divergence from the reference, and entropy."""
    rng = np.random.default_rng(0)
    logits, kl, entropy = rng.normal(size=(1, 4)), 0.3, 0.2
    seen = np.array([[True, True, True, False]])
    reference = softmax(rng.normal(size=(1, 4)), seen)
    advantage = np.where(seen, rng.normal(size=(1, 4)), 0.0)

    def objective(at: np.ndarray) -> float:
        p, r = softmax(at, seen)[seen], reference[seen]
        divergence = (p * np.log(p / r)).sum()
        return float((p * advantage[seen]).sum() - (kl * divergence + entropy * p @ np.log(p)))

    found = ascent(softmax(logits, seen), advantage, reference, kl, entropy)
    for i in range(4):
        step = np.zeros((1, 4))
        step[0, i] = 1e-6
        slope = (objective(logits + step) - objective(logits - step)) / 2e-6
        assert found[0, i] == pytest.approx(slope, abs=1e-6)


def test_a_price_has_a_place_between_the_ends() -> None:
    """By its logarithm; beyond the ends it stays there."""
    found = [position(price, 1.0, 100.0) for price in (0.0, 1.0, 10.0, 100.0, 1e9)]
    assert found == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])
    assert position(3.0, 1.0, 1.0) == 0.0


def test_fresh_queries_go_to_the_planted_best_arm() -> None:
    """Though predictions tell nothing: what a policy who knew the truth would pick is learned."""
    texts = planted(90, seed=6).queries
    probability = policy().probability(forecast(texts), Limits())
    assert probability.sum(axis=1) == pytest.approx(1.0)
    agreed = [
        ARMS[row.argmax()] == BEST[kind_of(t)] for row, t in zip(probability, texts, strict=True)
    ]
    assert np.mean(agreed) == 1.0
    assert probability.max(axis=1).mean() > 0.9


def test_one_fit_serves_every_price() -> None:
    """At a price that no answer is worth the dear arm is given up; where cost is nothing, not."""
    fresh = forecast(planted(30, seed=2).queries)
    dear = ARMS.index(LARGE)
    assert policy(20_000.0).probability(fresh, Limits())[:, dear].max() < 0.01
    assert policy(0.0).probability(fresh, Limits())[:, dear].max() > 0.9


def test_the_order_of_arms_does_not_matter() -> None:
    """Reversed arms give the same probabilities, whatever the order in which they are offered."""
    data, texts = groups(60), planted(9, seed=1).queries
    first = fit_correction(data, ARMS, PRICES, BLIND)
    turned = fit_correction(
        Groups(
            data.x,
            data.quality[:, ::-1],
            data.cost_usd[:, ::-1],
            data.predicted,
            data.expected_usd[:, ::-1],
        ),
        ARMS[::-1],
        PRICES,
        BLIND,
    )
    found = [
        learned_policy(RULE, correction).probability(forecast(texts), Limits())
        for correction in (first, turned)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_limits_and_offers_leave_the_rest_in_proportion() -> None:
    """Infeasible and left out arms are never drawn; the others keep their odds."""
    asked = forecast(("Prove it: why?",))
    free = policy().probability(asked, Limits())[0]
    kept = policy().probability(asked, Limits(max_cost_usd=0.01))[0]
    large = ARMS.index(LARGE)
    assert kept[large] == 0.0
    assert kept == pytest.approx(np.where(kept > 0, free, 0.0) / (1.0 - free[large]))
    out = policy(left_out=frozenset({ODD})).probability(asked, Limits())[0]
    assert out[ARMS.index(ODD)] == 0.0
    none = policy().probability(forecast(("Prove",), offered=np.zeros((1, 3), bool)), Limits())
    assert none.tolist() == [[0.0, 0.0, 0.0]]


def test_exploration_is_mixed_in() -> None:
    """A share of the draws is uniform over what is feasible, left out arms among them."""
    asked, left_out = forecast(("Prove it: why?",)), frozenset({ODD})
    greedy = policy(left_out=left_out).probability(asked, Limits())
    mixed = policy(left_out=left_out, epsilon=0.3).probability(asked, Limits())
    assert mixed == pytest.approx(0.7 * greedy + 0.1)


def test_an_arm_that_was_not_there_goes_by_its_prediction() -> None:
    """Predicted to be right for nothing it is drawn; predicted to be wrong it is not."""
    texts = ("Translate",)
    arms = (*ARMS, NEW)
    cost = np.array([[COST_USD[arm] for arm in ARMS] + [0.0]])
    for expected, drawn in ((5.0, 1.0), (0.0, 0.0)):
        offered = Forecast(
            arms, cost, np.array([[0.5, 0.5, 0.5, expected]]), features=features(texts)
        )
        found = policy().probability(offered, Limits())[0, -1]
        assert found == pytest.approx(drawn, abs=0.01)


@pytest.mark.parametrize(
    ("changed", "limits"),
    [
        pytest.param({}, Limits(accuracy_target=0.4), id="a target of the request"),
        pytest.param({"in_distribution": np.array([False])}, Limits(), id="unlike anything seen"),
        pytest.param({"quality": None}, Limits(), id="without predictions"),
    ],
)
def test_the_utility_rule_decides_where_nothing_was_learned(
    changed: dict[str, object], limits: Limits
) -> None:
    """Its arm, its propensity and its reason."""
    asked = forecast(("Translate",), **changed)
    rule = replace(RULE, epsilon=0.2)
    both = [
        made.choose(asked, limits, np.random.default_rng(1))
        for made in (rule, learned_policy(rule, learned()))
    ]
    assert both[0] == both[1]


def test_a_decision_says_how_it_was_drawn() -> None:
    """The propensity is that of the softmax."""
    asked = forecast(("What is 2 plus 3?",))
    decision = policy().choose(asked, Limits(), np.random.default_rng(0))
    assert decision.arm == SMALL
    assert decision.propensity == policy().probability(asked, Limits())[0, ARMS.index(SMALL)] < 1.0
    assert "drawn with probability" in decision.reason
    assert "5 right answers per USD" in decision.reason


def test_predictions_without_their_features_are_refused() -> None:
    """Nothing is decided by half of what was learned."""
    with pytest.raises(ValueError, match="features"):
        policy().probability(forecast(("Prove",), features=None), Limits())


@pytest.mark.parametrize(
    "quality",
    [
        pytest.param(np.zeros((3, 3)), id="all wrong"),
        pytest.param(np.ones((3, 3)), id="all right"),
        pytest.param(np.array([[1.0, np.nan, np.nan]] * 3), id="one arm seen"),
        pytest.param(np.full((3, 3), np.nan), id="nothing seen"),
    ],
)
def test_where_nothing_can_be_told_apart_the_reference_stays(quality: np.ndarray) -> None:
    """No advantage, nothing learned."""
    free = np.zeros((3, 3))
    data = Groups(np.ones((3, 2)), quality, free, np.full((3, 3), 0.5), free)
    found = fit_correction(data, ARMS, (0.0,))
    assert np.abs(found.weights).max() < 1e-12


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.0}, {"temperature": np.inf}, {"kl": -1.0}, {"ridge": -1.0}]
)
def test_settings_are_possible_ones(changed: dict[str, float]) -> None:
    """Others are refused with what was given."""
    with pytest.raises(ValueError, match="got"):
        GroupSettings(**changed)  # type: ignore[arg-type]  # all are floats
