"""Free text as a tree of two levels: plans, then texts that follow the best plan.

Source: Yao et al. (2023), arXiv:2305.10601, section 4.2 (creative writing).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

PLANS_SEPARATOR = "\n---\n"


@dataclass(frozen=True, slots=True)
class Text:
    """Any request: ``hint`` says in which form the final answer is wanted, empty for free text."""

    name: ClassVar[str] = "text"

    hint: str = ""
    depth: int = 2

    def proposing(self, state: str, depth: int) -> str:
        """Ask for several plans, or for several texts after a plan."""
        ask = self.sampling(state, depth)
        return f"{ask} Give up to 5 different ones, separated by lines that are only '---'."

    def proposals(self, state: str, reply: str, depth: int) -> Sequence[str]:  # noqa: ARG002 - protocol
        """Split the reply at its separators."""
        parts = (part.strip() for part in reply.split(PLANS_SEPARATOR))
        return tuple(dict.fromkeys(part for part in parts if part))

    def sampling(self, state: str, depth: int) -> str:
        """Ask for a plan first, then for the answer that follows it."""
        if depth == 0:
            return "Do not answer yet. Write a short plan of how to answer well, in a few lines."
        wanted = f" {self.hint}" if self.hint else ""
        return f"A plan for the answer:\n{state}\n\nFollow this plan and write the answer.{wanted}"

    def extended(self, state: str, reply: str, depth: int) -> str | None:  # noqa: ARG002 - protocol
        """Take the reply as the new state: a plan stays behind once the text is there."""
        return reply or None

    def valuing(self, state: str, depth: int) -> str:
        """Ask how good a plan or an answer is."""
        what = "plan for an answer" if depth == 0 else "answer"
        return (
            f"A {what}:\n{state}\n\nHow good is it? Analyse it briefly. End with one last line "
            "that is only one word: sure (it is right and good), likely, or impossible."
        )

    def known_value(self, state: str, depth: int) -> float | None:  # noqa: ARG002 - protocol
        """Know nothing by rule."""
        return None

    def key(self, state: str) -> str:
        """Give the whole text."""
        return state

    def answer(self, state: str) -> str:
        """Give the text."""
        return state
