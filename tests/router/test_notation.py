"""Numbers in every way that models write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.types import AnswerKind
from router import answers
from router.expressions import evaluate
from router.notation import plain

NUMBER, EXPRESSION = AnswerKind.NUMBER, AnswerKind.EXPRESSION
SMALL = st.integers(1, 999)
UNITS = st.sampled_from(["km", "m/s", "apples", "kg.", "hours", "cm^2", "degrees", r"\text{ cm}"])
PIECES = ["\\frac", "\\boxed{", "\\sqrt", "½", "π", "\ud800", *"0123456789.,+-*/^%=(){}[]$ ex\n"]
ANYTHING = st.text(st.characters(), max_size=120) | st.lists(
    st.sampled_from(PIECES), max_size=50
).map("".join)


def read(written: str) -> Fraction:
    """Read a number as the final answer of a reply."""
    found = answers.extract(f"So in the end.\nAnswer: {written}", NUMBER)
    boxed = answers.extract(f"So \\boxed{{{written}}} it is.", NUMBER)
    assert found is not None, written
    assert found == boxed, written
    return Fraction(found)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"\frac34", "3/4"),
        (r"\frac{3}4", "3/4"),
        (r"-\dfrac{3}{4}", "-3/4"),
        (r"1\frac{1}{2}", "3/2"),
        (r"2\frac12", "5/2"),
        ("½", "1/2"),
        ("3½", "7/2"),
        ("-¾", "-3/4"),
        ("⅔ of it", "2/3"),
        ("1.234.567,89", "1234567.89"),
        ("1.000.000", "1000000"),
        ("12 000 km", "12000"),
        ("1 234 567", "1234567"),
        ("1.234", "1.234"),
        ("1,234", "1234"),
        (r"\sqrt{2} \approx = 1.414", "1.414"),
    ],
)
def test_fractions_and_separators(written: str, value: str) -> None:
    """Compact and mixed LaTeX, typographic fractions, points and spaces between thousands."""
    assert read(written) == Fraction(value)


@pytest.mark.parametrize("written", [r"\sqrt{2}", r"2\pi", "3π", "√2", "2 pi", "sqrt(3)", "½π"])
def test_what_is_no_rational_number_is_no_number(written: str) -> None:
    """It never turns into one of the digits in it."""
    assert answers.extract(f"Answer: {written}", NUMBER) is None
    assert answers.extract(f"First 7.\n\\boxed{{{written}}}", NUMBER) is None


@given(whole=st.integers(0, 10**6), over=SMALL, under=SMALL, minus=st.booleans())
@settings(deadline=None)
def test_a_fraction_is_one_value_however_it_is_written(
    whole: int, over: int, under: int, *, minus: bool
) -> None:
    """Plain, LaTeX in three sizes, with spaces; a mixed number plain and in LaTeX."""
    sign = "-" if minus else ""
    value = Fraction(over, under) * (-1 if minus else 1)
    for latex in ("frac", "dfrac", "tfrac"):
        assert read(f"{sign}\\{latex}{{{over}}}{{{under}}}") == value
    assert read(f"{sign}{over}/{under}") == value
    assert read(f"{sign}{over} / {under}") == value
    mixed = whole + Fraction(over, under)
    assert read(f"{whole} {over}/{under}") == mixed
    assert read(f"{whole}\\frac{{{over}}}{{{under}}}") == mixed


@given(mantissa=st.decimals(-999, 999, places=3, allow_nan=False), power=st.integers(-30, 30))
@settings(deadline=None)
@example(mantissa=0, power=0)
def test_scientific_notation_is_exact(mantissa: object, power: int) -> None:
    """Exponent and power of ten in the ways that people write them."""
    value = Fraction(str(mantissa)) * Fraction(10) ** power
    for written in (
        f"{mantissa}e{power}",
        f"{mantissa}E{power:+d}",
        f"{mantissa} x 10^{power}",
        f"{mantissa} \N{MULTIPLICATION SIGN} 10^{{{power}}}",
        f"{mantissa} * 10**{power}",
        f"{mantissa} \\times 10^{{{power}}}",
        f"{mantissa} \\cdot 10^{{{power}}}",
    ):
        assert read(written) == value, written


@given(value=st.decimals(-(10**9), 10**9, places=2, allow_nan=False), unit=UNITS)
@settings(deadline=None)
def test_a_percent_sign_a_currency_and_a_unit_change_nothing(value: object, unit: str) -> None:
    """With or without a space before it."""
    exact = Fraction(str(value))
    for written in (f"{value} {unit}", f"{value}%", f"{value} %", f"{value}\\%", f"${value}"):
        assert read(written) == exact, written
    assert read(f"{value:,}") == exact


@given(text=ANYTHING, kind=st.sampled_from(AnswerKind))
@settings(deadline=None, max_examples=300)
def test_no_text_makes_a_reader_raise(text: str, kind: AnswerKind) -> None:
    """Lone surrogates, control characters and broken LaTeX among it; what is found is text."""
    for said in (text, f"Answer: {text}", f"\\boxed{{{text}}}", f"```\n{text}\n```"):
        found = answers.extract(said, kind)
        assert found is None or found
        assert answers.same(said, said, kind) in {True, False}
    assert isinstance(plain(text), str)


@given(whole=SMALL, over=SMALL, under=SMALL)
@settings(deadline=None)
def test_a_mixed_number_stays_what_it_is_in_an_expression(
    whole: int, over: int, under: int
) -> None:
    """Taking spaces out must not glue digits together."""
    found = answers.extract(f"\\boxed{{{whole} {over}/{under}}}", EXPRESSION)
    assert found is not None
    worked = evaluate(found)
    assert worked is not None
    assert worked.value == whole + Fraction(over, under)
