"""Where a budget stands against its plan, and where its spending leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from cost_models.budgets import Window, zone
from cost_models.plans import planned_share, projected

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from policies.pacing import Pacing
    from storage.budgets import BudgetStatus

    Paced: TypeAlias = Mapping[tuple[str, str], Pacing]
    """Laws of the budgets that are paced, by scope and period."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A budget against the plan of its window: shares of its limit, and what it comes to.

    ``pacing`` is its law, None where it is not paced. ``projected_nano_usd`` is None where it is
    too early to tell.
    """

    status: BudgetStatus
    pacing: Pacing | None
    planned_share: float
    projected_nano_usd: int | None

    @property
    def spent_share(self) -> float:
        """What is spent of the limit, at least 0; all of a limit of 0."""
        facts = self.status.facts
        return facts.spent_nano_usd / facts.limit_nano_usd if facts.limit_nano_usd else 1.0

    @property
    def factor(self) -> float:
        """Factor of the shadow price, 1 where nothing is paced."""
        if self.pacing is None:
            return 1.0
        return self.pacing.factor(self.spent_share, self.planned_share)

    @property
    def runs_out(self) -> bool:
        """Whether more than the limit is projected, and pacing does not hold it back.

        A paced budget spends ahead of its plan at first and still lasts: only where the price is
        as high as it may be is it told of.
        """
        if self.projected_nano_usd is None:
            return False
        held_back = self.pacing is not None and not self.pacing.is_at_most(self.factor)
        return self.projected_nano_usd > self.status.facts.limit_nano_usd and not held_back

    def __str__(self) -> str:
        """Say it for the reason of a decision."""
        facts = self.status.facts
        return (
            f"paced: {self.factor:.3g} times the price, the {facts.period} budget of "
            f"{facts.scope!r} has {self.spent_share:.1%} spent, {self.planned_share:.1%} planned"
        )


def outlook(status: BudgetStatus, now: datetime, paced: Paced) -> Outlook | None:
    """Give the outlook of a budget at a time in its window; None for one that never ends."""
    facts = status.facts
    if facts.resets_at is None:
        return None
    pacing = paced.get((facts.scope, facts.period))
    hours = None if pacing is None else pacing.hours
    present = Window(status.window_start, facts.resets_at)
    planned = planned_share(present, now, zone(status.time_zone), hours)
    comes_to = projected(facts.spent_nano_usd, facts.limit_nano_usd, planned)
    return Outlook(status, pacing, planned, comes_to)
