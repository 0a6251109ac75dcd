"""Thresholds and forecasts of budgets, each told once per window, by whoever sees it first."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from cost_models.money import to_usd
from storage.budgets import budgets_in_force, status_of
from storage.forecasts import outlook
from storage.holds import QUIET
from storage.models import BudgetWindowRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.budgets import BudgetStatus, KnownBudget
    from storage.forecasts import Paced

THRESHOLDS = (50, 80, 100)
"""Per cent of a limit that is spent."""

NONE_PACED: Paced = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Alert:
    """What is told of a budget, for the first time in a window.

    It has spent ``percent`` of its limit or more; or, with ``projected_nano_usd``, is on course to
    spend so much, ``percent`` of its limit, when the window ends.
    """

    status: BudgetStatus
    percent: int
    projected_nano_usd: int | None = None

    def __str__(self) -> str:
        """Say it in one line, for a person."""
        facts = self.status.facts
        until = f", until {facts.resets_at.isoformat()}" if facts.resets_at else ""
        soft = "soft " if self.status.soft else ""
        budget = f"the {soft}{facts.period} budget of {facts.scope!r}"
        limit = f"{to_usd(facts.limit_nano_usd):.9f} USD{until}"
        if self.projected_nano_usd is None:
            spent = f"{to_usd(facts.spent_nano_usd):.9f}"
            return f"{budget} has spent {self.percent} % or more: {spent} of {limit}"
        comes_to = f"{to_usd(self.projected_nano_usd):.9f}"
        return f"{budget} is on course for {self.percent} %: {comes_to} of {limit}"


def alerts_due(
    session: Session, now: datetime, paced: Paced = NONE_PACED
) -> list[tuple[KnownBudget, Alert]]:
    """Give what there is to tell of each budget and was not told of; writes nothing.

    The highest threshold that was passed, and a forecast above a limit that is not reached yet.
    ``paced`` are the laws of those whose price follows spending.
    """
    found = []
    for known in budgets_in_force(session):
        status = status_of(session, known, now)
        if status.facts.spent_nano_usd > 0 and status.facts.limit_nano_usd > 0:
            percent, forecast = _told(session, known, status)
            for alert in _alerts(status, now, paced):
                told = percent >= alert.percent if alert.projected_nano_usd is None else forecast
                if not told:
                    found.append((known, alert))
    return found


def take_alerts(session: Session, now: datetime, paced: Paced = NONE_PACED) -> list[Alert]:
    """Mark what is due as told of, and give what nobody else has taken meanwhile."""
    taken = []
    for known, alert in alerts_due(session, now, paced):
        this_one = update(BudgetWindowRow).where(
            BudgetWindowRow.budget_id == known.budget_id,
            BudgetWindowRow.window_start == alert.status.window_start,
        )
        if alert.projected_nano_usd is None:
            fresh = BudgetWindowRow.alerted_percent < alert.percent
            marking = this_one.where(fresh).values(alerted_percent=alert.percent)
        else:
            marking = this_one.where(~BudgetWindowRow.forecast_told).values(forecast_told=True)
        mine = session.execute(
            marking.returning(BudgetWindowRow.budget_id), execution_options=QUIET
        ).one_or_none()
        if mine is not None:
            taken.append(alert)
    return taken


def _alerts(status: BudgetStatus, now: datetime, paced: Paced) -> Iterator[Alert]:
    facts = status.facts
    passed = [
        percent
        for percent in THRESHOLDS
        if facts.limit_nano_usd * percent <= 100 * facts.spent_nano_usd
    ]
    if passed:
        yield Alert(status, passed[-1])
    seen = outlook(status, now, paced)
    reached = facts.spent_nano_usd >= facts.limit_nano_usd
    if seen is not None and seen.projected_nano_usd is not None and seen.runs_out and not reached:
        percent = 100 * seen.projected_nano_usd // facts.limit_nano_usd
        yield Alert(status, percent, seen.projected_nano_usd)


def _told(session: Session, known: KnownBudget, status: BudgetStatus) -> tuple[int, bool]:
    """Give the highest threshold of a window that was told of, and whether its forecast was."""
    told = session.execute(
        select(BudgetWindowRow.alerted_percent, BudgetWindowRow.forecast_told).where(
            BudgetWindowRow.budget_id == known.budget_id,
            BudgetWindowRow.window_start == status.window_start,
        )
    ).one_or_none()
    return (0, False) if told is None else (told[0], told[1])
