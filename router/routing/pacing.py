"""Pacing while serving: where paced budgets stand, and what that makes of a request's price."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cost_models.budgets import Period, window, zone
from cost_models.plans import planned_share
from storage.budgets import budgets_in_force, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from policies.pacing import Pacing
    from storage.budgets import BudgetStatus
    from storage.store import Ledger

READ_AGAIN_S = 2.0
"""For how long what was spent is not read again, however many requests come."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A paced budget as it was read last: shares of its limit, the factor of the price."""

    pacing: Pacing
    scope: str
    period: str
    spent_share: float
    planned_share: float

    @property
    def factor(self) -> float:
        """Factor of the shadow price, 1 where it is the policy's own."""
        return self.pacing.factor(self.spent_share, self.planned_share)

    def __str__(self) -> str:
        """Say it for the reason of a decision."""
        return (
            f"paced: {self.factor:.3g} times the price, the {self.period} budget of {self.scope!r} "
            f"has {self.spent_share:.1%} spent, {self.planned_share:.1%} planned"
        )


def standing(status: BudgetStatus, pacing: Pacing, time_zone: str, now: datetime) -> Standing:
    """Give where a budget stands against its plan; one whose window has passed since is fresh."""
    facts = status.facts
    tz = zone(time_zone)
    present = window(Period(facts.period), now, tz)
    spent = facts.spent_nano_usd if present.start == status.window_start else 0
    share = spent / facts.limit_nano_usd if facts.limit_nano_usd else 1.0
    planned = planned_share(present, now, tz, pacing.hours)
    return Standing(pacing, facts.scope, facts.period, share, planned)


@dataclass(slots=True)
class Pacer:
    """The paced budgets, by scope and period, as one process sees them.

    ``refresh`` reads the ledger, at most every ``read_again_s``; ``pace`` only calculates.
    """

    paced: Mapping[tuple[str, str], Pacing]
    read_again_s: float = READ_AGAIN_S
    _read: dict[str, list[tuple[BudgetStatus, str]]] = field(default_factory=dict, init=False)
    _read_s: float | None = field(default=None, init=False)

    def is_due(self) -> bool:
        """Tell, once, that it is time to read the ledger again."""
        now_s = time.monotonic()
        if self._read_s is not None and now_s - self._read_s < self.read_again_s:
            return False
        self._read_s = now_s
        return True

    def refresh(self, ledger: Ledger, now: datetime) -> None:
        """Read what was spent of each paced budget."""
        scopes = sorted({scope for scope, _ in self.paced})

        def read(session: Session) -> dict[str, list[tuple[BudgetStatus, str]]]:
            found: dict[str, list[tuple[BudgetStatus, str]]] = {}
            for known in budgets_in_force(session, scopes):
                budget = known.budget
                if (budget.scope, budget.period.value) in self.paced:
                    status = status_of(session, known, now)
                    found.setdefault(budget.scope, []).append((status, budget.time_zone))
            return found

        self._read = ledger.read(read)

    def pace(self, scopes: Sequence[str], now: datetime) -> Standing | None:
        """Give the standing of a request's budgets with the highest price; None for no change."""
        found = [
            standing(status, self.paced[status.facts.scope, status.facts.period], zone_name, now)
            for scope in scopes
            for status, zone_name in self._read.get(scope, ())
        ]
        highest = max(found, key=lambda one: one.factor, default=None)
        return None if highest is None or highest.factor == 1.0 else highest
