"""An answer out of a closed set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.errors import StrategyConfigError
from router.parameters import canonical, check
from router.verifiers.base import Rule, Verdict

if TYPE_CHECKING:
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class ChoicesVerifier(Rule):
    """Right is an answer that is one of ``among``, written with commas between: ``A, B, C``.

    Case does not matter. It checks the form, not which choice is the right one.
    """

    grader: ClassVar[str] = "choices"
    title: ClassVar[str] = "one of a closed set of answers"

    among: str

    def __post_init__(self) -> None:
        check(self)
        if not self._allowed():
            msg = f"choices: among must name at least one choice, got {self.among!r}"
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:
        """Judge the canonical answer where the task's kind has one, else the whole text."""
        found = answer.value or answers.extract(answer.text, task.answer_kind)
        if found is None:
            found = answers.extract(answer.text, AnswerKind.CHOICE) or answer.text
        if found.strip().casefold() in self._allowed():
            return Verdict(1.0, "one of the choices")
        return Verdict(0.0, f"not one of {self.among}")

    def _allowed(self) -> frozenset[str]:
        parts = (part.strip().casefold() for part in self.among.split(","))
        return frozenset(part for part in parts if part)
