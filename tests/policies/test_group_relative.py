"""The group-relative policy learns what was planted, by the gradient that it says."""

from __future__ import annotations

import numpy as np
import pytest
from planted import ARMS, BEST, COST_USD, kind_of, planted

from policies.errors import OutcomeError
from policies.group_relative import (
    GroupSettings,
    _ascent,
    fit_group_relative,
    group_advantages,
    softmax,
)

SETTINGS = GroupSettings(shadow_price_per_usd=5.0, steps=150)


def matrices(n: int, seed: int = 0) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Texts, qualities and costs with columns in the order of ARMS."""
    table = planted(n, seed)
    columns = [table.arms.index(arm) for arm in ARMS]
    return table.queries, table.quality_matrix()[:, columns], table.matrix("cost_usd")[:, columns]


def test_advantages_of_a_group_by_hand() -> None:
    """Rewards 1, 0, 0, unknown: mean 1/3, deviation sqrt(2)/3; equal rewards have none."""
    reward = np.array([[1.0, 0.0, 0.0, np.nan], [0.5, 0.5, np.nan, np.nan]])
    advantage, seen = group_advantages(reward)
    root = np.sqrt(2.0)
    assert advantage[0] == pytest.approx([root, -1 / root, -1 / root, 0.0])
    assert advantage[1].tolist() == [0.0] * 4
    assert seen.tolist() == [[True, True, True, False], [True, True, False, False]]
    plain, _ = group_advantages(reward, by_spread=False)
    assert plain[0] == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0.0])


def test_the_gradient_is_that_of_the_objective() -> None:
    """Against differences of expected advantage less the divergence from the uniform policy."""
    rng = np.random.default_rng(0)
    logits, kl = rng.normal(size=(1, 4)), 0.3
    seen = np.array([[True, True, True, False]])
    advantage = np.where(seen, rng.normal(size=(1, 4)), 0.0)

    def objective(at: np.ndarray) -> float:
        p = softmax(at, seen)[seen]
        return float((p * advantage[seen]).sum() - kl * (p * np.log(p * 3)).sum())

    found = _ascent(softmax(logits, seen), advantage, seen, kl)
    for i in range(4):
        step = np.zeros((1, 4))
        step[0, i] = 1e-6
        slope = (objective(logits + step) - objective(logits - step)) / 2e-6
        assert found[0, i] == pytest.approx(slope, abs=1e-6)


def test_fresh_queries_go_to_the_planted_best_arm() -> None:
    """The most probable arm is the one that a policy who knew the truth would pick."""
    policy = fit_group_relative(*matrices(180), ARMS, SETTINGS)
    texts, _, _ = matrices(90, seed=6)
    probability = policy.probability(texts)
    assert probability.sum(axis=1) == pytest.approx(1.0)
    agreed = [
        ARMS[row.argmax()] == BEST[kind_of(t)] for row, t in zip(probability, texts, strict=True)
    ]
    assert np.mean(agreed) >= 0.95


def test_the_price_decides_what_an_answer_is_worth() -> None:
    """At a price that no answer is worth the dear arm is given up, by default it is not."""
    settings = GroupSettings(shadow_price_per_usd=20_000.0, steps=150)
    policy = fit_group_relative(*matrices(90), ARMS, settings)
    dear = max(range(3), key=lambda i: COST_USD[ARMS[i]])
    fresh = matrices(30, seed=2)[0]
    assert policy.probability(fresh)[:, dear].max() < 0.01
    free = fit_group_relative(*matrices(90), ARMS, GroupSettings(steps=150))
    assert free.probability(fresh)[:, dear].max() > 0.9


def test_the_order_of_queries_and_arms_does_not_matter() -> None:
    """Reversed rows and arms give the same probabilities."""
    texts, quality, cost = matrices(60)
    first = fit_group_relative(texts, quality, cost, ARMS, SETTINGS).probability(texts[:9])
    turned = fit_group_relative(
        texts[::-1], quality[::-1, ::-1], cost[::-1, ::-1], ARMS[::-1], SETTINGS
    ).probability(texts[:9])
    assert turned[:, ::-1] == pytest.approx(first, abs=1e-9)


def test_arms_that_are_not_offered_are_never_picked() -> None:
    """The others share what is left; without an offer there is nothing to pick."""
    policy = fit_group_relative(*matrices(30), ARMS, SETTINGS)
    offered = np.array([[True, False, True], [False, False, False]])
    probability = policy.probability(["one", "two"], offered)
    assert probability[0, 1] == 0.0
    assert probability[0].sum() == pytest.approx(1.0)
    assert probability[1].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "quality",
    [
        pytest.param(np.zeros((3, 3)), id="all wrong"),
        pytest.param(np.ones((3, 3)), id="all right"),
        pytest.param(np.array([[1.0, np.nan, np.nan]] * 3), id="one arm seen"),
    ],
)
def test_where_nothing_can_be_told_apart_all_arms_stay_alike(quality: np.ndarray) -> None:
    """No advantage, no change from the uniform policy."""
    policy = fit_group_relative(["a", "b", "c"], quality, np.zeros((3, 3)), ARMS, SETTINGS)
    assert policy.probability(["a"])[0] == pytest.approx([1 / 3] * 3)


def test_outcomes_must_be_there() -> None:
    """Nothing observed is an error."""
    with pytest.raises(OutcomeError, match="no outcome"):
        fit_group_relative(["a"], np.full((1, 3), np.nan), np.zeros((1, 3)), ARMS)
