"""Exact expectations over samples are those of going through every set and order."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.combinatorics import chances_of_best, expected_highest, leading

QUALITY = {"a": 1.0, "b": 0.0, "c": 0.5}


def went_through(answers: str, k: int) -> tuple[list[float], list[float]]:
    """Vote in every order of the samples, ``-`` is silent, ties to the earliest."""
    chance, right = [0.0] * (k + 1), [0.0] * (k + 1)
    orders = list(permutations(answers))
    for order in orders:
        votes = Counter(answer for answer in order[:k] if answer != "-")
        most = max(votes.values(), default=0)
        winner = next((a for a in order if votes[a] == most), "-") if most else "-"
        chance[most] += 1 / len(orders)
        right[most] += QUALITY.get(winner, 0.0) / len(orders)
    return chance, right


@settings(max_examples=40, deadline=None)
@given(st.text("abc-", min_size=1, max_size=6), st.integers(1, 6))
def test_a_vote_is_that_of_all_orders(answers: str, k: int) -> None:
    """Chance and quality by the votes of the leading answer."""
    k = min(k, len(answers))
    counts = Counter(answers)
    names = [name for name in "abc" if counts[name]]
    found = leading([counts[n] for n in names], [QUALITY[n] for n in names], counts["-"], k)
    chance, right = went_through(answers, k)
    assert found.chance.tolist() == pytest.approx(chance)
    assert found.right.tolist() == pytest.approx(right)


def test_a_vote_worked_by_hand() -> None:
    """Of x x y three: two agree for certain. Of two: xx in 1 of 3, else a tie, half right."""
    three = leading([2, 1], [1.0, 0.0], 0, 3)
    assert three.chance.tolist() == pytest.approx([0, 0, 1, 0])
    assert three.right.tolist() == pytest.approx([0, 0, 1, 0])
    two = leading([2, 1], [1.0, 0.0], 0, 2)
    assert two.chance.tolist() == pytest.approx([0, 2 / 3, 1 / 3])
    assert two.right.tolist() == pytest.approx([0, 1 / 3, 1 / 3])


def test_forty_of_a_hundred_samples_sum_to_one() -> None:
    """Large numbers of sets stay exact enough."""
    found = leading([40, 30, 20], [1.0, 0.0, 0.0], 10, 40)
    assert found.chance.sum() == pytest.approx(1.0, abs=1e-12)
    assert found.right.sum() <= 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=6), st.integers(1, 6))
def test_the_best_of_k_is_that_of_all_orders(scores: list[float], k: int) -> None:
    """Chance of each sample, the earliest of equals taken; and the highest score itself."""
    k = min(k, len(scores))
    wins = np.zeros(len(scores))
    orders = list(permutations(range(len(scores))))
    for order in orders:
        wins[max(order[:k], key=lambda i: scores[i])] += 1 / len(orders)
    found = chances_of_best(np.array(scores), k)
    assert found.tolist() == pytest.approx(wins.tolist())
    highest = np.mean([max(drawn) for drawn in combinations(scores, k)])
    assert expected_highest(np.array(scores), k) == pytest.approx(highest)


def test_a_missing_score_is_below_every_other() -> None:
    """Of two samples, one without a score, the other is taken; both may be drawn alone."""
    score = np.array([np.nan, -5.0])
    assert chances_of_best(score, 2).tolist() == [0.0, 1.0]
    assert chances_of_best(score, 1).tolist() == [0.5, 0.5]
    assert np.isnan(expected_highest(score, 2))


@pytest.mark.parametrize("k", [0, 4])
def test_more_than_there_is_cannot_be_drawn(k: int) -> None:
    """Nor fewer than one."""
    with pytest.raises(ValueError, match="k must be in"):
        leading([2, 1], [1.0, 0.0], 0, k)
    with pytest.raises(ValueError, match="k must be in"):
        chances_of_best(np.zeros(3), k)
