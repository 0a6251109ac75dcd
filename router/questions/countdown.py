"""Countdown: reach a target from given numbers; many expressions are right, so a rule grades."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import TYPE_CHECKING

from policies.types import AnswerKind
from router import answers
from router.expressions import evaluate
from router.questions.base import Draft, Family, QuestionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.chance import Dice
    from router.questions.base import Question

ASKING = (
    (
        "Using the numbers {numbers}, each at most once, and the operations + - * /, "
        "write an expression that equals {target}."
    ),
    (
        "Use the numbers {numbers} and the signs + - * / (and parentheses) to make {target}. "
        "Each number may be used at most once."
    ),
    (
        "Combine the numbers {numbers} with +, -, * and / so that they make {target}; "
        "no number may be used more often than it is given. What is the expression?"
    ),
    (
        "Reach the target {target} using the numbers {numbers}. Each of them may be used once at "
        "most, with + - * / and parentheses. Which expression does it?"
    ),
)
N_NUMBERS = (3, 3, 4)
MAX_NUMBER = (10, 12, 15)
MAX_TARGET = (30, 60, 100)
SIGNS = ("+-", "+-*", "+-*/")
MIN_TARGET = 5


def solves(expression: str, numbers: Iterable[int], target: int) -> bool:
    """Tell whether ``expression`` is worth ``target`` and uses each number at most once."""
    worked = evaluate(expression)
    return (
        worked is not None
        and worked.value == target
        and Counter(worked.numbers) <= Counter(map(Fraction, numbers))
    )


def given(question: Question) -> tuple[tuple[int, ...], int]:
    """Give the numbers and the target of a question; QuestionError if its payload has none."""
    numbers, target = question.payload.get("numbers"), question.payload.get("target")
    if not isinstance(target, int) or not isinstance(numbers, list | tuple):
        msg = (
            f"question {question.question_id!r}: the payload of a countdown question needs "
            f"'numbers' and 'target', got {dict(question.payload)}"
        )
        raise QuestionError(msg)
    return tuple(numbers), target


def graded(question: Question, text: str) -> bool:
    """Tell whether the expression in a reply solves the question."""
    expression = answers.extract(text, AnswerKind.EXPRESSION)
    return expression is not None and solves(expression, *given(question))


def draft_countdown(dice: Dice, level: int) -> Draft:
    """Numbers with a target that one random expression over all of them reaches."""
    at = level - 1
    while True:
        numbers = [dice.between(1, MAX_NUMBER[at]) for _ in range(N_NUMBERS[at])]
        gold = _random_expression(dice, [str(number) for number in numbers], SIGNS[at])
        worked = evaluate(gold)
        if worked is None or worked.value.denominator != 1:
            continue
        target = int(worked.value)
        if MIN_TARGET <= target <= MAX_TARGET[at] and target not in numbers:
            break
    shown = dice.shuffled(numbers)
    text = dice.pick(ASKING).format(numbers=", ".join(map(str, shown)), target=target)
    payload = {"numbers": shown, "target": target}
    return Draft(text, gold, AnswerKind.EXPRESSION, payload)


def _random_expression(dice: Dice, parts: list[str], signs: str) -> str:
    """Join two neighbours at a time until one expression is left, without outer parentheses."""
    while len(parts) > 1:
        i = dice.below(len(parts) - 1)
        joined = f"({parts[i]}{dice.pick(signs)}{parts[i + 1]})"
        parts = [*parts[:i], joined, *parts[i + 2 :]]
    return parts[0][1:-1]


COUNTDOWN = Family((0.7, 0.85, 0.95), draft_countdown, rule=graded)
