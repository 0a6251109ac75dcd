"""Charges by hour or day (UTC), read from the rollups and the corrections: the sum is the report's.

The cost in the rollups is corrected already, so that what calls were charged at first is that less
the corrections, which are few and read from their rows.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from sqlalchemy import func, literal_column, select

from cost_models.charges import (
    ChargedTo,
    Charges,
    CorrectionCharge,
    GrantCharge,
    UsageCharge,
)
from cost_models.types import Usage
from storage.marks import hour_of
from storage.models import (
    IMPORTED,
    AdjustmentRow,
    BudgetRow,
    CallRow,
    EntryRow,
    GrantRow,
    MetaRow,
    RequestRow,
)
from storage.rollups import CALL_KEYS, HOUR, LOST, USAGE
from storage.sums import call_sums, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from storage.sums import Figures

DAY = timedelta(days=1)


def read_charges(session: Session, since: datetime, until: datetime, grain: timedelta) -> Charges:
    """Read what began in [``since``, ``until``), by pieces of ``grain``: `HOUR` or `DAY`.

    Only pieces at the ends are shorter. Sums of usage and corrections are what
    `storage.reports.totals` says of the same time, to the nano-USD. Imported history was not paid
    here and is left out.
    """
    usage: list[UsageCharge] = []
    corrections: list[CorrectionCharge] = []
    for start, end in pieces(since, until, grain):
        found = call_sums(session, sources(session, start, end), CALL_KEYS)
        if not found:
            continue
        corrected = _corrections(session, start, end)
        corrections += corrected
        added: defaultdict[ChargedTo, int] = defaultdict(int)
        for each in corrected:
            added[each.to] += each.amount_nano_usd
        for key, figures in sorted(found.items(), key=lambda item: [str(k) for k in item[0]]):
            to = ChargedTo(*(str(part) for part in key))
            usage.append(_usage(start, end, to, figures, added[to]))
    ledger_id = session.scalar(select(MetaRow.value).where(MetaRow.key == "ledger_id"))
    return Charges(
        str(ledger_id), tuple(usage), tuple(corrections), tuple(_grants(session, since, until))
    )


def pieces(
    since: datetime, until: datetime, grain: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Cut [``since``, ``until``) at whole hours, or at midnights of UTC."""
    cuts = [since.astimezone(UTC)]
    at = floor(since, grain)
    while (at := at + grain) < until:
        cuts.append(at)
    yield from pairwise([*cuts, until.astimezone(UTC)])


def floor(at: datetime, grain: timedelta) -> datetime:
    """Give the start of the hour or day (UTC) that a time is in."""
    hour = hour_of(at)
    return hour if grain == HOUR else datetime.combine(hour.date(), time(), UTC)


def _usage(
    start: datetime, end: datetime, to: ChargedTo, figures: Figures, corrected: int
) -> UsageCharge:
    usage = {name: int(figures[name] or 0) for name in USAGE}
    n_calls = int(figures["n_calls"] or 0)
    cost = int(figures["cost_nano_usd"] or 0) - corrected
    used = Usage(
        n_calls=n_calls - int(figures["n_failed"] or 0),
        **usage,
        estimated=bool(figures["n_estimated"]),
    )
    return UsageCharge(start, end, to, n_calls, used, cost)


def _corrections(session: Session, start: datetime, end: datetime) -> list[CorrectionCharge]:
    """Sum the corrections up of what began in [``start``, ``end``)."""
    empty: ColumnElement[str] = literal_column("''")
    rows = session.execute(
        select(
            func.coalesce(CallRow.model, EntryRow.model),
            EntryRow.strategy,
            func.coalesce(CallRow.provider, empty),
            RequestRow.tenant,
            func.coalesce(RequestRow.team, empty),
            func.coalesce(CallRow.role, literal_column(f"'{LOST}'")),
            EntryRow.status,
            AdjustmentRow.kind,
            AdjustmentRow.recorded_at,
            AdjustmentRow.amount_nano_usd,
        )
        .join(EntryRow, EntryRow.id == AdjustmentRow.entry_id)
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .outerjoin(CallRow, CallRow.id == AdjustmentRow.call_id)
        .where(
            EntryRow.replica_id != IMPORTED,
            EntryRow.started_at >= start,
            EntryRow.started_at < end,
        )
    )
    sums: defaultdict[tuple[ChargedTo, str, datetime], int] = defaultdict(int)
    for *key, kind, recorded_at, amount in rows:
        month = month_of(recorded_at)
        sums[ChargedTo(*(str(part) for part in key)), str(kind), month] += int(amount)
    return [
        CorrectionCharge(start, end, to, kind, month, amount)
        for (to, kind, month), amount in sorted(sums.items(), key=_order)
    ]


def _order(item: tuple[tuple[ChargedTo, str, datetime], int]) -> tuple[str, str, datetime]:
    to, kind, month = item[0]
    return str(to), kind, month


def month_of(at: datetime) -> datetime:
    """Give the first instant of the month, in UTC."""
    day = at.astimezone(UTC)
    return datetime(day.year, day.month, 1, tzinfo=UTC)


def _grants(session: Session, since: datetime, until: datetime) -> list[GrantCharge]:
    rows = session.execute(
        select(BudgetRow.scope, GrantRow.amount_nano_usd, GrantRow.reference, GrantRow.granted_at)
        .join(BudgetRow, BudgetRow.id == GrantRow.budget_id)
        .where(GrantRow.granted_at >= since, GrantRow.granted_at < until)
        .order_by(GrantRow.id)
    )
    return [GrantCharge(*row) for row in rows]
