"""The arithmetic of steps, recomputed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.types import Answer, Message, Task
from router.verifiers.arithmetic import ArithmeticVerifier, equations
from router.verifiers.steps import AGGREGATIONS, MAX_STEPS, aggregate, split_steps

TASK = Task((Message("user", "?"),))


@pytest.mark.parametrize(
    ("step", "holds"),
    [
        pytest.param("So 3 + 4 = 7.", [True], id="a sum"),
        pytest.param("So 3 + 4 = 8.", [False], id="a wrong sum"),
        pytest.param(
            "He pays 3 \N{MULTIPLICATION SIGN} $4 = $12 in all", [True], id="money and a cross"
        ),
        pytest.param("1,200 + 34 = 1,234", [True], id="separators"),
        pytest.param(r"\(6 \times 7 = 41\)", [False], id="LaTeX"),
        pytest.param(r"\frac{10}{4} + 1 = 3.5", [True], id="a LaTeX fraction"),
        pytest.param("10 / 3 = 3.33", [True], id="rounded"),
        pytest.param("10 / 3 = 3.4", [False], id="not rounded but wrong"),
        pytest.param("10 / 3 = 3", [False], id="a whole result is not rounded"),
        pytest.param("2 + 3 = 5 = 10 / 2", [True], id="a chain ends at what is no arithmetic"),
        pytest.param("2 * 3 + 1 = 6 + 1 = 8", [True, False], id="each link of a chain"),
        pytest.param("4 + 8 = 12 (left: 6 4 12)", [True], id="a thought of the Game of 24"),
        pytest.param("(10 - 4) * (13 - 9) = 24", [True], id="parentheses"),
        pytest.param("3 - 8 = -5", [True], id="a negative result"),
        pytest.param("50% of 20 + 4 = 14", [], id="a percentage is left alone"),
        pytest.param("2 apples + 3 + 4 = 9", [], id="a term with a word is left alone"),
        pytest.param("x + 3 + 4 = 9", [], id="a variable is left alone"),
        pytest.param("2^3 + 1 = 9", [], id="a power is left alone"),
        pytest.param("2 + 3 = 5x", [], id="a result with a variable is left alone"),
        pytest.param("n = 5", [], id="an assignment"),
        pytest.param("Nothing to see here.", [], id="no equation"),
    ],
)
def test_the_equations_of_a_step(step: str, holds: list[bool]) -> None:
    """What can be computed is judged; everything else is left alone."""
    assert [found for _, found in equations(step)] == holds


@given(
    a=st.integers(0, 9999),
    b=st.integers(1, 9999),
    off=st.integers(-3, 3),
    sign=st.sampled_from("+-*"),
)
@settings(deadline=None)
def test_whole_arithmetic_is_judged_exactly(a: int, b: int, off: int, sign: str) -> None:
    """Right exactly when the stated result is the true one."""
    true = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert [holds for _, holds in equations(f"so {a} {sign} {b} = {true + off} here")] == [off == 0]


@given(st.text(alphabet="0123456789+-*/=().,x $%\n", max_size=200))
@settings(deadline=None)
def test_odd_arithmetic_never_raises(text: str) -> None:
    """Whatever stands around the equals signs."""
    verdict = ArithmeticVerifier().judge(TASK, Answer(text))
    assert verdict.quality in {None, 0.0, 1.0}


def test_the_verdict_is_per_step_and_names_what_is_wrong() -> None:
    """A step without an equation is not judged."""
    text = "First, 2 + 2 = 4.\n\nThat is nice.\n\nThen 4 * 3 = 11."
    verdict = ArithmeticVerifier().judge(TASK, Answer(text))
    assert verdict.steps == (1.0, None, 0.0)
    assert verdict.quality == 0.0
    assert "4 * 3 = 11" in verdict.reason
    assert ArithmeticVerifier("mean").judge(TASK, Answer(text)).quality == 0.5


def test_the_aggregations() -> None:
    """Of the judged steps only; none where none was judged."""
    steps = (0.5, None, 0.8, 0.25)
    found = {how: aggregate(steps, how) for how in AGGREGATIONS}
    assert found == {
        "min": 0.25,
        "product": pytest.approx(0.1),
        "last": 0.25,
        "mean": pytest.approx(1.55 / 3),
    }
    assert all(aggregate((None, None), how) is None for how in AGGREGATIONS)


def test_steps_are_paragraphs_where_there_are_any_else_lines() -> None:
    """Their number is bounded; nothing is lost."""
    assert split_steps("a\nb\n\nc") == ("a\nb", "c")
    assert split_steps("a\n\n") == ("a",)
    assert split_steps("a\n b \nc") == ("a", "b", "c")
    assert split_steps(" \n\t\n") == ()
    many = split_steps("\n".join("abc"[i % 3] for i in range(500)))
    assert len(many) == MAX_STEPS
    assert sum(len(step.splitlines()) for step in many) == 500
