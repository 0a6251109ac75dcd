"""Mini crosswords as a tree: each thought fills in one word of a 5 x 5 board.

Source: Yao et al. (2023), arXiv:2305.10601, section 4.3. A word that does not fit the letters
on the board is dropped by rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 5
PLACES = tuple(f"{way}{i}" for way in "hv" for i in range(1, SIZE + 1))
WORD = re.compile(r"\b([hv][1-5])[.:]\s*([A-Za-z]{5})\b(?:\s*\((certain|high|medium|low)\))?")
SURENESS = {"certain": 1.0, "high": 0.5, "medium": 0.2, "low": 0.1}
MAX_REPLY_CHARS = 8_000
EMPTY = "_"


@dataclass(frozen=True, slots=True)
class Crosswords:
    """A board of five rows and columns; the clues are in the question itself."""

    name: ClassVar[str] = "crosswords"

    depth: int = len(PLACES)

    def proposing(self, state: str, depth: int) -> str:  # noqa: ARG002 - protocol
        """Ask for words that fit, with how sure they are."""
        return (
            f"{self._shown(state)}\n\nGive words of five letters for clues that are still open and "
            "that fit the letters on the board, one a line, in the form 'h1. apple (certain)', "
            "where the last is certain, high, medium or low. Nothing else."
        )

    def proposals(self, state: str, reply: str, depth: int) -> Sequence[str]:  # noqa: ARG002 - protocol
        """Read words that fit, the surest first."""
        sureness: dict[str, float] = {}
        for place, word, sure in WORD.findall(reply[:MAX_REPLY_CHARS]):
            new = self._placed(state, place, word.lower())
            if new is not None:
                sureness[new] = max(sureness.get(new, 0.0), SURENESS.get(sure, 0.1))
        return tuple(sorted(sureness, key=lambda new: -sureness[new]))

    def sampling(self, state: str, depth: int) -> str:  # noqa: ARG002 - protocol
        """Ask for the one surest word."""
        return (
            f"{self._shown(state)}\n\nGive the one word of five letters that you are surest of for "
            "a clue that is still open, in the form 'h1. apple', and nothing else."
        )

    def extended(self, state: str, reply: str, depth: int) -> str | None:
        """Read the first word that fits."""
        return next(iter(self.proposals(state, reply, depth)), None)

    def valuing(self, state: str, depth: int) -> str:  # noqa: ARG002 - protocol
        """Ask whether the rest can still be filled in."""
        return (
            f"{self._shown(state)}\n\nLook at the clues that are still open and the letters that "
            "their words must have. Can all of them still be filled in? End with one last line "
            "that is only one word: sure, maybe, or impossible."
        )

    def known_value(self, state: str, depth: int) -> float | None:  # noqa: ARG002 - protocol
        """Know nothing by rule: that words fit one another is checked when they are placed."""
        return None

    def key(self, state: str) -> str:
        """Give the words on the board, whatever the order in which they came."""
        return "\n".join(sorted(state.splitlines()))

    def answer(self, state: str) -> str:
        """Give the rows of the board, letters with spaces between."""
        if not state.strip():
            return ""
        return "\n".join(" ".join(row).upper() for row in self._board(state))

    def _placed(self, state: str, place: str, word: str) -> str | None:
        """Put a word on the board; None where the place is taken or a letter differs."""
        if any(found[0] == place for found in WORD.findall(state)):
            return None
        board = self._board(state)
        for (row, column), letter in zip(_cells(place), word, strict=True):
            if board[row][column] not in {EMPTY, letter}:
                return None
        return f"{state}{place}. {word}\n"

    def _board(self, state: str) -> list[list[str]]:
        board = [[EMPTY] * SIZE for _ in range(SIZE)]
        for place, word, _ in WORD.findall(state):
            for (row, column), letter in zip(_cells(place), word.lower(), strict=True):
                board[row][column] = letter
        return board

    def _shown(self, state: str) -> str:
        rows = "\n".join(" ".join(row) for row in self._board(state))
        filled = {place for place, _, _ in WORD.findall(state)}
        still = ", ".join(place for place in PLACES if place not in filled)
        return (
            f"Board so far:\n{rows}\n\nWords filled in:\n{state.strip() or 'none'}\nOpen: {still}"
        )


def _cells(place: str) -> tuple[tuple[int, int], ...]:
    at = int(place[1]) - 1
    return tuple((at, i) if place[0] == "h" else (i, at) for i in range(SIZE))
