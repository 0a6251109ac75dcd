"""Explicit final answers in a reply: marked, boxed, or bold on its last lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


MAX_CHARS = 20_000
MAX_PAYLOAD_CHARS = 400
MAX_MARKERS = 16
N_LAST_LINES = 3
MARKER = re.compile(
    r"(?P<boxed>\\boxed\s*\{)"
    r"|^[ \t]{0,8}\#{4}[ \t](?=[ \t]{0,8}\S{1,60}[ \t]{0,8}$)"
    r"|\b(?:answer|final result)\b"
    r"(?:[*_\s]{0,4}[:=]|[^.\n:=]{0,40}?\b(?:is|are|was|equals)\b[*_\s]{0,4}:?)",
    re.IGNORECASE | re.MULTILINE,
)
BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")


def payloads(text: str) -> Iterator[tuple[str, bool]]:
    """Yield explicit final answers, last first, each with whether it was boxed."""
    for match in reversed(list(MARKER.finditer(text))[-MAX_MARKERS:]):
        if match["boxed"]:
            boxed = _braced(text, match.end())
            if boxed is not None:
                yield boxed, True
        else:
            rest = text[match.end() : match.end() + MAX_PAYLOAD_CHARS].lstrip()
            yield rest.partition("\n")[0], False
    lines = [line for line in text.splitlines() if line.strip()][-N_LAST_LINES:]
    for line in reversed(lines):
        for bold in reversed(BOLD.findall(line[-MAX_PAYLOAD_CHARS:])):
            yield bold, False


def _braced(text: str, start: int) -> str | None:
    """Text up to the brace that closes the one before ``start``."""
    depth = 1
    for i in range(start, min(len(text), start + MAX_PAYLOAD_CHARS)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i]
    return None
