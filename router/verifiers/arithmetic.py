"""Recompute the arithmetic of every step: each ``a op b = c`` that a worked answer states.

The idea of a calculator as the outside judge is that of Cobbe et al. (2021), arXiv:2110.14168;
the verdict is per step, as a process verifier's (Lightman et al. 2023, arXiv:2305.20050).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from router.expressions import evaluate, plain_signs
from router.parameters import canonical, check
from router.verifiers.base import Demands, Rule, Verdict
from router.verifiers.steps import aggregate, aggregation, split_steps

if TYPE_CHECKING:
    from router.types import Answer, Task

MAX_STEP_CHARS = 2_000
MAX_SIDE_CHARS = 200
LATEX = (
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\d?frac\s*\{([^{}]{1,60})\}\s*\{([^{}]{1,60})\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[(),\[\]]|[$€£¥₹`]|\*\*"), ""),
)
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
LEFT = re.compile(r"[-(\d][\d\s.+\-*/()]{0,200}$", re.ASCII)
RIGHT = re.compile(r"\s*([-(]*\s*\d[\d\s.+\-*/()]{0,200})", re.ASCII)
RESULT = re.compile(r"\s*(-?\s*\d+(?:\.(?P<places>\d+))?)(?P<unit>\s*%)?", re.ASCII)
EQUALS = re.compile(r"=|≈")
NO_OPERAND = re.compile(r"[\w^_%)\\]\Z|[+*/^]\s*\Z|\b(?:sqrt|log|ln|sin|cos|tan|of)\s*\Z", re.ASCII)
OPERATOR = re.compile(r"[\d)]\s*[-+*/]\s*[-(\d]", re.ASCII)


@dataclass(frozen=True, slots=True)
class ArithmeticVerifier(Rule):
    """A step is right when every equation in it holds, None when it states none.

    A result with decimals may be rounded or cut at its last place. Only arithmetic of ``+ - * /``
    and parentheses is read; an equation with anything else is left alone, so the verdict never
    accuses what it could not compute. ``aggregation`` makes one quality of the steps'.
    """

    grader: ClassVar[str] = "arithmetic"
    title: ClassVar[str] = "every equation of every step, recomputed"
    demands: ClassVar[Demands] = Demands(per_step=True)

    aggregation: str = aggregation()

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:  # noqa: ARG002 - protocol
        """Judge every step of the answer's text."""
        wrong: list[str] = []
        qualities: list[float | None] = []
        for step in split_steps(answer.text):
            found = equations(step)
            false = [said for said, holds in found if not holds]
            wrong += false
            qualities.append(None if not found else 0.0 if false else 1.0)
        quality = aggregate(qualities, self.aggregation)
        if quality is None:
            return Verdict(None, "no step states an equation", tuple(qualities))
        said = f"this does not hold: {'; '.join(wrong[:3])}" if wrong else "every equation holds"
        return Verdict(quality, said, tuple(qualities))


def equations(step: str) -> list[tuple[str, bool]]:
    """Give every equation of a step that can be computed, with whether it holds."""
    found = []
    for line in step[:MAX_STEP_CHARS].splitlines():
        plain = line
        for pattern, written in LATEX:
            plain = pattern.sub(written, plain)
        sides = EQUALS.split(THOUSANDS.sub("", plain_signs(plain)))
        for left, right in pairwise(sides):
            checked = _equation(left[-MAX_SIDE_CHARS:], right[:MAX_SIDE_CHARS])
            if checked is not None:
                found.append(checked)
    return found


def _equation(left: str, right: str) -> tuple[str, bool] | None:
    """Compare the arithmetic that ends ``left`` with what ``right`` begins with."""
    worked = LEFT.search(left.rstrip())
    if worked is None or NO_OPERAND.search(left[: worked.start()]):
        return None
    expression = worked[0].strip()
    value = evaluate(expression)
    if value is None or not OPERATOR.search(expression):
        return None
    further = RIGHT.match(right)
    other = evaluate(further[1].rstrip(" .+-*/(")) if further else None
    if further and other is not None and OPERATOR.search(further[1]):
        return f"{expression} = {further[1].strip()}", value.value == other.value
    result = RESULT.match(right)
    if result is None or _goes_on(right[result.end() :]):
        return None
    stated = Fraction(result[1].replace(" ", ""))
    places = len(result["places"] or "")
    return f"{expression} = {result[0].strip()}", _shows(stated, places, value.value)


def _shows(stated: Fraction, places: int, value: Fraction) -> bool:
    """Tell whether a number of so many decimals is ``value``, rounded or cut at its last place."""
    if places == 0:
        return stated == value
    unit = Fraction(1, 10**places)
    return abs(stated - value) <= unit / 2 or 0 <= abs(value) - abs(stated) < unit


def _goes_on(rest: str) -> bool:
    """Tell whether a number is part of something longer: ``12x``, ``3/4``, ``2^5``, ``1 1/2``."""
    return bool(re.match(r"\s*[*/^]|[A-Za-z_]\b|\s+\d|\s*\(\d", rest))
