"""Intervals that may be looked at after every value miss the mean no more often than they say."""

from __future__ import annotations

import numpy as np
import pytest

from policies.sequential import bounded_mean, unbounded_mean

DELTA = 0.1


@pytest.mark.parametrize("mean", [0.05, 0.5, 0.9])
def test_at_every_look_together_a_bounded_mean_is_held(mean: float) -> None:
    """200 streams of 400 coins, looked at to the end: what was ever excluded stays excluded."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        low, high = bounded_mean((rng.random(400) < mean).astype(float), DELTA)
        missed += not low <= mean <= high
    assert missed / 200 <= DELTA
    assert high - low < 0.25


def test_costs_are_held_too() -> None:
    """200 streams of skewed values, each looked at from 30 values on."""
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(200):
        values = rng.exponential(2.0, 400)
        looks = [unbounded_mean(values[:n], DELTA) for n in range(30, 401, 10)]
        missed += any(not low <= 2.0 <= high for low, high in looks)
    assert missed / 200 <= DELTA + 0.04


def test_without_values_nothing_is_excluded() -> None:
    """The bounds are those of what can be."""
    assert bounded_mean(np.zeros(0), DELTA) == (0.0, 1.0)
    assert unbounded_mean(np.ones(29), DELTA) == (-np.inf, np.inf)
