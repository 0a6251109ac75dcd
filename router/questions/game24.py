"""Game of 24: make 24 from four given numbers, each used exactly once. The rule and its reading.

Source: Yao et al. (2023), arXiv:2305.10601, section 4.1.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

from router.expressions import evaluate

if TYPE_CHECKING:
    from collections.abc import Iterable

TARGET = 24
N_NUMBERS = 4
MAX_CHARS = 4_000
NUMBER = re.compile(r"(?<![\w.])\d{1,4}(?![\w.]*\d)", re.ASCII)
GOAL = re.compile(
    r"\b(?:make|get|obtain|reach|equals?|is|to|=)\s+(?:get\s+|make\s+)?24\b", re.IGNORECASE
)
INPUT_LINE = re.compile(r"^\s*(?:input\s*:)?\s*(\d{1,4}(?:[ ,]+\d{1,4}){3})\s*$", re.IGNORECASE)


def solves(expression: str, numbers: Iterable[int]) -> bool:
    """Tell whether ``expression`` is worth 24 and uses each number exactly once."""
    worked = evaluate(expression)
    return (
        worked is not None
        and worked.value == TARGET
        and Counter(worked.numbers) == Counter(map(Fraction, numbers))
    )


def numbers_in(text: str) -> tuple[int, ...] | None:
    """Read the four numbers of a puzzle; None where it is not plain which ones they are.

    A line of nothing but four numbers decides (the last one); else the text must hold four
    numbers, not counting the 24 that they are to make.
    """
    text = text[-MAX_CHARS:]
    for line in reversed(text.splitlines()):
        if found := INPUT_LINE.match(line):
            return tuple(int(digits) for digits in NUMBER.findall(found[1]))
    held = [int(digits) for digits in NUMBER.findall(GOAL.sub(" ", text, count=1))]
    return tuple(held) if len(held) == N_NUMBERS else None
