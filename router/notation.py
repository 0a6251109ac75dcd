r"""Written mathematics as plain text: LaTeX, typographic fractions, separators of other countries.

What comes out is what `router.answers` and `router.expressions` read: digits, ``+ - * / ( )``, a
point for decimals. Nothing is evaluated here.
"""

from __future__ import annotations

import re
import unicodedata

LATEX_WORDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{([^{}]*)\}")
LATEX_MIXED = re.compile(
    r"(?<![\d.,])(\d{1,9})\s*\\[dt]?frac\s*"
    r"(?:\{(\d{1,9})\}|(\d))\s*(?:\{(\d{1,9})\}|(\d))"
)
LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
LATEX_SIGNS = (
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\(?:left|right)(?![A-Za-z])|\\[,!;:() \[\]]|\{(?=,\})|(?<=\{,)\}"), " "),
    (re.compile(r"\\([%$#&_])"), r"\1"),
)
VULGAR = re.compile("(\\d?)([\u00bc-\u00be\u2150-\u215e\u2189])")
POINTS_AND_COMMA = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3})+,\d{1,30}(?![\d.,]*\d)")
POINTS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,12}(?![\d.,]*\d)")
SPACED = re.compile(r"\A([-+]?\s*)(\d{1,3}(?: \d{3}){1,12})(?![\d.,]*\d)(?!\s*/)(?! \d)")
MIXED = re.compile(r"(?<![\d.)])(\d{1,9})\s+(\d{1,9})\s*/\s*(\d{1,9})(?![\d.])", re.ASCII)
NOT_RATIONAL = re.compile(
    r"\\(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])|[\u221a\u03c0]|\bsqrt\s*\(|\d\s*pi\b"
)
"""Signs of a value that has no exact decimal digits or fraction."""


def plain(text: str) -> str:
    """Write LaTeX and typography as the plain text that it stands for, as far as answers use it."""
    text = LATEX_WORDS.sub(r"\1", text)
    text = LATEX_MIXED.sub(_mixed, text)
    text = LATEX_FRACTION.sub(_fraction, text)
    text = text.replace("{,}", ",")
    for sign, written in LATEX_SIGNS:
        text = sign.sub(written, text)
    text = VULGAR.sub(_vulgar, text)
    text = POINTS_AND_COMMA.sub(lambda m: m[0].replace(".", "").replace(",", "."), text)
    return POINTS.sub(lambda m: m[0].replace(".", ""), text)


def joined_digits(text: str) -> str:
    """Join the groups of a number that ``text`` begins with, ``12 000`` is ``12000``."""
    return SPACED.sub(lambda m: m[1] + m[2].replace(" ", ""), text)


def spaceless(text: str) -> str:
    """Take out spaces; a mixed number becomes a sum, ``1 1/2`` is ``(1+1/2)``."""
    return re.sub(r"\s+", "", MIXED.sub(r"(\1+\2/\3)", text))


def _fraction(match: re.Match[str]) -> str:
    return f"({match[1] if match[2] is None else match[2]})/({match[3] or match[4] or ''})"


def _mixed(match: re.Match[str]) -> str:
    return f"{match[1]} {match[2] or match[3]}/{match[4] or match[5]}"


def _vulgar(match: re.Match[str]) -> str:
    written = unicodedata.normalize("NFKD", match[2]).replace("\N{FRACTION SLASH}", "/")
    return f"{match[1]} {written}" if match[1] else written
