"""The arithmetic parser: exact, bounded, and and nothing but arithmetic."""

from __future__ import annotations

import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.expressions import MAX_CHARS, evaluate

APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
Worked = tuple[str, Fraction | None]


def joined(left: Worked, sign: str, right: Worked) -> Worked:
    """Join two expressions with their values; a division by zero has none, nor has its result."""
    text = f"({left[0]} {sign} {right[0]})"
    if left[1] is None or right[1] is None or (sign == "/" and right[1] == 0):
        return text, None
    return text, APPLY[sign](left[1], right[1])


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(lambda number: (str(number), Fraction(number))),
    lambda inner: st.builds(joined, inner, st.sampled_from(sorted(APPLY)), inner),
    max_leaves=12,
)


@given(worked=EXPRESSIONS)
def test_a_value_is_exact_and_a_division_by_zero_has_none(worked: Worked) -> None:
    """Whatever is nested in whatever."""
    text, value = worked
    found = evaluate(text)
    assert (None if found is None else found.value) == value


def test_precedence_and_numbers_in_order() -> None:
    """Products bind closer, the minus sign of a factor closest."""
    worked = evaluate("2 + 3 * -4 / (5 - 2.5)")
    assert worked is not None
    assert worked.value == Fraction(-14, 5)
    assert worked.numbers == (2, 3, 4, 5, Fraction(5, 2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "1 2",
        "2 ** 3",
        "(1",
        "1)",
        "__import__('os')",
        "1/0",
        "1//2",
        "a + 1",
        "+1",
        "9" * 40,
        "(" * 300 + "1" + ")" * 300,
        "-" * 300 + "1",
        "1+" * MAX_CHARS + "1",
        "1+" * 100 + "1",
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_anything_else_has_no_value(text: str) -> None:
    """Bad grammar, names, zero divisors and what is too deep, too long or too large."""
    assert evaluate(text) is None


@given(text=st.text(max_size=80))
def test_odd_text_never_raises(text: str) -> None:
    """Any text has a value or None."""
    evaluate(text)
