"""Game of 24 as a tree: each thought joins two of the numbers that are left.

Source: Yao et al. (2023), arXiv:2305.10601, section 4.1. Thoughts are written as in the paper's
logs, ``4 + 8 = 12 (left: 6 4 12)``. A thought with wrong arithmetic or other numbers is dropped by
rule, and the final expression is put together from the thoughts, both without a model.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from router.expressions import evaluate, plain_signs
from router.questions.game24 import TARGET, numbers_in, solves
from router.trees.tasks import VALUE_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBER = r"-?\d{1,9}(?:\.\d{1,9}|/\d{1,9})?"
THOUGHT = re.compile(
    rf"\(?({NUMBER})\)?\s*([-+*/])\s*\(?({NUMBER})\)?\s*=\s*({NUMBER})"
    rf"(?:\s*\(left:?\s*([^)\n]{{0,80}})\))?",
    re.IGNORECASE,
)
ANSWER_LINE = re.compile(r"^\s*answer:\s*([^=\n]{1,200})", re.IGNORECASE | re.MULTILINE)
MAX_REPLY_CHARS = 8_000
Terms = tuple[tuple[Fraction, str], ...]


@dataclass(frozen=True, slots=True)
class Game24:
    """Four numbers, three thoughts; ``numbers`` is None for a question that names no four."""

    name: ClassVar[str] = "game24"

    numbers: tuple[int, ...] | None
    depth: int = 3

    @classmethod
    def posed(cls, question: str) -> Game24:
        """Read the puzzle out of a question."""
        return cls(numbers_in(question))

    def proposing(self, state: str, depth: int) -> str:  # noqa: ARG002 - protocol
        """Ask for possible next operations on the numbers left."""
        return (
            f"Numbers left: {self._left_text(state)}\n\nTake two of the numbers left and join them "
            "with + - * or /. List up to 8 different possible next steps, one a line, each in the "
            "form 'a + b = c (left: the numbers left after it)', and nothing else."
        )

    def proposals(self, state: str, reply: str, depth: int) -> Sequence[str]:  # noqa: ARG002 - protocol
        """Read legal operations, each once."""
        found = (self._moved(state, line) for line in reply[:MAX_REPLY_CHARS].splitlines())
        return tuple(dict.fromkeys(new for new in found if new is not None))

    def sampling(self, state: str, depth: int) -> str:  # noqa: ARG002 - protocol
        """Ask for the one best next operation."""
        return (
            f"Numbers left: {self._left_text(state)}\n\nTake two of the numbers left and join them "
            "with + - * or /, so that 24 can still be reached. Write this one step in the form "
            "'a + b = c (left: the numbers left after it)', and nothing else."
        )

    def extended(self, state: str, reply: str, depth: int) -> str | None:
        """Read the first legal operation."""
        return next(iter(self.proposals(state, reply, depth)), None)

    def valuing(self, state: str, depth: int) -> str:  # noqa: ARG002 - protocol
        """Ask whether the numbers left can reach 24."""
        return (
            f"Numbers left: {self._left_text(state)}\n\nCan these numbers reach 24 with + - * / "
            "and parentheses, each used once? Try a few ways. End with one last line that is only "
            "one word: sure, likely, or impossible."
        )

    def known_value(self, state: str, depth: int) -> float | None:  # noqa: ARG002 - protocol
        """Know the worth of a single number left: it is 24 or it is not."""
        left = self._terms(state)
        if left is None or len(left) != 1:
            return None
        return VALUE_WORDS["sure" if left[0][0] == TARGET else "impossible"]

    def key(self, state: str) -> str:
        """Give the numbers left, in order."""
        left = self._terms(state)
        return state if left is None else " ".join(sorted(str(value) for value, _ in left))

    def answer(self, state: str) -> str:
        """Give the thoughts, and the expression that they come to under them."""
        left = self._terms(state)
        if left is None or len(left) != 1:
            return state.strip()
        value, expression = left[0]
        return f"{state.strip()}\nAnswer: {_bare(expression)} = {value}"

    def solved(self, state: str) -> bool:
        """Tell whether a state is a solution: its answer line, or what its thoughts come to."""
        if self.numbers is None:
            return False
        stated = ANSWER_LINE.findall(state)
        if stated:
            return solves(stated[-1], self.numbers)
        left = self._terms(state)
        return left is not None and len(left) == 1 and left[0][0] == TARGET

    def _left_text(self, state: str) -> str:
        left = self._terms(state)
        return "unknown" if left is None else " ".join(str(value) for value, _ in left)

    def _terms(self, state: str) -> Terms | None:
        """Replay the thoughts: values left with the expression of each; None if one is illegal."""
        if self.numbers is None:
            return None
        left: Terms | None = tuple((Fraction(n), str(n)) for n in self.numbers)
        for line in state.splitlines():
            found = THOUGHT.search(plain_signs(line)) if line.strip() else None
            if found and left is not None:
                left = _joined(left, found)
        return left

    def _moved(self, state: str, line: str) -> str | None:
        """Give the state after one more thought, written in the paper's form; None if illegal."""
        found = THOUGHT.search(plain_signs(line))
        terms = self._terms(state)
        if found is None or terms is None:
            return None
        left = _joined(terms, found)
        if left is None:
            return None
        stated = re.findall(NUMBER, found[5] or "")
        if stated and Counter(map(Fraction, stated)) != Counter(value for value, _ in left):
            return None
        shown = " ".join(str(value) for value, _ in left)
        return f"{state}{found[1]} {found[2]} {found[3]} = {found[4]} (left: {shown})\n"


def _joined(left: Terms, thought: re.Match[str]) -> Terms | None:
    """Take the two numbers of a thought out of ``left`` and put its result in."""
    try:
        a, b, result = (Fraction(thought[i]) for i in (1, 3, 4))
        true = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[thought[2]]
    except (ValueError, ZeroDivisionError):
        return None
    if true != result:
        return None
    rest = list(left)
    taken = []
    for wanted in (a, b):
        at = next((i for i, (value, _) in enumerate(rest) if value == wanted), None)
        if at is None:
            return None
        taken.append(rest.pop(at)[1])
    return (*rest, (result, f"({taken[0]} {thought[2]} {taken[1]})"))


def _bare(expression: str) -> str:
    """Take off outer parentheses, where the rest still is the same expression."""
    inner = expression[1:-1]
    worked = evaluate(expression)
    return inner if worked and evaluate(inner) == worked else expression
