"""Outcomes of every query and arm, recorded and derived, in one rectangle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.recipes import play

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.outcomes import OutcomeTable
    from policies.recipes import Recipe


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """What each arm gave on each query; the first ``n_recorded`` arms are recorded ones.

    Attributes
    ----------
    texts : tuple of str, length n
    arms : tuple of Arm, length n_arms
        Recorded arms first, then those of recipes.
    quality, cost_usd, completion_tokens, calls : ndarray of shape (n, n_arms)
        Means over samples; NaN where not recorded. ``calls`` counts samples or stages.
    n_recorded : int
    """

    texts: tuple[str, ...]
    arms: tuple[Arm, ...]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    completion_tokens: NDArray[np.float64]
    calls: NDArray[np.float64]
    n_recorded: int

    @classmethod
    def of(
        cls,
        table: OutcomeTable,
        recipes: Iterable[Recipe] = (),
        cost_usd: NDArray[np.float64] | None = None,
        seed: int = 0,
    ) -> OutcomeMatrix:
        """Lay out a table; ``cost_usd`` (n, recorded arms) replaces the recorded cost."""
        quality = table.quality_matrix()
        recorded_usd = table.matrix("cost_usd") if cost_usd is None else cost_usd
        tokens = table.matrix("completion_tokens")
        once = np.where(np.isnan(quality), np.nan, 1.0)
        played = play(recipes, table, seed)
        made = [played[arm] for arm in played]

        def beside(left: NDArray[np.float64], *right: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack([left, *right])

        return cls(
            texts=table.queries,
            arms=(*table.arms, *played),
            quality=beside(quality, *(p.quality for p in made)),
            cost_usd=beside(recorded_usd, *(p.cost_usd for p in made)),
            completion_tokens=beside(tokens, *(np.full(len(quality), np.nan) for _ in made)),
            calls=beside(once, *(p.calls for p in made)),
            n_recorded=len(table.arms),
        )

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Where both quality and cost are known, shape (n, n_arms)."""
        return np.asarray(~np.isnan(self.quality + self.cost_usd))

    def rows(self, index: NDArray[np.intp]) -> OutcomeMatrix:
        """Pick queries, in that order."""
        return OutcomeMatrix(
            tuple(self.texts[i] for i in index),
            self.arms,
            self.quality[index],
            self.cost_usd[index],
            self.completion_tokens[index],
            self.calls[index],
            self.n_recorded,
        )

    def of_arms(self, keep: Iterable[Arm]) -> OutcomeMatrix:
        """Keep some arms, in the order that they have here."""
        wanted = set(keep)
        columns = [i for i, arm in enumerate(self.arms) if arm in wanted]
        return OutcomeMatrix(
            self.texts,
            tuple(self.arms[i] for i in columns),
            self.quality[:, columns],
            self.cost_usd[:, columns],
            self.completion_tokens[:, columns],
            self.calls[:, columns],
            sum(i < self.n_recorded for i in columns),
        )

    def without_costs(self) -> OutcomeMatrix:
        """Take every cost for 0, for outcomes of which none is priced."""
        free = np.where(np.isnan(self.quality), np.nan, 0.0)
        return OutcomeMatrix(
            self.texts,
            self.arms,
            self.quality,
            free,
            self.completion_tokens,
            self.calls,
            self.n_recorded,
        )
