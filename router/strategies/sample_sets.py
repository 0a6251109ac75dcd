"""Showing a set of samples to the model: the text, bounded, and the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.strategies.prompts import carried_bytes, hint_bound, shown_text, tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.types import Sample, Task

LABEL = "Response {i}:\n"
LABEL_BYTES = len(LABEL) + 4


def listed(task: Task, samples: Sequence[Sample], ask: str) -> str:
    """Write samples under one another, numbered, each cut to its end, with ``ask`` after them."""
    n_bytes = carried_bytes(task)
    shown = (
        f"{LABEL.format(i=i)}{tail(shown_text(sample), n_bytes)}"
        for i, sample in enumerate(samples, start=1)
    )
    return "\n\n".join((*shown, ask))


def listed_bound(task: Task, n: int, ask: str) -> int:
    """Bound the tokens that ``listed`` of ``n`` samples adds as a hint."""
    return hint_bound("x" * (n * (carried_bytes(task) + LABEL_BYTES + 2) + len(ask.encode())))
