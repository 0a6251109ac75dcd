"""Answers out of text: what is read, what is refused, and that nothing raises or runs away."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.types import AnswerKind
from router import answers

if TYPE_CHECKING:
    from decimal import Decimal

NUMBERS = [
    pytest.param("42", "42", id="alone"),
    pytest.param("1,234.50", "1234.5", id="thousands separator"),
    pytest.param("2469/2", "1234.5", id="a fraction with a finite decimal"),
    pytest.param("Answer: 2/6", "1/3", id="a fraction without one"),
    pytest.param("so 3 + 4 = 7, but\nAnswer: 8\nand 9 more", "8", id="a marker wins"),
    pytest.param("Answer: 8\nno wait\nAnswer: 9", "9", id="the last marker wins"),
    pytest.param(r"\boxed{5}. Answer: 6? No: \boxed{7}", "7", id="of boxed and marked the last"),
    pytest.param(r"thus $\boxed{\dfrac{3}{4}}$ of 12", "0.75", id="a boxed LaTeX fraction"),
    pytest.param(r"\boxed{1{,}234}", "1234", id="LaTeX thousands"),
    pytest.param("we get 12\n#### 7", "7", id="hashes"),
    pytest.param("#### Step 2: add\n3 + 4 = 7.", "7", id="hashes of a heading"),
    pytest.param("The result is 45. 45 + 3 = 48.", "48", id="a result on the way"),
    pytest.param("**Answer:** 8", "8", id="a bold marker"),
    pytest.param("**Final answer: 8**", "8", id="a bold line"),
    pytest.param("The answer to the question is: **$1,200.00 USD**.", "1200", id="currency"),
    pytest.param("it is **12**, as 3 and 4 were used", "12", id="bold on the last line"),
    pytest.param("Answer:\n\n 8", "8", id="a marker with its answer on the next line"),
    pytest.param("12 + 30 = 42.", "42", id="the last number without a marker"),
    pytest.param("Answer: 12 + 30 = 42", "42", id="the value of an equation"),
    pytest.param("Answer: x = -5", "-5", id="a solved variable"),
    pytest.param("Answer: 7 (since 3 + 4 = 9)", "7", id="an aside is not the answer"),
    pytest.param("Answer: -5 degrees", "-5", id="sign and unit"),
    pytest.param("Answer: \N{MINUS SIGN}5", "-5", id="a typographic minus"),
    pytest.param("the result is -5", "-5", id="a sign after a word"),
    pytest.param("3-5", "5", id="a range is not a sign"),
    pytest.param("10 - 4", "4", id="a subtraction is not a sign"),
    pytest.param("- 5 apples", "5", id="a bullet is not a sign"),
    pytest.param("(-$5)", "-5", id="a sign before a currency"),
    pytest.param("50 %", "50", id="percent"),
    pytest.param("1.5e3", "1500", id="scientific"),
    pytest.param("1.5 \N{MULTIPLICATION SIGN} 10^3", "1500", id="scientific for people"),
    pytest.param(r"2\times10^{-3}", "0.002", id="scientific in LaTeX"),
    pytest.param("Answer: 2 1/2", "2.5", id="a mixed number"),
    pytest.param("0.10", "0.1", id="trailing zeros"),
    pytest.param("007", "7", id="leading zeros"),
    pytest.param("-0", "0", id="no negative zero"),
    pytest.param("-.5", "-0.5", id="no leading zero"),
    pytest.param("5/0", None, id="no value"),
    pytest.param("x2", None, id="part of a word"),
    pytest.param("1e999999999", None, id="a huge exponent"),
    pytest.param("Answer: 1e-999999999", None, id="a tiny exponent"),
    pytest.param("9" * 5000, None, id="a huge number"),
    pytest.param("no idea", None, id="no number"),
    pytest.param("", None, id="empty"),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_a_number_is_read_exactly(text: str, value: str | None) -> None:
    """Markers first, then the last number; the value is exact."""
    assert answers.extract(text, AnswerKind.NUMBER) == value


CHOICES = [
    pytest.param("B", "B", id="alone"),
    pytest.param("b)", "B", id="small letter"),
    pytest.param("Answer: (C) because A is wrong", "C", id="marker"),
    pytest.param("Answer: A is larger", "A", id="marker, A as a letter"),
    pytest.param("Answer: A dog", None, id="marker, A as a word"),
    pytest.param("The answer is a matter of taste", None, id="prose after a marker"),
    pytest.param(r"\boxed{\text{D}}", "D", id="boxed"),
    pytest.param("I think it is option C", "C", id="option word"),
    pytest.param("A and B are too small.\nTherefore, (E).", "E", id="parentheses"),
    pytest.param("A is taller than B", None, id="a letter as a name"),
    pytest.param("I am not sure", None, id="the word I"),
    pytest.param("Yes, she is.", "yes", id="yes with reasons"),
    pytest.param("No. Ann is taller.\nSo the answer is yes.", "yes", id="the conclusion wins"),
    pytest.param("No one is taller.\nTherefore yes", "yes", id="no as part of a sentence"),
    pytest.param("Yes.\nThere is no doubt", "yes", id="an answer on the first line"),
    pytest.param("**Answer: False**", "no", id="false is no"),
    pytest.param("I have no idea.", None, id="no as a determiner"),
    pytest.param("maybe", None, id="nothing"),
]


@pytest.mark.parametrize(("text", "value"), CHOICES)
def test_a_choice_is_a_letter_or_yes_or_no(text: str, value: str | None) -> None:
    """A letter of the sentence is not an option."""
    assert answers.extract(text, AnswerKind.CHOICE) == value


EXPRESSIONS = [
    pytest.param("Answer: 3 * (4 + 2)", "3*(4+2)", id="marker"),
    pytest.param("(3 + 4) * 5 = 35.", "(3+4)*5", id="left of the equals sign"),
    pytest.param("Answer: 14 = 3*4+2", "3*4+2", id="right of the equals sign"),
    pytest.param(r"\boxed{3 \times (4+2)}", "3*(4+2)", id="LaTeX"),
    pytest.param(r"\boxed{x^2 + 1}", "x^2+1", id="boxed algebra"),
    pytest.param("3 x 4 = 12, then\n(3 x 4) + 2 = 14", "(3*4)+2", id="the last line"),
    pytest.param("**3 + 4**", "3+4", id="bold"),
    pytest.param("Answer: three plus four", None, id="words"),
    pytest.param("42", None, id="a number without a marker is none"),
]


@pytest.mark.parametrize(("text", "value"), EXPRESSIONS)
def test_an_expression_loses_its_spaces(text: str, value: str | None) -> None:
    """Typographic and LaTeX signs become plain ones."""
    assert answers.extract(text, AnswerKind.EXPRESSION) == value


STRUCTURED = [
    pytest.param('{"b": 1.0, "a": [1]}', AnswerKind.JSON, '{"a":[1],"b":1}', id="sorted keys"),
    pytest.param('Sure: {"a": 1} [2', AnswerKind.JSON, '{"a":1}', id="inside prose"),
    pytest.param('x\n```json\n{"a": 1}\n```\ny', AnswerKind.JSON, '{"a":1}', id="fenced"),
    pytest.param('{"a": 1e999}', AnswerKind.JSON, None, id="not a finite number"),
    pytest.param('{"a": NaN}', AnswerKind.JSON, None, id="not a number"),
    pytest.param(f"[{'1,' * 600_000}1]", AnswerKind.JSON, None, id="too long"),
    pytest.param('"\\ud800"', AnswerKind.JSON, None, id="half a character"),
    pytest.param("nothing", AnswerKind.JSON, None, id="no JSON"),
    pytest.param("1\n```py\nx = 1  \n```\n2", AnswerKind.CODE, "x = 1", id="a fenced block"),
    pytest.param("```\na\n```\n```\nb\n```", AnswerKind.CODE, "b", id="the last block"),
    pytest.param("```\nx = 1", AnswerKind.CODE, None, id="a block that was cut off"),
    pytest.param("plain", AnswerKind.TEXT, None, id="free text"),
    pytest.param(
        '{"tool_calls": [{"id": "7", "function": {"name": "f", "arguments": "{\\"b\\": 1}"}}]}',
        AnswerKind.TOOL_CALL,
        '[{"arguments":{"b":1},"name":"f"}]',
        id="an OpenAI tool call without its id",
    ),
    pytest.param(
        '<tool_call>\n{"name": "f", "arguments": {"b": 1}}\n</tool_call>',
        AnswerKind.TOOL_CALL,
        '[{"arguments":{"b":1},"name":"f"}]',
        id="a tagged tool call",
    ),
    pytest.param('{"arguments": {}}', AnswerKind.TOOL_CALL, None, id="a call without a name"),
    pytest.param(
        '{"name": "f", "arguments": "{"}', AnswerKind.TOOL_CALL, None, id="broken arguments"
    ),
]


@pytest.mark.parametrize(("text", "kind", "value"), STRUCTURED)
def test_structured_answers_are_canonical(text: str, kind: AnswerKind, value: str | None) -> None:
    """Equal answers are equal strings; free text has no canonical form."""
    assert answers.extract(text, kind) == value


SAME = [
    pytest.param("1,234.50", "2469/2", AnswerKind.NUMBER, True, id="numbers by value"),
    pytest.param("0.3", "0.30000000000000001", AnswerKind.NUMBER, False, id="never as floats"),
    pytest.param("(b)", "Answer: B", AnswerKind.CHOICE, True, id="choices"),
    pytest.param("nothing", "nothing", AnswerKind.NUMBER, False, id="no answer equals no other"),
    pytest.param("Hello  World", "hello world", AnswerKind.TEXT, True, id="text by its words"),
    pytest.param("x = 1", "```\nx = 1\n```", AnswerKind.CODE, True, id="code, fenced or not"),
    pytest.param("x^2+1", r"\boxed{x^2 + 1}", AnswerKind.EXPRESSION, True, id="a canonical one"),
    pytest.param("x^2+1", r"\boxed{x^2 + 2}", AnswerKind.EXPRESSION, False, id="another one"),
    pytest.param("hello world", "world hello", AnswerKind.TEXT, False, id="in their order"),
]


@pytest.mark.parametrize(("a", "b", "kind", "equal"), SAME)
def test_same_compares_what_was_meant(a: str, b: str, kind: AnswerKind, *, equal: bool) -> None:
    """Two answers without a canonical form are never the same."""
    assert answers.same(a, b, kind) is equal


@given(text=st.text(max_size=300), kind=st.sampled_from(AnswerKind))
def test_odd_text_never_raises_and_a_value_is_stable(text: str, kind: AnswerKind) -> None:
    """A canonical answer is its own canonical answer, but for kinds that need a wrapping."""
    value = answers.extract(text, kind)
    answers.detect_kind(text)
    if value is not None and kind in {AnswerKind.NUMBER, AnswerKind.CHOICE, AnswerKind.JSON}:
        assert answers.extract(value, kind) == value


@given(text=st.text(alphabet=" \n0123456789.,-+*/^eE()[]{}\\=%$#`\"'xAab:", max_size=200))
def test_text_made_of_signs_never_raises(text: str) -> None:
    """The characters that the readers care about, in any order."""
    for kind in AnswerKind:
        answers.extract(text, kind)
        answers.extract(f"Answer: {text}", kind)
        answers.extract(rf"\boxed{{{text}}}", kind)


@given(value=st.fractions(max_denominator=10**9))
def test_a_fraction_is_read_back_exactly(value: Fraction) -> None:
    """Whatever the canonical form looks like, it is the same number."""
    found = answers.extract(f"Answer: {value}", AnswerKind.NUMBER)
    assert found is not None
    assert Fraction(found) == value


@given(
    value=st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12)
)
def test_a_decimal_is_the_same_with_separators_and_exponent(value: Decimal) -> None:
    """Three ways to write a number are one answer."""
    plain = f"{value:f}"
    assert answers.same(plain, f"{value:,f}", AnswerKind.NUMBER)
    assert answers.same(plain, f"{value:e}", AnswerKind.NUMBER)


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_is_read_back_from_a_fence(value: object) -> None:
    """What was dumped is what is found."""
    text = f"Here:\n```json\n{json.dumps(value)}\n```"
    found = answers.extract(text, AnswerKind.JSON)
    if found is not None:
        assert json.loads(found) == value


HOSTILE = [
    "\n" * 20_000,
    "9" * 20_000,
    "1 " * 10_000,
    "1/" * 10_000,
    "10^" * 7_000,
    "answer " * 3_000,
    "answer" + " a" * 9_000,
    "(" * 20_000,
    "\\frac{" * 3_000,
    "\\boxed{" * 3_000,
    "```a\n" * 100_000,
    "{" * 100_000,
    "[" * 100_000,
    "<tool_call>" * 50_000,
    "1,111" * 5_000,
    "how much " * 3_000 + "1",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:12]!r} x {len(text)}")
def test_hostile_text_takes_bounded_work(text: str) -> None:
    """Processor time, not wall time: a quadratic reader would take a hundred times as long."""
    started = time.process_time()
    for kind in AnswerKind:
        answers.extract(text, kind)
    answers.detect_kind(text)
    assert time.process_time() - started < 10.0


DETECTED = [
    pytest.param("What is 12 + 30?", AnswerKind.NUMBER, id="arithmetic"),
    pytest.param("How many legs has a spider?", AnswerKind.NUMBER, id="how many"),
    pytest.param("Is 7 prime? Answer yes or no.", AnswerKind.CHOICE, id="yes or no"),
    pytest.param("Pick one.\nA) red\nB) blue", AnswerKind.CHOICE, id="options"),
    pytest.param("Write a Python function that adds.", AnswerKind.CODE, id="code"),
    pytest.param("Return the people as JSON.", AnswerKind.JSON, id="JSON"),
    pytest.param(
        "Using the numbers 3, 4, 5 and + - * /, make 35.", AnswerKind.EXPRESSION, id="countdown"
    ),
    pytest.param("Explain why 3 + 4 = 7.", AnswerKind.TEXT, id="an explanation"),
    pytest.param("Write 3 haikus about autumn.", AnswerKind.TEXT, id="creative"),
    pytest.param("Can you recommend 5 books?", AnswerKind.TEXT, id="advice"),
    pytest.param("What is HTTP/2?", AnswerKind.TEXT, id="a name with a number"),
    pytest.param("Hello", AnswerKind.TEXT, id="small talk"),
    pytest.param("", AnswerKind.TEXT, id="empty"),
]


@pytest.mark.parametrize(("text", "kind"), DETECTED)
def test_the_kind_is_guessed_only_where_it_is_plain(text: str, kind: AnswerKind) -> None:
    """Free text is the safe guess."""
    assert answers.detect_kind(text) is kind


@pytest.mark.parametrize("kind", AnswerKind)
def test_hints_ask_for_what_is_read(kind: AnswerKind) -> None:
    """Every votable kind has both hints; free text is left alone."""
    silent = kind in {AnswerKind.TEXT, AnswerKind.TOOL_CALL}
    assert (answers.format_hint(kind) == "") is silent
    assert (answers.direct_hint(kind) == "") is silent
