"""Outcomes whose truth is known: a mark in the text says which arm can answer it."""

from __future__ import annotations

import numpy as np

from cost_models.types import Arm
from policies.outcomes import OutcomeTable

SMALL = Arm("small", "direct")
LARGE = Arm("large", "direct")
ODD = Arm("small", "odd")
ARMS = (SMALL, LARGE, ODD)
COST_USD = {SMALL: 0.001, LARGE: 0.02, ODD: 0.002}
TOKENS = {SMALL: 20, LARGE: 100, ODD: 50}

P_RIGHT = {
    "easy": {SMALL: 0.95, LARGE: 0.95, ODD: 0.5},
    "hard": {SMALL: 0.1, LARGE: 0.9, ODD: 0.1},
    "odd": {SMALL: 0.1, LARGE: 0.3, ODD: 0.95},
}
TEXTS = {
    "easy": "What is {a} plus {b}? Give only the number.",
    "hard": "Prove that the series with ratio {a}/{b} converges, showing each step; explain why.",
    "odd": "Translate the word number {a} of list {b} into the old dialect of the valley, please.",
}
BEST = {"easy": SMALL, "hard": LARGE, "odd": ODD}
"""The arm that a policy who knew the truth would pick at a shadow price between 1 and 20."""


def kind_of(text: str) -> str:
    """Tell which kind of query a text is."""
    return {"W": "easy", "P": "hard", "T": "odd"}[text[0]]


def planted(n_queries: int, seed: int = 0) -> OutcomeTable:
    """Ask every arm the same queries, kinds in turn, and grade by a coin with the planted bias."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n_queries):
        kind = list(TEXTS)[i % len(TEXTS)]
        text = TEXTS[kind].format(a=rng.integers(2, 99), b=rng.integers(2, 99))
        rows += [
            {
                "query_id": f"q{i}",
                "query": text,
                "model": arm.model,
                "strategy": arm.strategy,
                "correct": int(rng.random() < P_RIGHT[kind][arm]),
                "completion_tokens": TOKENS[arm],
                "cost_usd": COST_USD[arm],
            }
            for arm in ARMS
        ]
    return OutcomeTable.from_rows(rows, "planted")
