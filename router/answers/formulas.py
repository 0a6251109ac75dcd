"""Expressions out of text, as plain arithmetic where they are."""

from __future__ import annotations

import re

from router.answers.payloads import MAX_CHARS, MAX_PAYLOAD_CHARS, payloads
from router.expressions import evaluate, plain_signs
from router.notation import plain, spaceless

ARITHMETIC_SPAN = re.compile(r"(?<![\w^.\\])[\d(][\d\s.+\-*/()]*[\d)](?![\w^])", re.ASCII)
MATH_WORD = re.compile(r"\\?(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![A-Za-z])")
PROSE = re.compile(r"[A-Za-z]{2,}")


def expression_in_text(text: str) -> str | None:
    """Give the expression that a reply comes to; None where there is none."""
    text = text[-MAX_CHARS:]
    for payload, boxed in payloads(text):
        found = _expression_in(payload, boxed=boxed)
        if found is not None:
            return found
    for line in reversed([line for line in text.splitlines() if line.strip()]):
        written = plain_signs(plain(line[-MAX_PAYLOAD_CHARS:]))
        for span in reversed(ARITHMETIC_SPAN.findall(written)):
            if re.search(r"[-+*/]", span) and evaluate(span) is not None:
                return spaceless(span)
    return None


def _expression_in(payload: str, *, boxed: bool) -> str | None:
    written = plain_signs(plain(payload.strip().strip("`$").removeprefix("**")))
    written = written.strip(" \t`$").removesuffix("**").rstrip(" .;,$`")
    sides = [side.strip(" $`*") for side in written.split("=")]
    worked = [side for side in sides if evaluate(side) is not None]
    if worked:
        return spaceless(next((s for s in worked if re.search(r"\d\s*[-+*/]", s)), worked[0]))
    for span in ARITHMETIC_SPAN.findall(written):
        if re.search(r"[-+*/]", span) and evaluate(span) is not None:
            return spaceless(span)
    if not written or (not boxed and PROSE.search(MATH_WORD.sub("", written))):
        return None
    return spaceless(written)
