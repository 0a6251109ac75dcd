"""Choices out of text: a letter of a list of options, or yes and no."""

from __future__ import annotations

import re

from router.answers.payloads import MAX_CHARS, MAX_PAYLOAD_CHARS, payloads
from router.notation import plain

LETTER = r"[A-J]"
CHOICE_ALONE = re.compile(
    rf"[\s*_\"'(\[]*(?:(?:the\s+)?(?:option|choice|answer)\s+)?[(\[]?"
    rf"(?:(?P<letter>{LETTER}|[a-j](?=[)\].:]|\W*$))|(?P<word>yes|no|true|false))\b",
    re.IGNORECASE,
)
CHOICE_IN_PARENTHESES = re.compile(rf"[(\[]({LETTER})[)\]]")
OPTION_WORD = re.compile(rf"\b(?:option|choice)\s+[(\[\"']?({LETTER})\b", re.IGNORECASE)
YES_OR_NO = re.compile(r"\b(yes|no)(?=\W*$|[.,!;)])", re.IGNORECASE)
APOSTROPHES = ("'", "\N{RIGHT SINGLE QUOTATION MARK}")
TRUTH = {"yes": "yes", "no": "no", "true": "yes", "false": "no"}


def choice_in_text(text: str) -> str | None:
    """Give the letter, or yes or no, that a reply chooses; None where there is none."""
    text = text[-MAX_CHARS:].strip()
    for payload, _ in payloads(text):
        found = _choice_at_start(plain(payload), explicit=True)
        if found is not None:
            return found
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    last = lines[-1][-MAX_PAYLOAD_CHARS:]
    for pattern in (OPTION_WORD, CHOICE_IN_PARENTHESES):
        letters = pattern.findall(last)
        if letters:
            return str(letters[-1]).upper()
    for line in (last, lines[0][:MAX_PAYLOAD_CHARS]):
        found = _choice_at_start(line, explicit=False)
        if found is not None:
            return found
    words = YES_OR_NO.findall(last)
    return str(words[-1]).lower() if words else None


def _choice_at_start(line: str, *, explicit: bool) -> str | None:
    """Choice that ``line`` begins with, when that is not a word of its sentence."""
    match = CHOICE_ALONE.match(line)
    if match is None:
        return None
    rest = line[match.end() :]
    if match["word"]:
        is_apart = explicit or not rest.strip() or rest.lstrip("*_\"' ")[:1] in tuple(".,!;:-")
        return TRUTH[match["word"].lower()] if is_apart else None
    letter = str(match["letter"]).upper()
    is_word = letter in "AI" and re.match(r"\s+[A-Za-z]", rest)
    if explicit and re.match(r"\s+(?:is|because|since|as)\b", rest):
        is_word = None
    return None if is_word or rest[:1] in APOSTROPHES else letter
