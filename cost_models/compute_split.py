"""Where test-time compute goes: parts of the spend by what its calls were for, adding up to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSWER = "answer"
FIRST, FURTHER, FAILED = "first answer", "further samples", "failed calls"


@dataclass(frozen=True, slots=True)
class RoleSpend:
    """What calls of one role cost, in nano-USD.

    ``first_nano_usd`` of it is of entries' first calls and ``failed_nano_usd`` of calls that
    ended in an error; they do not overlap.
    """

    role: str
    cost_nano_usd: int
    first_nano_usd: int = 0
    failed_nano_usd: int = 0


def compute_split(spends: Iterable[RoleSpend]) -> dict[str, int]:
    """Split spend, in nano-USD: first answers, further samples, each other role, failed calls.

    Parts of 0 are left out, and the others add up to the whole.
    """
    parts: dict[str, int] = {}

    def add(name: str, amount: int) -> None:
        parts[name] = parts.get(name, 0) + amount

    for spend in spends:
        add(FAILED, spend.failed_nano_usd)
        rest = spend.cost_nano_usd - spend.failed_nano_usd
        if spend.role == ANSWER:
            add(FIRST, spend.first_nano_usd)
            add(FURTHER, rest - spend.first_nano_usd)
        else:
            add(spend.role, rest)
    return {name: amount for name, amount in parts.items() if amount}
