"""A number within a tolerance, in any unit of the same dimension."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.answers.payloads import MAX_CHARS
from router.errors import StrategyConfigError
from router.parameters import canonical, check, number
from router.verifiers.base import Demands, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.types import Answer, Task

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
UNITS: Mapping[str, tuple[str, Fraction]] = {
    unit: (dimension, Fraction(size))
    for dimension, sizes in {
        "length": {
            "km": "1000", "m": "1", "cm": "0.01", "mm": "0.001", "um": "0.000001",
            "mi": "1609.344", "mile": "1609.344", "ft": "0.3048", "foot": "0.3048",
            "feet": "0.3048", "in": "0.0254", "inch": "0.0254", "yd": "0.9144",
        },
        "mass": {"t": "1000", "kg": "1", "g": "0.001", "mg": "0.000001", "lb": "0.45359237"},
        "time": {
            "s": "1", "sec": "1", "second": "1", "ms": "0.001", "min": f"{_MINUTE}",
            "minute": f"{_MINUTE}", "h": f"{_HOUR}", "hr": f"{_HOUR}", "hour": f"{_HOUR}",
            "d": f"{_DAY}", "day": f"{_DAY}", "week": f"{7 * _DAY}",
        },
        "volume": {"l": "1", "litre": "1", "liter": "1", "ml": "0.001", "m3": "1000"},
        "area": {"m2": "1", "km2": "1000000", "cm2": "0.0001", "ha": "10000"},
        "speed": {"m/s": "1", "km/h": "5/18", "kph": "5/18", "mph": "0.44704"},
        "energy": {"j": "1", "kj": "1000", "kwh": "3600000"},
        "power": {"w": "1", "kw": "1000"},
        "share": {"%": "0.01", "percent": "0.01", "": "1"},
    }.items()
    for unit, size in sizes.items()
}  # fmt: skip
"""Units by name in lower case: dimension, and how many of the dimension's base unit one is."""

MAX_UNIT_CHARS = 12
MEASURE = re.compile(
    r"(?P<number>-?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d{1,3})?)\s*(?P<unit>%|[A-Za-zµ]+(?:/[A-Za-z]+)?[²³23]?)?",
    re.ASCII,
)
POWERS = str.maketrans({"²": "2", "³": "3", "µ": "u"})


@dataclass(frozen=True, slots=True)
class NumberVerifier(Rule):
    """Right is a number within ``relative`` or ``absolute`` of ``expected``, whichever is wider.

    ``expected`` is a number with an optional unit, for example ``9.81 m/s`` or ``12.5 %``. An
    answer in another unit of the same dimension is converted; one without a unit is taken to be
    in the expected one; one of another dimension is wrong.
    """

    grader: ClassVar[str] = "number"
    title: ClassVar[str] = "a number within a tolerance, units converted"
    demands: ClassVar[Demands] = Demands(exact=True)

    expected: str
    relative: float = number(0.000001, 0.0, 1.0)
    absolute: float = number(0.0, 0.0, 1e12)

    def __post_init__(self) -> None:
        check(self)
        if measured(self.expected) is None:
            msg = f"number: expected must be a number with or without unit, got {self.expected!r}"
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:  # noqa: ARG002 - protocol
        """Judge the final number of ``answer`` with the unit that follows it."""
        expected, unit = measured(self.expected) or (Fraction(0), "")
        found = _final(answer)
        if found is None:
            return Verdict(0.0, "no number was found")
        value, said = found
        if said and unit != said:
            (dimension, size), (wanted, of) = UNITS[said], UNITS[unit]
            if dimension != wanted:
                return Verdict(0.0, f"a {dimension} was given where a {wanted} was asked for")
            value = value * size / of
        slack = max(abs(expected) * Fraction(self.relative), Fraction(self.absolute))
        off = abs(value - expected)
        if off <= slack:
            return Verdict(1.0, f"within the tolerance of {self.expected}")
        return Verdict(0.0, f"too far from {self.expected}")


def measured(text: str) -> tuple[Fraction, str] | None:
    """Read a number and the known unit after it, empty where there is none."""
    found = MEASURE.match(text.strip())
    if found is None:
        return None
    return _exact(found["number"]), _unit(found["unit"])


def _final(answer: Answer) -> tuple[Fraction, str] | None:
    """Give the number that the answer ends on, with the unit that stands after it in the text."""
    canonical_text = answers.extract(answer.text, AnswerKind.NUMBER) or answers.extract(
        answer.value or "", AnswerKind.NUMBER
    )
    if canonical_text is None:
        return None
    value = Fraction(canonical_text)
    for match in reversed(list(MEASURE.finditer(answer.text[-MAX_CHARS:]))):
        if _exact(match["number"]) == value:
            return value, _unit(match["unit"])
    return value, ""


def _exact(digits: str) -> Fraction:
    return Fraction(digits.replace(",", ""))


def _unit(word: str | None) -> str:
    """Give the unit as the table has it; empty for a word that is none."""
    if not word or len(word) > MAX_UNIT_CHARS:
        return ""
    name = word.translate(POWERS).lower()
    return next((unit for unit in (name, name.removesuffix("s")) if unit in UNITS), "")
