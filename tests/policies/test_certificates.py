"""Promises are kept as often as they say, and what cannot be promised is not."""

from __future__ import annotations

import numpy as np
import pytest

from policies.certificates import certify, lower_bound, needed, p_value, stricter

DELTA = 0.1


def answers(right: int, n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """``right`` ones among ``n``."""
    return np.array([1.0] * right + [0.0] * (n - right))


def test_the_p_value_of_ten_right_answers_by_hand() -> None:
    """No error in ten with a fifth allowed: .8 ** 10; one error: .8**10 + 10 * .2 * .8**9."""
    assert p_value(answers(10, 10), 0.8) == pytest.approx(0.8**10)
    assert p_value(answers(9, 10), 0.8) == pytest.approx(0.8**10 + 2.0 * 0.8**9)
    assert p_value(np.zeros(0), 0.8) == 1.0


def test_graded_answers_use_a_bound_that_is_never_more_hopeful() -> None:
    """Hoeffding-Bentkus on qualities between 0 and 1 is above the exact value of whole ones."""
    whole = answers(90, 100)
    graded = whole.copy()
    graded[0], graded[-1] = 0.5, 0.5
    assert p_value(graded, 0.8) >= p_value(whole, 0.8)
    assert p_value(np.full(400, 0.9), 0.8) < 0.001
    assert p_value(np.full(400, 0.7), 0.8) == 1.0


@pytest.mark.parametrize("right", [answers(85, 100), np.full(60, 0.75)], ids=["whole", "graded"])
def test_the_lower_bound_is_the_highest_target_that_passes(
    right: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    """Just below it passes, just above it does not."""
    bound = lower_bound(right, DELTA)
    assert p_value(right, bound - 1e-6) <= DELTA < p_value(right, bound + 1e-6)


def test_the_walk_ends_at_the_first_policy_that_fails() -> None:
    """A cheaper policy that happens to pass after one that failed is not certified."""
    walked = [answers(97, 100), answers(96, 100), answers(80, 100), answers(99, 100)]
    found = certify(walked, 0.9, DELTA)
    assert found.given
    assert found.index == 1
    assert found.accuracy == 0.96
    assert str(found).startswith("certified on 100 queries")


def test_what_is_missing_is_told_and_would_do() -> None:
    """93 of 100 do not certify 90 %; as many more as it says, at the same accuracy, would."""
    found = certify([answers(93, 100)], 0.92, DELTA)
    assert not found.given
    assert found.index is None
    assert found.needed_queries is not None
    n = found.needed_queries
    assert p_value(answers(int(np.floor(0.93 * n)), n), 0.92) <= stricter(DELTA)
    fewer = n // 2
    assert p_value(answers(int(np.floor(0.93 * fewer)), fewer), 0.92) > stricter(DELTA)
    assert "more graded queries" in str(found)
    hopeless = certify([answers(80, 100)], 0.9, DELTA)
    assert hopeless.needed_queries is None
    assert "would not help" in str(hopeless)
    assert needed(np.zeros(0), 0.9, DELTA) is None


def test_a_promise_is_broken_no_more_often_than_delta() -> None:
    """400 samples of 150 queries from policies of known accuracy: at most delta and its noise."""
    rng = np.random.default_rng(1)
    truth = [0.95, 0.93, 0.91, 0.9, 0.89, 0.88]
    broken = given = 0
    for _ in range(400):
        ease = rng.random(150)
        found = certify([(ease < p).astype(float) for p in truth], 0.895, DELTA)
        given += found.given
        broken += found.index is not None and truth[found.index] < 0.895
    assert given > 100
    assert broken / 400 <= DELTA + 2 * np.sqrt(DELTA * 0.9 / 400)


def test_a_batch_as_large_as_the_tests_keeps_the_promise_too() -> None:
    """Halves of one set of queries: luck in one is bad luck in the other, at any true accuracy."""
    rng = np.random.default_rng(3)
    broken = {}
    for right in (1780, 1800, 1820, 1840):
        everybody = answers(right, 2000)
        lost = 0
        for _ in range(400):
            halves = rng.permutation(everybody).reshape(2, 1000)
            lost += certify(halves[:1], 0.9, DELTA).given and halves[1].mean() < 0.9
        broken[right] = lost / 400
    assert max(broken.values()) <= DELTA + 2 * np.sqrt(DELTA * 0.9 / 400), broken
    assert stricter(0.1) == pytest.approx(0.035, abs=0.001)
    assert stricter(0.6) == 0.6
