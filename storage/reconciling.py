"""The ledger against a provider's bill: what was in doubt is closed, what differs is listed.

A charge is compared with the calls that it is for. What calls in doubt cost is what it leaves
beside the others, shared out by what they had been charged. A charge that names a request is booked
to the last nano-USD; one over a time can have calls from elsewhere in it, so that none of the
calls in doubt gets more than its worst case, and what is left is told and not booked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, case, cast, func, null, select, union_all

from cost_models.types import TURNED_AWAY
from storage.adjustments import Adjustment, adjust, close_entries, lock_entries
from storage.models import (
    IMPORTED,
    AdjustmentKind,
    AdjustmentRow,
    CallRow,
    EntryRow,
    EntryStatus,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import Session

    from storage.bills import Bill, Charge
    from storage.store import Ledger


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One charge beside the ledger; amounts are whole nano-USD.

    ``n_calls`` were compared, of which ``n_closed`` had been in doubt; ``n_open`` requests of its
    time were still in flight. ``booked`` is what the calls cost before, ``settled`` after: where
    that is not the charge, the ledger and the bill differ.
    """

    charge: Charge
    n_calls: int
    n_closed: int
    n_open: int
    booked: int
    settled: int

    @property
    def difference(self) -> int:
        """What was charged beyond what the ledger has now, below 0 where it was less."""
        return self.charge.cost_nano_usd - self.settled


def reconcile(
    ledger: Ledger, bill: Bill, now: datetime, *, dry_run: bool = False
) -> list[Reconciled]:
    """Hold each charge of a bill against the ledger, each in a transaction of its own.

    The same bill again closes and books nothing more. ``dry_run`` writes nothing.
    """
    found = []
    for charge in bill.charges:
        work = _Reconciliation(charge, f"{bill.name}, line {charge.line}")
        if dry_run:
            found.append(ledger.read(work.look))
        else:
            found.append(ledger.write(partial(work.book, now=now)))
    return found


