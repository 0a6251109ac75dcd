"""Thresholds of budgets: each is told of once per window, by whichever process sees it first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from cost_models.money import to_usd
from storage.budgets import budgets_in_force, status_of
from storage.holds import QUIET
from storage.models import BudgetWindowRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.budgets import BudgetStatus, KnownBudget

THRESHOLDS = (50, 80, 100)
"""Per cent of a limit that is spent."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget that has spent ``percent`` of its limit or more, for the first time in a window."""

    status: BudgetStatus
    percent: int

    def __str__(self) -> str:
        """Say it in one line, for a person."""
        facts = self.status.facts
        until = f", until {facts.resets_at.isoformat()}" if facts.resets_at else ""
        soft = "soft " if self.status.soft else ""
        return (
            f"the {soft}{facts.period} budget of {facts.scope!r} has spent {self.percent} % "
            f"or more: {to_usd(facts.spent_nano_usd):.9f} of "
            f"{to_usd(facts.limit_nano_usd):.9f} USD{until}"
        )


def thresholds_passed(session: Session, now: datetime) -> list[tuple[KnownBudget, Alert]]:
    """Give the highest threshold passed by each budget, unless it was told of; writes nothing."""
    found = []
    for known in budgets_in_force(session):
        status = status_of(session, known, now)
        facts = status.facts
        passed = [
            percent
            for percent in THRESHOLDS
            if 0 < facts.limit_nano_usd * percent <= 100 * facts.spent_nano_usd
        ]
        if passed and _told(session, known, status) < passed[-1]:
            found.append((known, Alert(status, passed[-1])))
    return found


def take_alerts(session: Session, now: datetime) -> list[Alert]:
    """Mark what was passed as told of, and give what nobody else has taken meanwhile."""
    taken = []
    for known, alert in thresholds_passed(session, now):
        mine = session.execute(
            update(BudgetWindowRow)
            .where(
                BudgetWindowRow.budget_id == known.budget_id,
                BudgetWindowRow.window_start == alert.status.window_start,
                BudgetWindowRow.alerted_percent < alert.percent,
            )
            .values(alerted_percent=alert.percent)
            .returning(BudgetWindowRow.budget_id),
            execution_options=QUIET,
        ).one_or_none()
        if mine is not None:
            taken.append(alert)
    return taken


def _told(session: Session, known: KnownBudget, status: BudgetStatus) -> int:
    told = session.scalar(
        select(BudgetWindowRow.alerted_percent).where(
            BudgetWindowRow.budget_id == known.budget_id,
            BudgetWindowRow.window_start == status.window_start,
        )
    )
    return told or 0
