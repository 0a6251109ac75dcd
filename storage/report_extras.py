"""What a report tells beside the facts of its period: policies, alerts, corrections, what next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select

from cost_models.budgets import zone
from cost_models.errors import NotEnoughDataError
from cost_models.forecast import forecast
from cost_models.money import NANO_PER_USD
from storage.budgets import budgets_in_force
from storage.facts import LOOK_BACK
from storage.measured import SEED, Refused
from storage.models import AdjustmentRow, BudgetRow, BudgetWindowRow, EntryRow, PolicyRow
from storage.rollups import within
from storage.series import days, hourly, midnights
from storage.sums import call_sums, sources

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.forecast import Forecast

    Period = tuple[datetime, datetime]

ORGANISATION = "organisation"


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """A budget's window of which an alert was sent: at its highest threshold, or by forecast."""

    scope: str
    period: str
    window_start: datetime
    percent: int
    by_forecast: bool


@dataclass(frozen=True, slots=True)
class Extras:
    """What stands beside the facts of a period.

    ``policy`` was in service at its end, None for none. ``promoted`` are versions and when they
    were put in service last, inside the period. ``reasoning_tokens`` of ``output_tokens`` were
    reported as reasoning. ``corrections`` are how many amounts were corrected, by kind, and by how
    many nano-USD.
    """

    policy: str | None
    promoted: tuple[tuple[str, datetime], ...]
    alerts: tuple[ToldAlert, ...]
    reasoning_tokens: int
    output_tokens: int
    corrections: dict[str, tuple[int, int]]


def read_extras(session: Session, since: datetime, until: datetime) -> Extras:
    """Read what happened beside the calls of [``since``, ``until``)."""
    row = PolicyRow
    served = session.execute(
        select(row.version, row.promoted_at)
        .where(row.promoted_at.is_not(None), row.promoted_at < until)
        .order_by(row.promoted_at, row.version)
    ).all()
    (tokens,) = call_sums(session, sources(session, since, until), ()).values() or ({},)
    return Extras(
        policy=served[-1][0] if served else None,
        promoted=tuple((version, at) for version, at in served if at is not None and at >= since),
        alerts=_alerts(session, since, until),
        reasoning_tokens=int(tokens.get("reasoning_tokens") or 0),
        output_tokens=int(tokens.get("completion_tokens") or 0),
        corrections=_corrections(session, since, until),
    )


def organisation_limit(session: Session, since: datetime, end: datetime) -> int | None:
    """Give the organisation's limit, nano-USD, for exactly [``since``, ``end``); None without."""
    for known in budgets_in_force(session, (ORGANISATION,)):
        if tuple(known.window(since)) == (since, end):
            return known.budget.limit_nano_usd
    return None


def next_spend(
    session: Session, until: datetime, end: datetime, time_zone: str, limit_nano_usd: int | None
) -> Forecast | Refused:
    """Forecast what is spent in [``until``, ``end``), from the days before ``until``."""
    tz, first = zone(time_zone), until - LOOK_BACK
    hours = hourly(session, sources(session, first, until), midnights(first, until, tz))
    begun = min((hour.start for hour in hours), default=until)
    complete = [day for day in days(hours, tz, max(first, begun), until) if day.complete]
    ahead = (end.astimezone(tz).date() - until.astimezone(tz).date()).days
    try:
        return forecast(
            np.array([day.cost_nano_usd / NANO_PER_USD for day in complete]),
            complete[0].day.weekday() if complete else 0,
            ahead,
            np.random.default_rng(SEED),
            limit_usd=None if limit_nano_usd is None else limit_nano_usd / NANO_PER_USD,
        )
    except NotEnoughDataError as error:
        return Refused(str(error))


def _alerts(session: Session, since: datetime, until: datetime) -> tuple[ToldAlert, ...]:
    window = BudgetWindowRow
    found = session.execute(
        select(
            BudgetRow.scope,
            BudgetRow.period,
            window.window_start,
            window.alerted_percent,
            window.forecast_told,
        )
        .join(BudgetRow, BudgetRow.id == window.budget_id)
        .where(
            within(window.window_start, [(since, until)]),
            (window.alerted_percent > 0) | window.forecast_told,
        )
        .order_by(window.window_start, BudgetRow.scope)
    )
    return tuple(ToldAlert(*row) for row in found)


def _corrections(session: Session, since: datetime, until: datetime) -> dict[str, tuple[int, int]]:
    amount = AdjustmentRow.amount_nano_usd
    found: list[tuple[Any, ...]] = [
        tuple(row)
        for row in session.execute(
            select(AdjustmentRow.kind, func.count(), func.sum(amount))
            .join(EntryRow, EntryRow.id == AdjustmentRow.entry_id)
            .where(within(EntryRow.started_at, [(since, until)]))
            .group_by(AdjustmentRow.kind)
            .order_by(AdjustmentRow.kind)
        )
    ]
    return {str(kind): (int(n), int(total)) for kind, n, total in found}
