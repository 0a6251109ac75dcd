"""The ledger's check-up: every counter recomputed from the rows, every invariant looked at.

Each check is one statement, so what it compares is from one moment also while requests run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import and_, case, exists, func, select, update

from cost_models.budgets import Period
from storage import rates
from storage.attempt_check import wrong_stages
from storage.holds import QUIET
from storage.marks import hour_of
from storage.models import (
    AdjustmentRow,
    Base,
    BudgetRow,
    BudgetWindowRow,
    CallRow,
    EntryRow,
    EntryStatus,
    GrantRow,
    HoldRow,
    RateRow,
    RefusalRow,
    RequestRow,
)
from storage.rollup_check import wrong_hours
from storage.rollups import roll_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import Session


class Problem(StrEnum):
    """What can be wrong with a ledger."""

    COUNTER = "counter differs from its rows"
    OVERDRAWN = "more is spent and held than was ever granted"
    ENTRY_COST = "an entry's cost differs from its calls and adjustments"
    STAGE = "a stage of a cascade differs from its calls"
    ROLLUP = "a rollup differs from its rows"
    ORPHAN = "a row belongs to nothing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong: where, what the rows say (``expected``), what is stored (``found``)."""

    problem: Problem
    subject: str
    expected: int
    found: int
    repaired: bool = False

    def __str__(self) -> str:
        """Say it in one line, for a person."""
        end = "; repaired" if self.repaired else ""
        return f"{self.problem}: {self.subject}: expected {self.expected}, found {self.found}{end}"


def examine(session: Session, *, repair: bool = False) -> list[Finding]:
    """Check the whole ledger; with ``repair``, put right counters of budgets, and rollups.

    Rows are never changed: what else is found needs a person. The caller commits.
    """
    return [
        *_counters(session, repair=repair),
        *_in_flight(session, repair=repair),
        *_balances(session, repair=repair),
        *_overdrawn(session),
        *_entry_costs(session),
        *_stages(session),
        *_orphans(session),
        *_rollups(session, repair=repair),
    ]


@dataclass(frozen=True, slots=True)
class _Counters:
    """One budget window: what its counters say and what its rows sum up to."""

    budget_id: int
    window_start: datetime
    scope: str
    period: str
    stored: dict[str, int]
    summed: dict[str, int]

    def findings(self, *, repaired: bool) -> Iterator[Finding]:
        for name, expected in self.summed.items():
            if self.stored[name] != expected:
                yield Finding(
                    Problem.COUNTER,
                    f"{name} of {_window_name(self.scope, self.period, self.window_start)}",
                    expected,
                    self.stored[name],
                    repaired,
                )


def _counters(session: Session, *, repair: bool) -> Iterator[Finding]:
    wrong = [window for window in _windows(session) if window.stored != window.summed]
    for window in wrong:
        if repair:
            yield from _repair(session, window.budget_id, window.window_start)
        else:
            yield from window.findings(repaired=False)


def _repair(session: Session, budget_id: int, start: datetime) -> Iterator[Finding]:
    """Recompute one window's counters while nobody else can change them."""
    this_one = (BudgetWindowRow.budget_id == budget_id, BudgetWindowRow.window_start == start)
    session.execute(select(BudgetWindowRow.budget_id).where(*this_one).with_for_update())
    for window in _windows(session, *this_one):
        session.execute(
            update(BudgetWindowRow).where(*this_one).values(window.summed),
            execution_options=QUIET,
        )
        yield from window.findings(repaired=True)


def _in_flight(session: Session, *, repair: bool) -> Iterator[Finding]:
    """Compare how many requests of each limited key are under way with their permits."""
    if repair:
        rates.lock_subjects(session, [subject for subject, _, _ in rates.counters(session)])
    for subject, expected, found in rates.counters(session):
        if repair:
            this_one = update(RateRow).where(RateRow.subject == subject)
            session.execute(this_one.values(in_flight=expected), execution_options=QUIET)
        told = f"in_flight of the keys of {subject!r}"
        yield Finding(Problem.COUNTER, told, expected, found, repair)


def _balances(session: Session, *, repair: bool) -> Iterator[Finding]:
    """Compare the limit of each prepaid budget with its grants."""
    granted = (
        select(func.coalesce(func.sum(GrantRow.amount_nano_usd), 0))
        .where(GrantRow.budget_id == BudgetRow.id)
        .scalar_subquery()
    )
    wrong = session.execute(
        select(BudgetRow.id, BudgetRow.scope, granted, BudgetRow.limit_nano_usd)
        .where(BudgetRow.period == Period.PREPAID, BudgetRow.limit_nano_usd != granted)
        .order_by(BudgetRow.id)
    ).all()
    for budget_id, scope, expected, found in wrong:
        if repair:
            this_one = update(BudgetRow).where(BudgetRow.id == budget_id)
            session.execute(this_one.values(limit_nano_usd=granted), execution_options=QUIET)
        subject = f"limit_nano_usd of the prepaid budget of {scope!r}"
        yield Finding(Problem.COUNTER, subject, int(expected), found, repair)


