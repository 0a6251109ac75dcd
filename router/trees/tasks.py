"""What a tree of thoughts is about: prompts, what a reply means, and what is known by rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE_WORDS = {"sure": 20.0, "likely": 1.0, "maybe": 1.0, "impossible": 0.001}
"""Worth of a verdict in words; the weights of Yao et al. (2023), appendix B."""

VALUE_WORD = re.compile(rf"\b({'|'.join(VALUE_WORDS)})\b", re.IGNORECASE)
VOTE = re.compile(r"\bchoice\W{0,6}(\d{1,3})\b", re.IGNORECASE)
BARE_VOTE = re.compile(r"\A\W{0,4}(\d{1,3})\b")


class Puzzle(Protocol):
    """One task for a tree search, made from the text of a question.

    Prompts are appended to the question; what they say last is the instruction, so that a prompt
    cut to its end keeps it. A state is text.
    """

    name: ClassVar[str]

    @property
    def depth(self) -> int:
        """How many thoughts lead to an end."""
        ...

    def proposing(self, state: str, depth: int) -> str:
        """Ask for next thoughts after ``state``, several in one reply."""
        ...

    def proposals(self, state: str, reply: str, depth: int) -> Sequence[str]:
        """Read the new states out of a reply; those that break a rule are left out."""
        ...

    def sampling(self, state: str, depth: int) -> str:
        """Ask for one next thought after ``state``."""
        ...

    def extended(self, state: str, reply: str, depth: int) -> str | None:
        """Give the state that a sampled reply leads to; None where it leads nowhere."""
        ...

    def valuing(self, state: str, depth: int) -> str:
        """Ask how good ``state`` is."""
        ...

    def known_value(self, state: str, depth: int) -> float | None:
        """Value a state by rule; None where the model must be asked."""
        ...

    def key(self, state: str) -> str:
        """Give what the value of ``state`` depends on."""
        ...

    def answer(self, state: str) -> str:
        """Give the text that a client reads for a final state."""
        ...


def value_of(reply: str) -> float:
    """Read a verdict in words, the last one said; 0 where there is none."""
    said = VALUE_WORD.findall(reply)
    return VALUE_WORDS[said[-1].lower()] if said else 0.0


def voted(reply: str, n_choices: int) -> int | None:
    """Read a vote as a position from 0; None where it is for none of the choices."""
    said = VOTE.findall(reply) or BARE_VOTE.findall(reply)
    number = int(said[-1]) if said else 0
    return number - 1 if 1 <= number <= n_choices else None
