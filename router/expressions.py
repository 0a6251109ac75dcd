"""Arithmetic written as text, read by a small parser: exact, bounded, and never evaluated as code.

Grammar: ``sum = product (('+' | '-') product)*``, ``product = factor (('*' | '/') factor)*``,
``factor = NUMBER | '-' factor | '(' sum ')'``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARS = 400
MAX_NUMBERS = 64
MAX_DEPTH = 40
MAX_DIGITS = 15
TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|([-+*/()]))", re.ASCII)
SAME_SIGN = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "*",
        "\N{MULTIPLICATION X}": "*",
        "\N{MIDDLE DOT}": "*",
        "\N{DOT OPERATOR}": "*",
        "\N{BULLET OPERATOR}": "*",
        "\N{ASTERISK OPERATOR}": "*",
        "\N{DIVISION SIGN}": "/",
        "\N{DIVISION SLASH}": "/",
        "\N{FRACTION SLASH}": "/",
        "\N{MINUS SIGN}": "-",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        **dict.fromkeys("[{", "("),
        **dict.fromkeys("]}", ")"),
    }
)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The exact ``value`` of an expression, and the ``numbers`` in it from left to right."""

    value: Fraction
    numbers: tuple[Fraction, ...]


class _SyntaxError(Exception):
    """Not an expression of the grammar; never leaves this module."""


def plain_signs(text: str) -> str:
    """Write typographic operators and brackets as ``+ - * / ( )``; x between operands is ``*``."""
    return re.sub(r"(?<=[\d)])\s*[xX]\s*(?=[\d(])", "*", text.translate(SAME_SIGN))


def evaluate(text: str) -> Evaluated | None:
    """Value of an arithmetic expression; None for anything else, and for a division by zero."""
    if len(text) > MAX_CHARS:
        return None
    try:
        return _Parser(_tokens(plain_signs(text))).parse()
    except (_SyntaxError, ZeroDivisionError):
        return None


def _tokens(text: str) -> list[str]:
    found = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise _SyntaxError
        found.append(match[1] or match[2])
        position = match.end()
    return found


class _Parser:
    """Recursive descent over a list of tokens, with bounds on depth and size."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._position = 0
        self._numbers: list[Fraction] = []

    def parse(self) -> Evaluated:
        value = self._sum(0)
        if self._position != len(self._tokens):
            raise _SyntaxError
        return Evaluated(value, tuple(self._numbers))

    def _take(self, wanted: str) -> str | None:
        """Step over the next token if it is one of the characters ``wanted``, and give it."""
        if self._position < len(self._tokens) and self._tokens[self._position] in tuple(wanted):
            self._position += 1
            return self._tokens[self._position - 1]
        return None

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while operator := self._take("+-"):
            term = self._product(depth)
            value = value + term if operator == "+" else value - term
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._factor(depth)
        while operator := self._take("*/"):
            factor = self._factor(depth)
            value = value * factor if operator == "*" else value / factor
        return value

    def _factor(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH or self._position >= len(self._tokens):
            raise _SyntaxError
        if self._take("-"):
            return -self._factor(depth + 1)
        if self._take("("):
            value = self._sum(depth + 1)
            if not self._take(")"):
                raise _SyntaxError
            return value
        return self._number()

    def _number(self) -> Fraction:
        token = self._tokens[self._position]
        if not token[0].isdigit() or len(token) > MAX_DIGITS or len(self._numbers) >= MAX_NUMBERS:
            raise _SyntaxError
        self._position += 1
        self._numbers.append(Fraction(token))
        return self._numbers[-1]
