"""Expectations over which k of n recorded samples are drawn, and in which order: exact, no chance.

Every set of k samples is equally likely (hypergeometric), and so is every order of it.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Leading(NamedTuple):
    """The leading answer of a vote by how many of the k samples gave it; both of shape (k + 1,).

    ``chance`` sums to 1. ``right`` is the chance times the mean quality of the answer that leads,
    0 at no votes. A tie goes to the earliest, so any of the tied is as likely.
    """

    chance: NDArray[np.float64]
    right: NDArray[np.float64]


def leading(counts: Sequence[int], quality: Sequence[float], silent: int, k: int) -> Leading:
    """Vote over k of the samples: ``counts`` gave each answer, of that ``quality``.

    ``silent`` samples gave none, and have no vote. For each number of votes v the sets in which
    v is the most are counted answer by answer, by size and by how many answers have v.
    """
    total = sum(counts) + silent
    if not 1 <= k <= total:
        msg = f"k must be in [1, {total}], the number of samples, got {k}"
        raise ValueError(msg)
    ways = float(comb(total, k))
    chance, right = np.zeros(k + 1), np.zeros(k + 1)
    chance[0] = comb(silent, k) / ways
    for v in range(1, min(k, max(counts, default=0)) + 1):
        sets = np.zeros((2, k + 1, k // v + 2))
        sets[0, : min(silent, k) + 1, 0] = [comb(silent, j) for j in range(min(silent, k) + 1)]
        for count, of_answer in zip(counts, quality, strict=True):
            sets = _with_answer(sets, count, of_answer, v)
        tied = np.arange(1, sets.shape[2])
        chance[v] = sets[0, k, 1:].sum() / ways
        right[v] = (sets[1, k, 1:] / tied).sum() / ways
    return Leading(chance, right)


def _with_answer(
    sets: NDArray[np.float64], count: int, quality: float, v: int
) -> NDArray[np.float64]:
    """Let one answer have up to v votes.

    ``sets`` has shape (2, k + 1, n_tied): ways by size and by answers that have v votes, and the
    same ways times the sum of the qualities of those.
    """
    made = np.zeros_like(sets)
    size = sets.shape[1]
    for j in range(min(count, v - 1, size - 1) + 1):
        made[:, j:] += comb(count, j) * sets[:, : size - j]
    if count >= v:
        before = comb(count, v) * sets[:, : size - v, :-1]
        made[:, v:, 1:] += before
        made[1, v:, 1:] += quality * before[0]
    return made


def chances_of_best(score: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Chance of each sample to have the highest score of the k drawn, shape (n,); sums to 1.

    The r-th best (from 0) is it in C(n - 1 - r, k - 1) of C(n, k) sets; of equal scores the
    earliest is taken, so they share. NaN is below every score.
    """
    n = len(score)
    if not 1 <= k <= n:
        msg = f"k must be in [1, {n}], the number of samples, got {k}"
        raise ValueError(msg)
    known = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-known, kind="stable")
    of_rank = np.array([comb(n - 1 - rank, k - 1) for rank in range(n)]) / float(comb(n, k))
    _, group = np.unique(known[order], return_inverse=True)
    shared = np.bincount(group, weights=of_rank) / np.bincount(group)
    chance = np.empty(n)
    chance[order] = shared[group]
    return chance


def expected_highest(values: NDArray[np.float64], k: int) -> float:
    """Mean of the highest of k of the values; NaN where one is NaN."""
    if np.isnan(values).any():
        return float("nan")
    return float(chances_of_best(values, k) @ values)