@dataclass(frozen=True, slots=True)
class _Unit:
    """A call, or an entry that a crash left without calls: what it is charged now."""

    entry_id: int
    call_id: int | None
    cost: int
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class _Reconciliation:
    charge: Charge
    source: str

    def book(self, session: Session, now: datetime) -> Reconciled:
        """Write down what `look` finds, with nobody settling or correcting in between."""
        lock_entries(session, {unit.entry_id for unit in self._movable(session)})
        units = self._movable(session)
        told, amounts = self._compare(session, units)
        adjust(
            session,
            [
                Adjustment(
                    unit.entry_id,
                    unit.call_id,
                    AdjustmentKind.RECONCILE,
                    amount,
                    self.source,
                    closes=unit.in_doubt,
                )
                for unit, amount in zip(units, amounts, strict=True)
                if amount or unit.in_doubt
            ],
            now,
        )
        closed = {unit.entry_id for unit in units if unit.in_doubt}
        close_entries(session, closed - _still_in_doubt(session, closed), now)
        return told

    def look(self, session: Session) -> Reconciled:
        """Compare, and write nothing."""
        return self._compare(session, self._movable(session))[0]

    def _compare(self, session: Session, units: Sequence[_Unit]) -> tuple[Reconciled, list[int]]:
        all_units = _units()
        n_calls, booked = session.execute(
            select(
                func.count(all_units.c.entry_id), func.coalesce(func.sum(all_units.c.cost), 0)
            ).where(*self._about(all_units))
        ).one()
        amounts = self._amounts(units, int(booked))
        n_open = session.scalar(
            select(func.count(EntryRow.id)).where(
                EntryRow.status == EntryStatus.OPEN, *self._began()
            )
        )
        told = Reconciled(
            charge=self.charge,
            n_calls=int(n_calls),
            n_closed=sum(unit.in_doubt for unit in units),
            n_open=n_open or 0,
            booked=int(booked),
            settled=int(booked) + sum(amounts),
        )
        return told, amounts

    def _amounts(self, units: Sequence[_Unit], booked: int) -> list[int]:
        """Give what to add to each unit: first to those in doubt, then, by request, to others."""
        doubtful = [unit.cost if unit.in_doubt else 0 for unit in units]
        certain = booked - sum(doubtful)
        left = max(0, self.charge.cost_nano_usd - certain)
        named = self.charge.request_id is not None
        if not any(unit.in_doubt for unit in units):
            shares = [unit.cost for unit in units]
            if not named or not shares:
                return [0] * len(units)
            return _differences(shares, share_out(self.charge.cost_nano_usd, shares))
        if not named:
            left = min(left, sum(doubtful))
        costs = iter(share_out(left, [unit.cost for unit in units if unit.in_doubt]))
        after = [next(costs) if unit.in_doubt else unit.cost for unit in units]
        if named and sum(after) > self.charge.cost_nano_usd:
            after = share_out(self.charge.cost_nano_usd, after)
        return _differences([unit.cost for unit in units], after)

    def _movable(self, session: Session) -> list[_Unit]:
        """Give the calls that the charge may change: those in doubt, and a named request's."""
        units = _units()
        found = select(units.c.entry_id, units.c.call_id, units.c.cost, units.c.in_doubt)
        found = found.where(*self._about(units))
        if self.charge.request_id is None:
            found = found.where(units.c.in_doubt == 1)
        return [
            _Unit(int(entry_id), call_id, int(cost), bool(in_doubt))
            for entry_id, call_id, cost, in_doubt in session.execute(
                found.order_by(units.c.entry_id, units.c.call_id)
            )
        ]

    def _about(self, units: Subquery) -> list[ColumnElement[bool]]:
        charge = self.charge
        where: list[ColumnElement[bool]] = []
        if charge.model is not None:
            where.append(units.c.model == charge.model)
        if charge.request_id is not None:
            where.append(units.c.request_id == charge.request_id)
        else:
            where += [units.c.started_at >= charge.start, units.c.started_at < charge.end]
        return where

    def _began(self) -> list[ColumnElement[bool]]:
        charge = self.charge
        if charge.request_id is not None:
            return [EntryRow.request_id == charge.request_id]
        return [
            EntryRow.model == charge.model,
            EntryRow.started_at >= charge.start,
            EntryRow.started_at < charge.end,
        ]


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """Share ``total`` >= 0 out by ``weights`` >= 0 in whole parts that sum up to it.

    Evenly where all weights are 0; what is left of the division goes to the largest remainders,
    the earliest first. ``weights`` has at least one element.
    """
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    parts = [total * weight // whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: -(total * weights[i] % whole))
    for i in order[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _differences(before: Sequence[int], after: Sequence[int]) -> list[int]:
    return [new - old for old, new in zip(before, after, strict=True)]


def _units() -> Subquery:
    """Select each call with what it is charged now, and each crashed entry that has none."""
    amount = func.sum(AdjustmentRow.amount_nano_usd).label("amount")
    closed = func.max(case((AdjustmentRow.closes, 1), else_=0)).label("closed")
    by_call = (
        select(AdjustmentRow.call_id, amount, closed)
        .where(AdjustmentRow.call_id.is_not(None))
        .group_by(AdjustmentRow.call_id)
        .subquery("by_call")
    )
    by_entry = (
        select(AdjustmentRow.entry_id, amount, closed)
        .where(AdjustmentRow.call_id.is_(None))
        .group_by(AdjustmentRow.entry_id)
        .subquery("by_entry")
    )
    calls = (
        select(
            CallRow.entry_id,
            CallRow.id.label("call_id"),
            CallRow.model,
            EntryRow.request_id,
            EntryRow.started_at,
            (CallRow.cost_nano_usd + func.coalesce(by_call.c.amount, 0)).label("cost"),
            case((CallRow.in_doubt & (func.coalesce(by_call.c.closed, 0) == 0), 1), else_=0).label(
                "in_doubt"
            ),
        )
        .join(EntryRow, EntryRow.id == CallRow.entry_id)
        .outerjoin(by_call, by_call.c.call_id == CallRow.id)
        .where(EntryRow.replica_id != IMPORTED, CallRow.status != TURNED_AWAY)
    )
    crashed = (
        select(
            EntryRow.id,
            cast(null(), BigInteger),
            EntryRow.model,
            EntryRow.request_id,
            EntryRow.started_at,
            EntryRow.held_nano_usd + func.coalesce(by_entry.c.amount, 0),
            case((func.coalesce(by_entry.c.closed, 0) == 0, 1), else_=0),
        )
        .outerjoin(by_entry, by_entry.c.entry_id == EntryRow.id)
        .where(EntryRow.recovered_at.is_not(None), EntryRow.finished_at.is_(None))
    )
    return union_all(calls, crashed).subquery("units")


def _still_in_doubt(session: Session, entry_ids: Collection[int]) -> set[int]:
    units = _units()
    return set(
        session.scalars(
            select(units.c.entry_id).where(units.c.entry_id.in_(entry_ids), units.c.in_doubt == 1)
        )
    )
