"""Corrections of what was charged: rows that are added, never changed or removed.

A correction moves the entry's cost, and what is spent in the very windows in which the entry was
held. What it adds counts as overshoot there: the money above the true cost had been freed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from storage.holds import QUIET, move
from storage.marks import mark
from storage.models import AdjustmentKind, AdjustmentRow, EntryRow, EntryStatus, HoldRow

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A correction to write down; the fields are those of `storage.models.AdjustmentRow`."""

    entry_id: int
    call_id: int | None
    kind: AdjustmentKind
    amount_nano_usd: int
    source: str
    closes: bool = False


def lock_entries(session: Session, entry_ids: Collection[int]) -> dict[int, tuple[int, datetime]]:
    """Keep others from settling or correcting entries; give what each costs and when it began."""
    found = session.execute(
        select(EntryRow.id, EntryRow.cost_nano_usd, EntryRow.started_at)
        .where(EntryRow.id.in_(entry_ids))
        .order_by(EntryRow.id)
        .with_for_update(key_share=True)
    )
    return {int(entry_id): (int(cost), started_at) for entry_id, cost, started_at in found}


def adjust(session: Session, adjustments: Sequence[Adjustment], now: datetime) -> None:
    """Write corrections down and move what they concern; the caller locked the entries before."""
    if not adjustments:
        return
    rows = [{**asdict(adjustment), "recorded_at": now} for adjustment in adjustments]
    session.execute(insert(AdjustmentRow), rows)
    more: defaultdict[int, int] = defaultdict(int)
    beyond: defaultdict[int, int] = defaultdict(int)
    for adjustment in adjustments:
        more[adjustment.entry_id] += adjustment.amount_nano_usd
        beyond[adjustment.entry_id] += max(0, adjustment.amount_nano_usd)
    locked = lock_entries(session, more)
    mark(session, [started_at for _, started_at in locked.values()])
    session.execute(
        update(EntryRow),
        [{"id": i, "cost_nano_usd": locked[i][0] + amount} for i, amount in more.items()],
        execution_options=QUIET,
    )
    moved: defaultdict[tuple[int, datetime], list[int]] = defaultdict(lambda: [0, 0])
    for entry_id, budget_id, start in session.execute(
        select(HoldRow.entry_id, HoldRow.budget_id, HoldRow.window_start).where(
            HoldRow.entry_id.in_(more)
        )
    ):
        sums = moved[budget_id, start]
        sums[0] += more[entry_id]
        sums[1] += beyond[entry_id]
    for key in sorted(moved):
        spent, overshoot = moved[key]
        move(session, key, spent=spent, held=0, overshoot=overshoot)


def close_entries(session: Session, entry_ids: Collection[int], now: datetime) -> None:
    """Say that a bill told what some entries cost: they are no longer in doubt."""
    session.execute(
        update(EntryRow)
        .where(EntryRow.id.in_(entry_ids), EntryRow.status == EntryStatus.IN_DOUBT)
        .values(status=EntryStatus.SETTLED, reconciled_at=now),
        execution_options=QUIET,
    )
