"""Spend, and what it bought, sliced by any dimension: in each, slices add up to the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cost_models.accuracy import GradeSums, Standing, accuracy, against_target
from cost_models.types import Arm
from cost_models.unit_costs import cost_per_correct
from storage.models import EntryStatus
from storage.rollups import BINS, ENTRY_KEYS, UNKNOWN_BIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cost_models.accuracy import Estimate
    from storage.sums import Figures, Sums

ARM, DIFFICULTY = "arm", "difficulty"
UNTAGGED = ""
"""Name of the slice of a team that has none."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What closed entries of one ``name`` did: those charged, settled or in doubt.

    ``cost_nano_usd`` is None where none is closed, as no cost is known then; ``n_open`` more have
    none yet. ``n_failed`` ended in an error and answered nothing. Slices add.
    """

    name: str
    n_closed: int = 0
    n_open: int = 0
    n_failed: int = 0
    n_in_doubt: int = 0
    cost_nano_usd: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    grades: GradeSums = field(default_factory=GradeSums)

    @property
    def n_answered(self) -> int:
        """Closed entries that neither failed nor are in doubt."""
        return self.n_closed - self.n_failed - self.n_in_doubt

    @property
    def accuracy(self) -> Estimate | None:
        """Share of right ones among the answered; None with too few grades."""
        return accuracy(self.grades)

    @property
    def usd_per_correct(self) -> Estimate | None:
        """USD of one right answer: all that was charged, also for what failed, over right ones."""
        if self.cost_nano_usd is None:
            return None
        return cost_per_correct(self.cost_nano_usd, self.n_answered, self.grades)

    def plus(self, other: Slice) -> Slice:
        """Add another slice to this one, under this one's name."""
        costs = [c for c in (self.cost_nano_usd, other.cost_nano_usd) if c is not None]
        return Slice(
            self.name,
            self.n_closed + other.n_closed,
            self.n_open + other.n_open,
            self.n_failed + other.n_failed,
            self.n_in_doubt + other.n_in_doubt,
            sum(costs) if costs else None,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.grades + other.grades,
        )

    def to_dict(self, target: float | None = None) -> dict[str, Any]:
        """Give plain values for JSON, with how the accuracy stands to a target if there is one."""
        right, each = self.accuracy, self.usd_per_correct
        standing: dict[str, Standing] = {}
        if target is not None:
            standing["standing"] = against_target(self.grades, target)
        return {
            "name": self.name,
            "n_closed": self.n_closed,
            "n_open": self.n_open,
            "n_answered": self.n_answered,
            "n_failed": self.n_failed,
            "n_in_doubt": self.n_in_doubt,
            "n_graded": self.grades.n,
            "cost_nano_usd": self.cost_nano_usd,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "accuracy": None if right is None else right.to_dict(),
            "usd_per_correct": None if each is None else each.to_dict(),
            **standing,
        }


def entry_slices(sums: Sums) -> dict[str, tuple[Slice, ...]]:
    """Slice sums of entries by all of `storage.rollups.ENTRY_KEYS`, by each of these and by arm."""
    found = [(dict(zip(ENTRY_KEYS, key, strict=True)), figures) for key, figures in sums.items()]
    cells = [(key, _entry_slice(key, figures)) for key, figures in found]
    by = {name: _added((str(key[name]), cell) for key, cell in cells) for name in ENTRY_KEYS}
    arms = ((str(Arm(key["model"], key["strategy"])), cell) for key, cell in cells)
    return {ARM: _added(arms), **by}


def difficulty_slices(sums: Sums) -> tuple[Slice, ...]:
    """Slice sums of decisions by model, strategy and difficulty into bins, the easiest first."""
    bins: dict[str, Slice] = {}
    for (_, _, number), figures in sorted(sums.items(), key=lambda item: int(item[0][2])):
        name = bin_name(int(number))
        cell = Slice(
            name,
            n_closed=figures["n_entries"] or 0,
            n_failed=figures["n_failed"] or 0,
            n_in_doubt=figures["n_in_doubt"] or 0,
            cost_nano_usd=figures["cost_nano_usd"],
            prompt_tokens=figures["prompt_tokens"] or 0,
            completion_tokens=figures["completion_tokens"] or 0,
            grades=grades_of(figures),
        )
        bins[name] = bins[name].plus(cell) if name in bins else cell
    return tuple(bins.values())


def bin_name(number: int) -> str:
    """Name a bin by its bounds: ``0.2-0.4``; ``unknown`` where no difficulty was predicted."""
    if number == UNKNOWN_BIN:
        return "unknown"
    bounds = (0.0, *BINS, 1.0)
    return f"{bounds[number]:g}-{bounds[number + 1]:g}"


def grades_of(figures: Figures) -> GradeSums:
    """Take the moments of grades out of figures."""
    return GradeSums(
        figures["n_graded"] or 0,
        figures["weight_sum"] or 0.0,
        figures["weighted_quality"] or 0.0,
        figures["weight2_sum"] or 0.0,
        figures["weight2_quality"] or 0.0,
        figures["weight2_quality2"] or 0.0,
    )


def _entry_slice(key: Mapping[str, Any], figures: Figures) -> Slice:
    n_entries, n_closed = figures["n_entries"] or 0, figures["n_costed"] or 0
    doubted = key["status"] == EntryStatus.IN_DOUBT
    return Slice(
        "",
        n_closed=n_closed,
        n_open=n_entries - n_closed,
        n_failed=figures["n_failed"] or 0,
        n_in_doubt=n_closed if doubted else 0,
        cost_nano_usd=figures["cost_nano_usd"],
        prompt_tokens=figures["prompt_tokens"] or 0,
        completion_tokens=figures["completion_tokens"] or 0,
        grades=grades_of(figures),
    )


def _added(cells: Iterable[tuple[str, Slice]]) -> tuple[Slice, ...]:
    """Add cells up by name; the dearest first."""
    slices: dict[str, Slice] = {}
    for name, cell in cells:
        slices[name] = slices.get(name, Slice(name)).plus(cell)
    return tuple(sorted(slices.values(), key=lambda s: (-(s.cost_nano_usd or 0), s.name)))