def _windows(session: Session, *only: ColumnElement[bool]) -> list[_Counters]:
    is_open = EntryRow.status == EntryStatus.OPEN
    corrected = _corrections()
    added = func.coalesce(corrected.c.added, 0)
    beyond = EntryRow.cost_nano_usd - func.coalesce(corrected.c.amount, 0) - HoldRow.amount_nano_usd
    sums = (
        select(
            HoldRow.budget_id,
            HoldRow.window_start,
            func.sum(case((is_open, 0), else_=EntryRow.cost_nano_usd)).label("spent"),
            func.sum(case((is_open, HoldRow.amount_nano_usd), else_=0)).label("held"),
            func.sum(case((beyond > 0, beyond), else_=0) + added).label("overshoot"),
        )
        .join(EntryRow, EntryRow.id == HoldRow.entry_id)
        .outerjoin(corrected, corrected.c.entry_id == EntryRow.id)
        .group_by(HoldRow.budget_id, HoldRow.window_start)
        .subquery("sums")
    )
    found = session.execute(
        select(
            BudgetWindowRow.budget_id,
            BudgetWindowRow.window_start,
            BudgetRow.scope,
            BudgetRow.period,
            BudgetWindowRow.spent_nano_usd,
            BudgetWindowRow.held_nano_usd,
            BudgetWindowRow.overshoot_nano_usd,
            func.coalesce(sums.c.spent, 0),
            func.coalesce(sums.c.held, 0),
            func.coalesce(sums.c.overshoot, 0),
        )
        .join(BudgetRow, BudgetRow.id == BudgetWindowRow.budget_id)
        .outerjoin(
            sums,
            and_(
                sums.c.budget_id == BudgetWindowRow.budget_id,
                sums.c.window_start == BudgetWindowRow.window_start,
            ),
        )
        .where(*only)
        .order_by(BudgetWindowRow.budget_id, BudgetWindowRow.window_start)
    )
    return [
        _Counters(budget_id, start, scope, period, _named(*stored), _named(*summed))
        for budget_id, start, scope, period, *counts in found
        for stored, summed in [(counts[:3], counts[3:])]
    ]


def _corrections() -> Subquery:
    """Select what adjustments changed of each entry's cost, and what they added to it."""
    amount = AdjustmentRow.amount_nano_usd
    return (
        select(
            AdjustmentRow.entry_id,
            func.sum(amount).label("amount"),
            func.sum(case((amount > 0, amount), else_=0)).label("added"),
        )
        .group_by(AdjustmentRow.entry_id)
        .subquery("corrections")
    )


def _named(spent: int, held: int, overshoot: int) -> dict[str, int]:
    return {
        "spent_nano_usd": int(spent),
        "held_nano_usd": int(held),
        "overshoot_nano_usd": int(overshoot),
    }


def _overdrawn(session: Session) -> Iterator[Finding]:
    used = BudgetWindowRow.spent_nano_usd + BudgetWindowRow.held_nano_usd
    granted = BudgetWindowRow.highest_limit_nano_usd + BudgetWindowRow.overshoot_nano_usd
    for scope, period, start, expected, found in session.execute(
        select(BudgetRow.scope, BudgetRow.period, BudgetWindowRow.window_start, granted, used)
        .join(BudgetRow, BudgetRow.id == BudgetWindowRow.budget_id)
        .where(used > granted)
        .order_by(BudgetWindowRow.budget_id, BudgetWindowRow.window_start)
    ):
        yield Finding(Problem.OVERDRAWN, _window_name(scope, period, start), expected, found)


def _entry_costs(session: Session) -> Iterator[Finding]:
    sums = (
        select(CallRow.entry_id, func.sum(CallRow.cost_nano_usd).label("cost"))
        .group_by(CallRow.entry_id)
        .subquery("sums")
    )
    corrected = _corrections()
    charged = case(
        (EntryRow.finished_at.is_not(None), func.coalesce(sums.c.cost, 0)),
        (EntryRow.recovered_at.is_not(None), EntryRow.held_nano_usd),
        else_=0,
    )
    expected = charged + func.coalesce(corrected.c.amount, 0)
    for request_id, attempt, should, cost in session.execute(
        select(EntryRow.request_id, EntryRow.attempt, expected, EntryRow.cost_nano_usd)
        .outerjoin(sums, sums.c.entry_id == EntryRow.id)
        .outerjoin(corrected, corrected.c.entry_id == EntryRow.id)
        .where(EntryRow.cost_nano_usd != expected)
        .order_by(EntryRow.id)
    ):
        subject = f"cost_nano_usd of request {request_id!r}, attempt {attempt}"
        yield Finding(Problem.ENTRY_COST, subject, int(should), cost)


def _stages(session: Session) -> Iterator[Finding]:
    for wrong in wrong_stages(session):
        subject = f"{wrong.figure} of stage {wrong.seq} of request {wrong.request_id!r}"
        yield Finding(Problem.STAGE, subject, wrong.expected, wrong.found)


def _orphans(session: Session) -> Iterator[Finding]:
    for table in Base.metadata.sorted_tables:
        for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name)):
            parent = exists().where(*(element.column == element.parent for element in key.elements))
            named = [column.is_not(None) for column in key.columns]
            n_orphans = session.scalar(
                select(func.count()).select_from(table).where(~parent, *named)
            )
            if n_orphans:
                subject = f"{table.name} without their {key.referred_table.name}"
                yield Finding(Problem.ORPHAN, subject, 0, n_orphans)
    n_requests = session.scalar(
        select(func.count(RequestRow.id)).where(
            ~exists().where(EntryRow.request_id == RequestRow.id),
            ~exists().where(RefusalRow.request_id == RequestRow.id),
        )
    )
    if n_requests:
        yield Finding(Problem.ORPHAN, "requests without entry or refusal", 0, n_requests)


def _rollups(session: Session, *, repair: bool) -> Iterator[Finding]:
    for wrong in list(wrong_hours(session)):
        if repair:
            roll_up(session, hour_of(wrong.hour))
        subject = f"{wrong.figure} of the hour from {hour_of(wrong.hour).isoformat()}"
        yield Finding(Problem.ROLLUP, subject, wrong.expected, wrong.found, repair)


def _window_name(scope: str, period: str, start: datetime) -> str:
    return f"the {period} budget of {scope!r} from {start.isoformat()}"
