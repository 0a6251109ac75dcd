"""The expressions that an answer may mean: its canonical form, and what its text ends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.types import AnswerKind
from router import answers
from router.expressions import evaluate

if TYPE_CHECKING:
    from router.types import Answer


def expressions_of(answer: Answer) -> tuple[str, ...]:
    """Give the expressions of ``answer``, the canonical one first; empty where there is none."""
    read = (answer.value, answers.extract(answer.text, AnswerKind.EXPRESSION))
    return tuple(dict.fromkeys(said for said in read if said and evaluate(said) is not None))
