"""Compare an answer with the known right one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.parameters import canonical, check
from router.verifiers.base import Demands, Rule, Verdict

if TYPE_CHECKING:
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class ReferenceVerifier(Rule):
    """Exact by the task's answer kind; ``reference`` is the right answer.

    Free text that is worded otherwise may still be right: there the quality is None.
    """

    grader: ClassVar[str] = "reference"
    title: ClassVar[str] = "equal to the known right answer, by kind"
    demands: ClassVar[Demands] = Demands(exact=True)

    reference: str

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:
        """Judge ``answer``; one that cannot be read is wrong."""
        kind = task.answer_kind
        if kind is AnswerKind.TEXT:
            if answers.same(answer.text, self.reference, kind):
                return Verdict(1.0, "worded as the reference")
            return Verdict(None, "worded otherwise than the reference")
        found = answer.value or answers.extract(answer.text, kind)
        if found is None:
            return Verdict(0.0, f"no answer of kind {kind.value!r} was found")
        if answers.same(found, self.reference, kind):
            return Verdict(1.0, f"{found} is right")
        return Verdict(0.0, f"{found} is not {self.reference}")
