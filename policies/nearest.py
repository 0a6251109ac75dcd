"""Texts near to a text: cosine of TF-IDF weights over words and numbers.

Source: Salton and Buckley (1988), term-weighting approaches in automatic text retrieval; the terms
of the query have weights (1 + log tf) * idf, those of the texts too, both of length 1. The inverse
document frequency is log((1 + n) / (1 + df)) + 1, as scikit-learn smooths it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from math import log, sqrt
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

TERM = re.compile(r"[^\W_]+")
MAX_CHARACTERS = 4_000
"""How much of a text is looked at: its end, where most questions are asked."""


class NearestTexts:
    """An index over ``texts``, shape (n_texts,); made once, then only read."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [_counted(text) for text in texts]
        n_with: Counter[str] = Counter(term for counted in counts for term in counted)
        self._n_texts = len(texts)
        self._idf = {term: log((1 + len(texts)) / (1 + df)) + 1.0 for term, df in n_with.items()}
        places: defaultdict[str, list[int]] = defaultdict(list)
        weights: defaultdict[str, list[float]] = defaultdict(list)
        for i, counted in enumerate(counts):
            for term, weight in self._weights(counted).items():
                places[term].append(i)
                weights[term].append(weight)
        self._rows: dict[str, tuple[NDArray[np.intp], NDArray[np.float64]]] = {
            term: (np.array(places[term], dtype=np.intp), np.array(weights[term]))
            for term in places
        }

    def similarity(self, text: str) -> NDArray[np.float64]:
        """Cosine of ``text`` with each text, shape (n_texts,), in [0, 1]; 0 shares no word."""
        found = np.zeros(self._n_texts)
        for term, weight in self._weights(_counted(text)).items():
            row = self._rows.get(term)
            if row is not None:
                found[row[0]] += weight * row[1]
        return found

    def nearest(self, text: str) -> list[int]:
        """Places of the texts that share a word with ``text``, nearest first, ties by place."""
        found = self.similarity(text)
        order = np.argsort(-found, kind="stable")
        return [int(i) for i in order[: int((found > 0.0).sum())]]

    def _weights(self, counted: Mapping[str, int]) -> dict[str, float]:
        rare = log(1 + self._n_texts) + 1.0
        told = {term: (1.0 + log(n)) * self._idf.get(term, rare) for term, n in counted.items()}
        length = sqrt(sum(weight * weight for weight in told.values()))
        return {term: weight / length for term, weight in told.items()}


def _counted(text: str) -> Counter[str]:
    return Counter(TERM.findall(text[-MAX_CHARACTERS:].casefold()))
