"""Steps of a worked answer, and one quality out of the qualities of its steps.

Sources: Lightman et al. (2023), arXiv:2305.20050 (product, min); Snell et al. (2024),
arXiv:2408.03314 (last).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from router.parameters import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_STEPS = 64
MAX_CHARS = 40_000
PARAGRAPHS = re.compile(r"\n[ \t]*\n")
AGGREGATIONS = ("min", "product", "last", "mean")


def aggregation() -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare how step qualities become one."""
    return one_of(*AGGREGATIONS[:1], *AGGREGATIONS)


def split_steps(text: str) -> tuple[str, ...]:
    """Split a worked answer: by blank lines where there are any, else by lines.

    At most `MAX_STEPS`; what follows belongs to the last.
    """
    text = text[:MAX_CHARS]
    parts = [part.strip() for part in PARAGRAPHS.split(text) if part.strip()]
    if len(parts) <= 1:
        parts = [line.strip() for line in text.splitlines() if line.strip()]
    if len(parts) > MAX_STEPS:
        parts = [*parts[: MAX_STEPS - 1], "\n".join(parts[MAX_STEPS - 1 :])]
    return tuple(parts)


def aggregate(qualities: Sequence[float | None], how: str) -> float | None:
    """Make one quality in [0, 1] of those of the steps; None where no step was judged."""
    judged = [quality for quality in qualities if quality is not None]
    if not judged:
        return None
    if how == "min":
        return min(judged)
    if how == "product":
        return math.prod(judged)
    return judged[-1] if how == "last" else math.fsum(judged) / len(judged)
