r"""Answers out of free text: canonical by kind, so that equal answers are equal strings.

An explicit final answer wins (``Answer: X``, ``\boxed{X}``, ``#### X``, the last one of them), then
a bold one on the last lines, then what the kind falls back to. Numbers are exact; a percent sign,
a currency and a unit are dropped, so ``50 %`` and ``50`` are the same answer. All work is bounded:
only the end of a text is read, and a number beyond `MAX_DIGITS` digits is no answer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from policies.types import AnswerKind
from router.answers.choices import choice_in_text
from router.answers.formulas import expression_in_text
from router.answers.numbers import number_in_text
from router.answers.payloads import MAX_CHARS
from router.answers.structured import code_in_text, json_in_text, tool_call_in_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


FORMAT_HINTS: Mapping[AnswerKind, str] = {
    AnswerKind.NUMBER: "End with one last line 'Answer: X', where X is only the number.",
    AnswerKind.CHOICE: "End with one last line 'Answer: X', where X is only your choice "
    "(the letter of an option, or yes or no).",
    AnswerKind.EXPRESSION: "End with one last line 'Answer: X', where X is only the expression.",
    AnswerKind.CODE: "End with the whole program in one fenced code block.",
    AnswerKind.JSON: "End with the JSON in one fenced code block.",
    AnswerKind.TOOL_CALL: "",
    AnswerKind.TEXT: "",
}
DIRECT_HINTS: Mapping[AnswerKind, str] = {
    AnswerKind.NUMBER: "Reply with only the number, nothing else.",
    AnswerKind.CHOICE: "Reply with only your choice (the letter of an option, or yes or no), "
    "nothing else.",
    AnswerKind.EXPRESSION: "Reply with only the expression, nothing else.",
    AnswerKind.CODE: "Reply with only the program, in one fenced code block.",
    AnswerKind.JSON: "Reply with only the JSON, nothing else.",
    AnswerKind.TOOL_CALL: "",
    AnswerKind.TEXT: "",
}


def extract(text: str, kind: AnswerKind) -> str | None:
    """Give the canonical answer in ``text``; None when there is none. Free text has none."""
    reader = READERS.get(kind)
    return None if reader is None else reader(text)


def same(a: str, b: str, kind: AnswerKind) -> bool:
    """Tell whether two answers, canonical or in replies, are equal.

    Free text is only if its words are, whatever their case. What cannot be read as an answer of
    its kind equals nothing.
    """
    if kind is AnswerKind.TEXT:
        return a.casefold().split() == b.casefold().split()
    left, right = extract(a, kind), extract(b, kind)
    if kind in NOT_FOUND_AGAIN:
        left, right = left or a.strip(), right or b.strip()
    return left is not None and left == right


def format_hint(kind: AnswerKind) -> str:
    """Give the instruction for the end of a reasoned reply; empty where none is needed."""
    return FORMAT_HINTS[kind]


def direct_hint(kind: AnswerKind) -> str:
    """Give the instruction for a reply that is the answer alone; empty where none is needed."""
    return DIRECT_HINTS[kind]


OPERAND = r"\s*[-(]*\s*\d[\d.,]*[\s)]*"
OPERATOR = r"(?:[-+*/^%\N{MULTIPLICATION SIGN}\N{DIVISION SIGN}x]|plus|minus|times|divided by)"
NOT_FOUND_AGAIN = frozenset({AnswerKind.CODE, AnswerKind.EXPRESSION})
"""Kinds whose canonical form has lost what marked it in the reply (a fence, a box)."""


# The order matters: the first pattern that is found decides.
KIND_SIGNS: tuple[tuple[AnswerKind, re.Pattern[str]], ...] = (
    (
        AnswerKind.JSON,
        re.compile(
            r"\b(?:valid|as|in|a|only|return|output)\s+json\b|\bjson (?:object|array|document)\b",
            re.IGNORECASE,
        ),
    ),
    (
        AnswerKind.CODE,
        re.compile(
            r"\b(?:write|implement|complete|give)\b[^.?!\n]{0,60}"
            r"\b(?:function|program|script|class|method|regex|sql query)\b",
            re.IGNORECASE,
        ),
    ),
    (
        AnswerKind.EXPRESSION,
        re.compile(
            r"\A(?=.*[+*/])(?=.*\b(?:target|equals?|makes?|reach)\b)"
            r"(?=.*\b(?:using|use|combine)\b.{0,40}\bnumbers\b)",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    (
        AnswerKind.TEXT,
        re.compile(
            r"\b(?:explain|describe|discuss|summari[sz]e|translate|rewrite|write|compose|draft"
            r"|brainstorm|why|essay|poem|story|suggest|recommend|contrast)\b"
            r"|\blist (?:the|all|some|\d)",
            re.IGNORECASE,
        ),
    ),
    (
        AnswerKind.CHOICE,
        re.compile(
            r"\byes or no\b|\btrue or false\b|(?:^|\s)\(?A[).:]\s[^\n]{1,200}?\s\(?B[).:]\s",
            re.IGNORECASE,
        ),
    ),
    (AnswerKind.NUMBER, re.compile(r"\bhow many\b", re.IGNORECASE)),
    (
        AnswerKind.NUMBER,
        re.compile(
            r"\A(?=.*\d)(?=.*(?:"
            r"\bhow (?:much|far|long|old|tall|fast)\b[^?]*\?"
            r"|\b(?:calculate|compute|evaluate|work out|solve|what(?:'s| is| does)|get for"
            rf"|value of|left of){OPERAND}{OPERATOR}"
            r"|\b(?:subtract|multiply|divide)\s+\d"
            r"|\badd\s+(?:these numbers|\d[\d.,]* (?:and|to) \d)"
            r"|\b(?:sum|product|difference|quotient|remainder) (?:of|between|when) [-(]*\d"
            r"|\b(?:largest|smallest|larger|smaller|greater|greatest|highest|lowest) number\b"
            r"|\bwhich number\b))",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
)


def detect_kind(text: str) -> AnswerKind:
    """Guess what kind of answer a request asks for; `TEXT` whenever that is not plain."""
    tail = text[-MAX_CHARS:]
    return next((kind for kind, sign in KIND_SIGNS if sign.search(tail)), AnswerKind.TEXT)


READERS: Mapping[AnswerKind, Callable[[str], str | None]] = {
    AnswerKind.NUMBER: number_in_text,
    AnswerKind.CHOICE: choice_in_text,
    AnswerKind.EXPRESSION: expression_in_text,
    AnswerKind.CODE: code_in_text,
    AnswerKind.JSON: json_in_text,
    AnswerKind.TOOL_CALL: tool_call_in_text,
}
