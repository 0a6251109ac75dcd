"""Check a Game of 24 expression by its rule; the rule itself is in `router.questions.game24`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical
from router.questions.game24 import numbers_in, solves
from router.verifiers.base import Demands, Rule, Verdict
from router.verifiers.expressions import expressions_of

if TYPE_CHECKING:
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class Game24Verifier(Rule):
    """Right is any expression worth 24 that uses each number of the question exactly once."""

    grader: ClassVar[str] = "game24"
    title: ClassVar[str] = "an expression worth 24 that uses each of the four numbers once"
    demands: ClassVar[Demands] = Demands(exact=True)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:
        """Judge ``answer``; None where the question does not name four numbers."""
        numbers = numbers_in(task.text)
        if numbers is None:
            return Verdict(None, "the question does not name four numbers")
        found = expressions_of(answer)
        if not found:
            return Verdict(0.0, "no expression was found")
        if any(solves(expression, numbers) for expression in found):
            return Verdict(1.0, f"{found[0]} is 24")
        return Verdict(0.0, f"{found[0]} is not 24, or does not use each of {numbers} once")
