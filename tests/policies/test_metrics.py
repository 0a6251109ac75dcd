"""The figures of merit agree with cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from policies.metrics import (
    average_improvement,
    gap_recovery,
    hull,
    iso_quality_saving,
)


def test_gap_recovery_of_four_queries_by_hand() -> None:
    """Gains 1, 1, 0, 0 sent in that order: PGR 0, .5, 1, 1, 1 at shares 0, .25, .5, .75, 1.

    Trapezoids: .25 * (.25 + .75 + 1 + 1) = .75; half the gap at share .25, 80 % at .4.
    """
    score = np.array([4.0, 3.0, 2.0, 1.0])
    weak = np.array([0.0, 0.0, 1.0, 0.0])
    strong = np.array([1.0, 1.0, 1.0, 0.0])
    found = gap_recovery(score, weak, strong)
    assert found is not None
    assert found.apgr == pytest.approx(0.75)
    assert found.cpt50 == pytest.approx(0.25)
    assert found.cpt80 == pytest.approx(0.40)


def test_a_query_that_the_strong_arm_loses_counts_against_it() -> None:
    """Gains 1, 1, -1: PGR 0, 1, 2, 1; the area exceeds 1 as in the paper's oracle."""
    found = gap_recovery(
        np.array([3.0, 2.0, 1.0]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0])
    )
    assert found is not None
    assert found.apgr == pytest.approx((0.5 + 1.5 + 1.5) / 3)
    assert found.cpt80 == pytest.approx(0.8 / 3)


def test_equal_scores_are_a_random_mix_whatever_their_order() -> None:
    """One score for all: APGR 0.5 and CPTx = x, from either order of the rows."""
    rng = np.random.default_rng(0)
    weak, strong = rng.integers(0, 2, 40) * 0.5, rng.integers(1, 3, 40) * 0.5
    for order in (np.arange(40), np.arange(40)[::-1]):
        found = gap_recovery(np.zeros(40), weak[order], strong[order])
        assert found is not None
        assert found.apgr == pytest.approx(0.5)
        assert found.cpt50 == pytest.approx(0.5)
        assert found.cpt80 == pytest.approx(0.8)


def test_there_is_no_gap_to_recover_from_an_equal_arm() -> None:
    """Nothing is claimed where the strong arm is not better, or nobody asked."""
    same = np.array([1.0, 0.0])
    assert gap_recovery(np.array([1.0, 2.0]), same, same) is None
    assert gap_recovery(np.zeros(0), np.zeros(0), np.zeros(0)) is None


def test_the_hull_drops_points_below_a_mix_of_others() -> None:
    """(1, .5) and (3, .9) mix to .7 at 2, above the .6 there; (4, .8) is dearer and worse."""
    cost = np.array([2.0, 4.0, 1.0, 3.0])
    quality = np.array([0.6, 0.8, 0.5, 0.9])
    xs, ys = hull(cost, quality)
    assert xs.tolist() == [1.0, 3.0]
    assert ys.tolist() == [0.5, 0.9]


def test_aiq_is_the_mean_of_the_hull_over_the_range_of_costs() -> None:
    """Over [1, 5]: .7 on average to 3, then level at .9: (2 * .7 + 2 * .9) / 4 = .8."""
    cost, quality = np.array([1.0, 3.0]), np.array([0.5, 0.9])
    assert average_improvement(cost, quality, 1.0, 5.0) == pytest.approx(0.8)
    assert average_improvement(cost, quality, 1.0, 2.0) == pytest.approx(0.6)
    assert average_improvement(cost, quality, 2.0, 2.0) is None


def test_the_saving_is_against_the_plain_arm_at_its_accuracy() -> None:
    """The cheapest point with at least .8 costs 1.5 of 6: three quarters are saved."""
    cost, quality = np.array([1.0, 1.5, 5.0]), np.array([0.7, 0.8, 0.9])
    assert iso_quality_saving(cost, quality, 6.0, 0.8) == pytest.approx(0.75)
    assert iso_quality_saving(cost, quality, 4.0, 0.9) == pytest.approx(-0.25)
    assert iso_quality_saving(cost, quality, 6.0, 0.95) is None
    assert iso_quality_saving(cost, quality, 0.0, 0.5) is None
