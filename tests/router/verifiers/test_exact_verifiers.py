"""Verifiers that know what is right: by reference, or by the rule of the puzzle."""

from __future__ import annotations

import pytest

from policies.types import AnswerKind
from router.questions.registry import generate
from router.types import Answer, Message, Task
from router.verifiers.countdown import CountdownVerifier
from router.verifiers.reference import ReferenceVerifier
from router.verifiers.registry import for_question

pytestmark = pytest.mark.anyio


def task(kind: AnswerKind, text: str = "?") -> Task:
    """Task of one user message."""
    return Task(messages=(Message("user", text),), answer_kind=kind)


@pytest.mark.parametrize(
    ("kind", "reference", "text", "quality"),
    [
        pytest.param(AnswerKind.NUMBER, "1234.5", "It is 1,234.50.", 1.0, id="right"),
        pytest.param(AnswerKind.NUMBER, "1234.5", "It is 1,234.", 0.0, id="wrong"),
        pytest.param(AnswerKind.NUMBER, "5", "I do not know", 0.0, id="no answer"),
        pytest.param(AnswerKind.CHOICE, "B", "Answer: (b)", 1.0, id="choice"),
        pytest.param(AnswerKind.JSON, '{"a": 1}', '{ "a": 1.0 }', 1.0, id="JSON"),
        pytest.param(AnswerKind.TEXT, "Paris", "paris", 1.0, id="the same words"),
        pytest.param(AnswerKind.TEXT, "Paris", "Paris, of course", None, id="other words"),
    ],
)
async def test_a_reference_decides_exactly_by_kind(
    kind: AnswerKind, reference: str, text: str, quality: float | None
) -> None:
    """Free text in other words is left undecided; the reason names what was found."""
    verdict = await ReferenceVerifier(reference).verify(task(kind), Answer(text))
    assert verdict.quality == quality
    assert verdict.reason


async def test_the_value_that_was_voted_for_wins_over_the_text() -> None:
    """A strategy that says what its answer is need not repeat it in the text."""
    answer = Answer("the samples disagree: 3 or 4", value="3")
    verdict = await ReferenceVerifier("3").verify(task(AnswerKind.NUMBER), answer)
    assert verdict.quality == 1.0


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        pytest.param("Answer: (3 + 4) * 5", 1.0, id="right"),
        pytest.param("Answer: 5 * (4 + 3) = 35", 1.0, id="with its value"),
        pytest.param("Answer: 5 * 7", 0.0, id="a number that was not given"),
        pytest.param("there is none", 0.0, id="no expression"),
    ],
)
async def test_countdown_is_graded_by_its_rule(text: str, quality: float) -> None:
    """Any expression that keeps the rule is right."""
    verifier = CountdownVerifier((3, 4, 5), 35)
    verdict = await verifier.verify(task(AnswerKind.EXPRESSION), Answer(text))
    assert verdict.quality == quality
    assert verdict.reason


async def test_every_generated_question_has_a_verifier_that_knows_its_gold() -> None:
    """All families."""
    for question in generate(90, seed=0):
        verifier = for_question(question)
        asked = task(question.kind, question.text)
        right = await verifier.verify(asked, Answer(f"Answer: {question.gold}"))
        wrong = await verifier.verify(asked, Answer("no idea"))
        assert (right.quality, wrong.quality) == (1.0, 0.0)
