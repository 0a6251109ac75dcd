"""Check a countdown expression by its rule; the rule itself is in `router.questions.countdown`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.questions.countdown import solves
from router.verifiers.base import Verdict

if TYPE_CHECKING:
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class CountdownVerifier:
    """Right is any expression worth ``target`` that uses each of ``numbers`` at most once."""

    grader: ClassVar[str] = "countdown"

    numbers: tuple[int, ...]
    target: int

    async def verify(self, task: Task, answer: Answer) -> Verdict:  # noqa: ARG002 - protocol
        """Judge ``answer``; one without an expression is wrong."""
        found = answer.value or answers.extract(answer.text, AnswerKind.EXPRESSION)
        if found is None:
            return Verdict(0.0, "no expression was found")
        if solves(found, self.numbers, self.target):
            return Verdict(1.0, f"{found} is {self.target}")
        return Verdict(
            0.0, f"{found} is not {self.target}, or uses other numbers than {self.numbers}"
        )
