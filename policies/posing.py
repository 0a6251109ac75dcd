"""How a query is posed, beside its text: earlier turns, tools, images, the kind of answer asked.

Text and posing travel as one string, so that folds, orders and caches of queries see both. A
query of which nothing but the text is known, as in most files, is its text alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from policies.types import AnswerKind

MARK = "\x1e"
"""Stands before the posing; what a text itself has after its own last mark is kept apart."""
COUNTS = ("turns", "earlier_chars", "system_chars", "tools", "images", "schemas")
MAX_COUNT = 10**9


@dataclass(frozen=True, slots=True)
class Posing:
    """What a request has beside the text of its last user message; counts are at least 0.

    ``turns`` are messages before that one, system messages aside; ``earlier_chars`` and
    ``system_chars`` the characters of either; ``tools``, ``images`` and ``schemas`` (of the
    answer) what came with it. ``kind`` is what the client declared, None where it did not.
    """

    kind: AnswerKind | None = None
    turns: int = 0
    earlier_chars: int = 0
    system_chars: int = 0
    tools: int = 0
    images: int = 0
    schemas: int = 0

    def __str__(self) -> str:
        named = [("kind", self.kind)] + [(name, getattr(self, name)) for name in COUNTS]
        return " ".join(f"{name}={value}" for name, value in named if value)

    @classmethod
    def parse(cls, text: str) -> Posing:
        """Read what ``str`` gives; ValueError for anything else."""
        given: dict[str, str] = {}
        for part in text.split():
            name, _, value = part.partition("=")
            if name in given or name not in _FIELDS:
                msg = f"{text!r} is no posing; known are {', '.join(_FIELDS)}, each once"
                raise ValueError(msg)
            given[name] = value
        kind = given.pop("kind", None)
        counts = {name: int(value) for name, value in given.items()}
        if any(not 0 <= count <= MAX_COUNT for count in counts.values()):
            msg = f"{text!r} is no posing; counts are whole numbers of at least 0"
            raise ValueError(msg)
        return cls(None if kind is None else AnswerKind(kind), **counts)


_FIELDS = tuple(part.name for part in fields(Posing))
PLAIN = Posing()


def posed(text: str, posing: Posing | str) -> str:
    """Put a text and how it was posed together."""
    told = str(posing)
    return f"{text}{MARK}{told}" if told or MARK in text else text


def parted(query: str) -> tuple[str, Posing]:
    """Give back what `posed` put together."""
    text, mark, told = query.rpartition(MARK)
    if not mark:
        return query, PLAIN
    try:
        return text, Posing.parse(told)
    except ValueError:
        return query, PLAIN
