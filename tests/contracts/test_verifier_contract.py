"""What every verifier must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.types import AnswerKind
from router.questions.registry import generate
from router.types import Answer, Message, Task
from router.verifiers.registry import VERIFIERS, for_question

if TYPE_CHECKING:
    from router.questions.base import Question
    from router.verifiers.base import Verdict, Verifier

QUESTIONS = {for_question(q).grader: q for q in generate(90, seed=0)}
NAMES = sorted(VERIFIERS)


def built(name: str) -> tuple[Question, Verifier]:
    """Build a verifier of this name, for a question that it judges."""
    question = QUESTIONS[name]
    return question, for_question(question)


def judged(verifier: Verifier, kind: AnswerKind, answer: Answer) -> Verdict:
    """Let the verifier judge one answer."""

    async def verify() -> Verdict:
        task = Task(messages=(Message("user", "?"),), answer_kind=kind)
        return await verifier.verify(task, answer)

    return anyio.run(verify)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_registered_under_its_grader(name: str) -> None:
    """The ledger's outcomes name it so."""
    _, verifier = built(name)
    assert verifier.grader == VERIFIERS[name].grader == name
    assert isinstance(verifier, VERIFIERS[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_is_better_than_none(name: str) -> None:
    """1 for what is right, less for what is not."""
    question, verifier = built(name)
    right = judged(verifier, question.kind, Answer(f"Answer: {question.gold}"))
    empty = judged(verifier, question.kind, Answer(""))
    assert right.quality == 1.0
    assert empty.quality is None or empty.quality < 1.0


@pytest.mark.parametrize("name", NAMES)
@given(
    text=st.text(max_size=60),
    value=st.none() | st.text(max_size=20),
    kind=st.sampled_from(AnswerKind),
)
def test_odd_answers_get_a_quality_in_range(
    name: str, text: str, value: str | None, kind: AnswerKind
) -> None:
    """Nothing raises; a quality is in [0, 1] or None."""
    _, verifier = built(name)
    verdict = judged(verifier, kind, Answer(text, value=value))
    assert verdict.quality is None or 0.0 <= verdict.quality <= 1.0
