"""Replay, baselines and calibration against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cost_models.types import Arm
from policies.errors import OutcomeError
from policies.evaluation import (
    baselines,
    bootstrap_lower,
    bootstrap_mean,
    bootstrap_means,
    calibration,
    replay,
)

CHEAP, MIDDLE, DEAR = (Arm(name, "direct") for name in ("cheap", "middle", "dear"))
ARMS = (CHEAP, MIDDLE, DEAR)
QUALITY = np.array([[1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0.0]])
COST = np.tile([1.0, 2.0, 10.0], (4, 1))


def test_replay_weighs_outcomes_by_choice_probabilities() -> None:
    """Half cheap, half dear: accuracy (1 + .5 + 0 + 0) / 4, cost 5.5, 5.5 / .375 per right one."""
    probability = np.tile([0.5, 0.0, 0.5], (4, 1))
    value = replay(probability, QUALITY, COST, ARMS)
    assert value.accuracy == pytest.approx(0.375)
    assert value.cost_usd_per_query == pytest.approx(5.5)
    assert value.usd_per_correct == pytest.approx(5.5 / 0.375)
    assert value.arm_shares == {"cheap|direct": 0.5, "dear|direct": 0.5}
    assert value.accuracy_interval[0] <= 0.375 <= value.accuracy_interval[1]


def test_nothing_right_has_no_cost_per_right_answer() -> None:
    """A cost per right answer without one is None, not infinity or zero."""
    value = replay(np.ones((2, 1)), np.zeros((2, 1)), np.ones((2, 1)), [CHEAP])
    assert value.usd_per_correct is None
    assert value.to_dict()["accuracy"] == 0.0


def test_baselines_are_what_their_names_say() -> None:
    """Worked by hand on four queries and three arms."""
    found = baselines(QUALITY, COST, ARMS)
    figures = {name: (v.accuracy, v.cost_usd_per_query) for name, v in found.items()}
    assert figures == {
        "cheapest": (0.25, 1.0),
        "largest": (0.5, 10.0),
        "best_fixed": (0.75, 2.0),
        "random_mix": (pytest.approx(0.5), pytest.approx(13 / 3)),
        "oracle": (0.75, (1 + 2 + 2 + 1) / 4),
    }


def test_baselines_do_not_depend_on_the_order_of_arms_or_queries() -> None:
    """Turned around, the figures are the same."""
    turned = baselines(QUALITY[::-1, ::-1], COST[::-1, ::-1], ARMS[::-1])
    for name, value in baselines(QUALITY, COST, ARMS).items():
        assert turned[name].accuracy == pytest.approx(value.accuracy)
        assert turned[name].cost_usd_per_query == pytest.approx(value.cost_usd_per_query)
        assert turned[name].arm_shares == pytest.approx(value.arm_shares)


def test_what_was_not_recorded_is_never_counted() -> None:
    """A fixed arm is valued where it was recorded; picking an unrecorded cell is an error."""
    quality = QUALITY.copy()
    quality[0, 1] = np.nan
    assert baselines(quality, COST, ARMS)["best_fixed"].n_queries == 3
    with pytest.raises(OutcomeError, match="without recorded"):
        replay(np.tile([0.0, 1.0, 0.0], (4, 1)), quality, COST, ARMS)


def test_probabilities_must_add_up_to_one() -> None:
    """A policy that loses part of its queries is not valued as if it had answered them."""
    with pytest.raises(OutcomeError, match="add up"):
        replay(np.full((4, 3), 0.2), QUALITY, COST, ARMS)


def test_no_priced_outcome_has_no_baselines() -> None:
    """Costs that nobody knows are an error, not zero."""
    with pytest.raises(OutcomeError, match="no arm"):
        baselines(QUALITY, np.full(COST.shape, np.nan), ARMS)


def test_a_lower_bound_is_as_far_below_the_mean_as_its_level_says() -> None:
    """At 31 % half a standard error, at 5 % 1.64 of them; a constant is its own bound."""
    values = np.stack([np.arange(400) % 2, np.ones(400)], axis=1)
    error = 0.5 / np.sqrt(400)
    for level, errors in ((0.31, 0.5), (0.05, 1.64)):
        low = bootstrap_lower(values, level, seed=0)
        assert low == pytest.approx([0.5 - errors * error, 1.0], abs=0.2 * error)


def test_columns_have_the_intervals_that_they_have_alone() -> None:
    """Rows are drawn with the same seed."""
    values = np.random.default_rng(0).normal(size=(50, 3))
    alone = [bootstrap_mean(column, 7) for column in values.T]
    np.testing.assert_allclose(bootstrap_means(values, 7), alone)


def test_the_bootstrap_is_seeded_and_about_as_wide_as_the_normal_interval() -> None:
    """For 400 coin flips the half-width is near 1.96 * 0.5 / 20."""
    flips = np.tile([0.0, 1.0], 200)
    low, high = bootstrap_mean(flips, seed=1)
    assert (low, high) == bootstrap_mean(flips, seed=1)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


def test_calibration_by_hand() -> None:
    """Four predictions, one bin each pair: Brier, ECE, AUC and log loss on paper."""
    p, q = np.array([0.8, 0.8, 0.2, 0.2]), np.array([1.0, 0.0, 0.0, 0.0])
    report = calibration(p, q)
    assert report.brier == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)
    assert report.ece == pytest.approx((2 * 0.3 + 2 * 0.2) / 4)
    assert report.auc == pytest.approx((1 + 1 + 0.5) / 3)
    assert report.log_loss == pytest.approx(-(math.log(0.8) * 3 + math.log(0.2)) / 4)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert report.constant_log_loss == pytest.approx(entropy)


def test_calibration_with_one_class_or_nothing() -> None:
    """A ranking needs two classes; a comparison needs an outcome. NaN is left out."""
    report = calibration(np.array([0.9, 0.5]), np.array([1.0, np.nan]))
    assert (report.n, report.auc) == (1, None)
    with pytest.raises(OutcomeError, match="no outcome"):
        calibration(np.array([0.9]), np.array([np.nan]))
