"""Promises are kept as often as they say, and what cannot be promised is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from policies.certificates import certify, conformal_gate, lower_bound, needed, p_value

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
    walked = [answers(97, 100), answers(95, 100), answers(80, 100), answers(99, 100)]
    found = certify(walked, 0.9, DELTA)
    assert found.given
    assert found.index == 1
    assert found.accuracy == 0.95
    assert str(found).startswith("certified on 100 queries")


def test_what_is_missing_is_told_and_would_do() -> None:
    """93 of 100 do not certify 90 %; as many more as it says, at the same accuracy, would."""
    found = certify([answers(93, 100)], 0.92, DELTA)
    assert not found.given
    assert found.index is None
    assert found.needed_queries is not None
    n = found.needed_queries
    assert p_value(answers(int(np.floor(0.93 * n)), n), 0.92) <= DELTA
    fewer = n // 2
    assert p_value(answers(int(np.floor(0.93 * fewer)), fewer), 0.92) > DELTA
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


def test_a_gate_keeps_its_bound_and_lets_the_easy_half_through() -> None:
    """Errors of 5 % where the score is high and 50 % where it is low, 20 % allowed."""
    rng = np.random.default_rng(2)
    broken, shares = 0, []
    for _ in range(200):
        score = rng.random(600)
        wrong = (rng.random(600) < np.where(score > 0.5, 0.05, 0.5)).astype(float)
        gate = conformal_gate(score, wrong, 0.2, DELTA)
        assert gate is not None
        shares.append(gate.share)
        low = max(0.0, 0.5 - gate.threshold)
        truth = (0.5 * 0.05 + low * 0.5) / (0.5 + low) if gate.threshold < 0.5 else 0.05
        broken += truth > 0.2
    assert broken / 200 <= DELTA + 2 * np.sqrt(DELTA * 0.9 / 200)
    assert 0.6 < np.mean(shares) < 0.75


def test_a_gate_is_closed_where_nothing_can_be_promised() -> None:
    """All wrong, too few queries, or none."""
    assert conformal_gate(np.linspace(0, 1, 100), np.ones(100), 0.2, DELTA) is None
    assert conformal_gate(np.array([0.5, 0.6, 0.7]), np.zeros(3), 0.05, DELTA) is None
    assert conformal_gate(np.zeros(0), np.zeros(0), 0.2, DELTA) is None


def test_equal_scores_go_through_a_gate_together() -> None:
    """With one score for all there is one choice: everybody or nobody."""
    wrong = np.zeros(100)
    wrong[:10] = 1.0
    gate = conformal_gate(np.ones(100), wrong, 0.2, DELTA)
    assert gate is not None
    assert gate.share == 1.0
    assert gate.error == pytest.approx(0.1)
    assert stats.binom.cdf(10, 100, 0.2) <= DELTA
