"""How answers fare by how hard their questions were expected to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cost_models.money import NANO_PER_USD
from storage.rollups import BINS
from storage.slices import DIFFICULTY

if TYPE_CHECKING:
    from router.reports.reading import Material
    from storage.slices import Slice

    Plain = dict[str, Any]

UNKNOWN = "unknown"
NAMES = ("easiest", "easy", "middling", "hard", "hardest")
BOUNDS = (0.0, *BINS)


def difficulty(material: Material) -> Plain:
    """Give, for each bin of predicted difficulty, its answers, cost and accuracy against target.

    Only questions that were routed have a prediction; those for a model by name are left out.
    """
    target = material.facts.asked.target
    slices = material.facts.by[DIFFICULTY]
    routed = sum(part.n_answered for part in slices)
    return {
        "title": "Which questions go wrong",
        "target": target,
        "rows": [_row(part, routed, target) for part in slices],
        "empty": None if slices else "no question was routed in this period",
    }


def _row(part: Slice, routed: int, target: float | None) -> Plain:
    right, each = part.accuracy, part.usd_per_correct
    cost = part.cost_nano_usd
    mean = cost / NANO_PER_USD / part.n_answered if cost is not None and part.n_answered else None
    return {
        "name": _name(part.name),
        "bin": part.name,
        "n_answered": part.n_answered,
        "share": part.n_answered / routed if routed else None,
        "cost_nano_usd": cost,
        "usd_per_answer": mean,
        "accuracy": None if right is None else right.to_dict(),
        "standing": None if target is None else part.to_dict(target)["standing"],
        "usd_per_correct": None if each is None else each.to_dict(),
    }


def _name(bounds: str) -> str:
    """``easiest, 0-0.2``: the bin in words, with its bounds."""
    if bounds == UNKNOWN:
        return "not predicted"
    lower = float(bounds.partition("-")[0])
    return f"{NAMES[BOUNDS.index(lower)]}, {bounds}"
