"""Cascades expected from their stages: against every outcome there is, and at the extremes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.judged import Trust, expected_run

chance = st.floats(0.0, 1.0)
stages = st.lists(
    st.tuples(chance, st.floats(0.0, 9.0), st.none() | st.builds(Trust, chance, chance)),
    min_size=1,
    max_size=4,
)
EXACT = Trust(1.0, 0.0)


def enumerated(run: list[tuple[float, float, Trust | None]]) -> tuple[float, float]:
    """Sum over every pattern of right answers and of the judge's words."""
    right = spent = 0.0
    n = len(run)
    for good, stop in product(product((0, 1), repeat=n), repeat=2):
        weight = 1.0
        for (quality, _, trust), is_good, stops in zip(run, good, stop, strict=True):
            weight *= quality if is_good else 1.0 - quality
            rate = 0.0 if trust is None else trust.at_right if is_good else trust.at_wrong
            weight *= rate if stops else 1.0 - rate
        last = next((i for i in range(n - 1) if stop[i]), n - 1)
        cost = sum(usd for _, usd, _ in run[: last + 1])
        right += weight * good[last]
        spent += weight * cost
    return right, spent


@given(run=stages)
def test_the_expectation_is_the_sum_over_all_outcomes(
    run: list[tuple[float, float, Trust | None]],
) -> None:
    """Quality and cost, whatever the judge is like."""
    quality = np.array([[q for q, _, _ in run]])
    cost = np.array([[usd for _, usd, _ in run]])
    found = expected_run(quality, cost, [trust for _, _, trust in run])
    np.testing.assert_allclose([each[0] for each in found], enumerated(run), atol=1e-9)


def test_an_exact_judge_misses_only_what_no_stage_gets_right() -> None:
    """Each query by itself."""
    quality = np.array([[0.5, 0.5, 0.5], [1.0, 0.2, 0.1]])
    right, spent = expected_run(quality, np.ones((2, 3)), [EXACT] * 3)
    np.testing.assert_allclose(right, [0.875, 1.0])
    np.testing.assert_allclose(spent, [1.75, 1.0])


def test_a_judge_is_trusted_as_far_as_it_was_measured() -> None:
    """A coin before anything is known, except by definition; the shares in the end."""
    assert Trust.measured() == Trust(0.5, 0.5)
    exact = Trust.measured(exact=True)
    assert (exact.at_right, exact.at_wrong) == pytest.approx((1.0, 0.0), abs=0.02)
    many = Trust.measured(right=8000, right_trusted=6000, wrong=2000, wrong_trusted=200)
    assert (many.at_right, many.at_wrong) == pytest.approx((0.75, 0.1), abs=1e-3)
    caught = Trust.measured(wrong=1000, wrong_trusted=900, exact=True)
    assert caught.at_wrong > 0.8
