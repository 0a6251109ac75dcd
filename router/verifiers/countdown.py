"""Check a countdown expression by its rule; the rule itself is in `router.questions.countdown`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.errors import StrategyConfigError
from router.parameters import canonical
from router.questions.countdown import solves
from router.verifiers.base import Demands, Rule, Verdict
from router.verifiers.expressions import expressions_of

if TYPE_CHECKING:
    from router.types import Answer, Task

MAX_CHARS = 4_000
NUMBERS = re.compile(r"\bnumbers?\b[^\d\n]{0,20}(\d+(?:[, ]+(?:and )?\d+)+)", re.IGNORECASE)
TARGET = re.compile(r"\b(?:target|equals?|makes?|reach)\b[^\d\n.?]{0,20}(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CountdownVerifier(Rule):
    """Right is any expression worth ``target`` that uses each of ``numbers`` at most once.

    Without numbers both are read from the question; where they cannot be the quality is None.
    """

    grader: ClassVar[str] = "countdown"
    title: ClassVar[str] = "an expression that reaches the target with the given numbers"
    demands: ClassVar[Demands] = Demands(exact=True)

    numbers: tuple[int, ...] = ()
    target: int = 0

    def __post_init__(self) -> None:
        listed = isinstance(self.numbers, tuple | list)
        if not listed or any(type(n) is not int for n in (*self.numbers, self.target)):
            msg = f"countdown: numbers and target must be whole, got {self.numbers!r}"
            raise StrategyConfigError(msg)
        object.__setattr__(self, "numbers", tuple(self.numbers))

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:
        """Judge ``answer``; one without an expression is wrong."""
        posed = (self.numbers, self.target) if self.numbers else posed_in(task.text)
        if posed is None:
            return Verdict(None, "the question names no numbers and target")
        numbers, target = posed
        found = expressions_of(answer)
        if not found:
            return Verdict(0.0, "no expression was found")
        if any(solves(expression, numbers, target) for expression in found):
            return Verdict(1.0, f"{found[0]} is {target}")
        return Verdict(0.0, f"{found[0]} is not {target}, or uses other numbers than {numbers}")


def posed_in(text: str) -> tuple[tuple[int, ...], int] | None:
    """Read numbers and target of a question; None where either is missing."""
    text = text[-MAX_CHARS:]
    numbers, target = NUMBERS.search(text), TARGET.search(text)
    if numbers is None or target is None:
        return None
    return tuple(int(digits) for digits in re.findall(r"\d{1,9}", numbers[1])), int(target[1][:9])
