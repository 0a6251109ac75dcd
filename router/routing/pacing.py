"""Pacing while serving: where paced budgets stand, and what that makes of a request's price."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage.forecasts import outlook

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from storage.budgets import BudgetStatus
    from storage.forecasts import Outlook, Paced
    from storage.store import Ledger

READ_AGAIN_S = 2.0
"""For how long what was spent is not read again, however many requests come."""


@dataclass(slots=True)
class Pacer:
    """The paced budgets, by scope and period, as one process sees them.

    ``refresh`` reads the ledger, at most every ``read_again_s``; ``pace`` only calculates.
    """

    paced: Paced
    read_again_s: float = READ_AGAIN_S
    _read: dict[str, list[BudgetStatus]] = field(default_factory=dict, init=False)
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
        found: dict[str, list[BudgetStatus]] = {}
        for status in ledger.budget_status(now, sorted({scope for scope, _ in self.paced})):
            if (status.facts.scope, status.facts.period) in self.paced:
                found.setdefault(status.facts.scope, []).append(status)
        self._read = found

    def pace(self, scopes: Sequence[str], now: datetime) -> Outlook | None:
        """Give the outlook of a request's budgets with the highest price; None for no change.

        A budget whose window has ended since it was read has nothing spent in the next one.
        """
        found = [
            seen
            for scope in scopes
            for status in self._read.get(scope, ())
            if not _is_over(status, now) and (seen := outlook(status, now, self.paced)) is not None
        ]
        highest = max(found, key=lambda one: one.factor, default=None)
        return None if highest is None or highest.factor == 1.0 else highest


def _is_over(status: BudgetStatus, now: datetime) -> bool:
    resets_at = status.facts.resets_at
    return resets_at is not None and now >= resets_at
