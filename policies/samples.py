"""Recorded samples side by side: what one draw of each arm would have answered, and cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.outcomes import OutcomeTable

NO_ANSWER = -1
SPACES = re.compile(r"\s+")
QUOTES = "\"'`"


@dataclass(frozen=True, slots=True)
class Draws:
    """``n_draws`` random draws of samples, one column for each arm and copy.

    Attributes
    ----------
    arms : tuple of Arm, length n_columns
        Copy k of an arm, counted from 0 by its occurrence, is its (k+1)-th sample in the draw.
    answer : ndarray of int, shape (n_queries, n_draws, n_columns)
        Equal numbers in a row are equal answers; -1 where there is none.
    quality, cost_usd : ndarray of the same shape
        NaN where the arm has no such sample, or no cost.
    """

    arms: tuple[Arm, ...]
    answer: NDArray[np.intp]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]

    def columns(self, stages: Sequence[Arm]) -> list[int] | None:
        """Columns of ``stages``, a repeated arm in turn its copies; None if one is not there."""
        left = list(enumerate(self.arms))
        found = []
        for stage in stages:
            place = next((i for i, (_, arm) in enumerate(left) if arm == stage), None)
            if place is None:
                return None
            found.append(left.pop(place)[0])
        return found

    def take(self, queries: NDArray[np.intp], columns: NDArray[np.intp]) -> Draws:
        """Keep some queries and columns, in that order."""
        index = np.ix_(queries, np.arange(self.answer.shape[1]), columns)
        return Draws(
            tuple(self.arms[i] for i in columns),
            self.answer[index],
            self.quality[index],
            self.cost_usd[index],
        )


def draw_samples(table: OutcomeTable, n_draws: int, copies: int, seed: int = 0) -> Draws:
    """Draw samples without replacement, up to ``copies`` >= 1 of each arm.

    There is a single draw where no arm was sampled twice for a query. The draws do not depend on
    the order of the rows. Samples of which all but one cost nothing are one call (a tree search
    that gives several answers): whichever is drawn first pays for it.
    """
    n_queries, n_arms = len(table.query_ids), len(table.arms)
    query, arm = table.cells
    rank = np.empty(n_queries, dtype=np.intp)
    rank[sorted(range(n_queries), key=table.query_ids.__getitem__)] = np.arange(n_queries)
    order = np.lexsort((table.numbers["sample_index"], arm, rank[query]))
    cell = (query * n_arms + arm)[order]
    count = np.bincount(cell, minlength=n_queries * n_arms)
    most = count.reshape(n_queries, n_arms).max(axis=0)
    n_copies = np.minimum(most, copies)
    answer = answer_numbers(table)[order]
    quality = table.quality[order]
    cost_usd = table.numbers["cost_usd"][order]
    whole = np.bincount(cell, weights=np.nan_to_num(cost_usd), minlength=len(count))
    paying = np.bincount(cell, weights=~(cost_usd == 0.0), minlength=len(count))
    joint = (count > 1) & (paying == 1)
    n_draws = n_draws if most.max(initial=0) > 1 else 1
    column_arm = np.repeat(np.arange(n_arms), n_copies)
    first = np.concatenate([[0], np.cumsum(n_copies)])
    shape = (n_queries, n_draws, len(column_arm))
    answers = np.full(shape, NO_ANSWER, dtype=np.intp)
    qualities, costs = np.full(shape, np.nan), np.full(shape, np.nan)
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(count)])
    for k in range(n_draws):
        shuffled = np.lexsort((rng.random(len(order)), cell))
        of = cell[shuffled]
        copy = np.arange(len(of)) - starts[of]
        taken = np.flatnonzero(copy < n_copies[of % n_arms])
        row, source, turn = of[taken], shuffled[taken], copy[taken]
        at = (row // n_arms, k, first[row % n_arms] + turn)
        answers[at] = answer[source]
        qualities[at] = quality[source]
        shared = np.where(turn == 0, whole[row], 0.0)
        costs[at] = np.where(joint[row], shared, cost_usd[source])
    return Draws(tuple(table.arms[i] for i in column_arm), answers, qualities, costs)


def answer_numbers(table: OutcomeTable) -> NDArray[np.intp]:
    """Give each answer of a table a number, equal ones the same; -1 for none."""
    numbers: dict[str, int] = {}
    keys = [answer_key(answer) for answer in table.texts["answer"]]
    return np.array(
        [NO_ANSWER if key is None else numbers.setdefault(key, len(numbers)) for key in keys],
        dtype=np.intp,
    )


def answer_key(answer: str | None) -> str | None:
    """Canonical form of an answer: numbers by value, text without spaces, case and outer quotes.

    None for an empty answer. What is not known to be equal is different: that costs a further
    stage, never a wrong agreement.
    """
    if answer is None:
        return None
    text = answer.strip().strip("$").strip()
    if len(text) > 1 and text[0] in QUOTES and text[-1] == text[0]:
        text = text[1:-1]
    plain = text.replace(",", "").rstrip(".")
    try:
        return repr(float(plain))
    except ValueError:
        return SPACES.sub("", text).casefold() or None
