"""The verifier protocol: how good is an answer, judged from outside the model that gave it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class Verdict:
    """``quality`` in [0, 1], or None when the verifier cannot say; ``reason`` is for a person."""

    quality: float | None
    reason: str = ""


class Verifier(Protocol):
    """A judge of answers. ``grader`` names it in the ledger's outcomes."""

    grader: ClassVar[str]

    async def verify(self, task: Task, answer: Answer) -> Verdict:
        """Judge ``answer``; never raises on odd text."""
        ...
