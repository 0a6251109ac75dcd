"""The statements of the hot path, built once over plain tables.

A statement that is built anew for every request costs more than the database does: SQLAlchemy
walks it to find its compiled form, and one with its values inside has none to find. Here all that
differs is a parameter, so each is compiled once, also for many rows at a time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import (
    BindParameter,
    Insert,
    Select,
    Update,
    bindparam,
    case,
    delete,
    exists,
    insert,
    select,
    update,
)

from storage.dialects import INSERTS
from storage.models import (
    AttemptRow,
    BudgetRow,
    BudgetWindowRow,
    CallRow,
    EntryRow,
    HoldRow,
    PermitRow,
    RateRow,
    RequestRow,
    RollupChangeRow,
    WaitRow,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.orm import Session

    from storage.models import Base


def table_of(row: type[Base]) -> Table:
    """Give the plain table of a row's class."""
    return cast("Table", row.__table__)


BUDGETS, WINDOWS, WAITS = table_of(BudgetRow), table_of(BudgetWindowRow), table_of(WaitRow)
REQUESTS, ENTRIES = table_of(RequestRow), table_of(EntryRow)
CALLS, HOLDS = table_of(CallRow), table_of(HoldRow)
ATTEMPTS, MARKS = table_of(AttemptRow), table_of(RollupChangeRow)
RATES, PERMITS = table_of(RateRow), table_of(PermitRow)

INSERT_CALLS: Insert = insert(CALLS)
INSERT_HOLDS: Insert = insert(HOLDS)
INSERT_ATTEMPTS: Insert = insert(ATTEMPTS)
INSERT_MARKS: Insert = insert(MARKS)

BUDGETS_IN_FORCE: Select[Any] = (
    select(
        BUDGETS.c.id,
        BUDGETS.c.scope,
        BUDGETS.c.period,
        BUDGETS.c.limit_nano_usd,
        BUDGETS.c.time_zone,
        BUDGETS.c.soft,
    )
    .where(BUDGETS.c.active)
    .order_by(BUDGETS.c.id)
)
BUDGETS_OF_SCOPES: Select[Any] = BUDGETS_IN_FORCE.where(
    BUDGETS.c.scope.in_(bindparam("scopes", expanding=True))
)

SETTLE: Update = update(ENTRIES).where(ENTRIES.c.id == bindparam("of_entry"))
"""Close entries; the columns to set are parameters too."""

SETTLE_OPEN: Update = SETTLE.where(
    ENTRIES.c.finished_at.is_(None), ENTRIES.c.reconciled_at.is_(None)
).returning(ENTRIES.c.held_nano_usd, ENTRIES.c.recovered_at, ENTRIES.c.started_at)

OPEN_AND_HELD: Select[Any] = (
    select(ENTRIES.c.id, ENTRIES.c.held_nano_usd, ENTRIES.c.started_at)
    .where(
        ENTRIES.c.id.in_(bindparam("entry_ids", expanding=True)),
        ENTRIES.c.finished_at.is_(None),
        ENTRIES.c.recovered_at.is_(None),
    )
    .order_by(ENTRIES.c.id)
    .with_for_update(key_share=True)
)

HOLDS_OF_ENTRIES: Select[Any] = (
    select(HOLDS.c.entry_id, HOLDS.c.budget_id, HOLDS.c.window_start, HOLDS.c.amount_nano_usd)
    .where(HOLDS.c.entry_id.in_(bindparam("entry_ids", expanding=True)))
    .order_by(HOLDS.c.budget_id, HOLDS.c.window_start)
)

MOVE: Update = (
    update(WINDOWS)
    .where(
        WINDOWS.c.budget_id == bindparam("of_budget"), WINDOWS.c.window_start == bindparam("start")
    )
    .values(
        spent_nano_usd=WINDOWS.c.spent_nano_usd + bindparam("spent"),
        held_nano_usd=WINDOWS.c.held_nano_usd + bindparam("held"),
        overshoot_nano_usd=WINDOWS.c.overshoot_nano_usd + bindparam("overshoot"),
    )
)
"""Add to the counters of one window."""

RATE: Select[Any] = select(RATES).where(RATES.c.subject == bindparam("of_subject"))
LOCK_RATES: Select[Any] = (
    select(RATES.c.subject)
    .where(RATES.c.subject.in_(bindparam("subjects", expanding=True)))
    .order_by(RATES.c.subject)
    .with_for_update(key_share=True)
)
INSERT_PERMIT: Insert = insert(PERMITS)
DELETE_PERMIT: Final = (
    delete(PERMITS).where(PERMITS.c.id == bindparam("of_permit")).returning(PERMITS.c.id)
)
MOVE_RATE: Update = (
    update(RATES)
    .where(RATES.c.subject == bindparam("of_subject"))
    .values(
        tokens_until_ns=case(
            (bindparam("used_ns") == 0, RATES.c.tokens_until_ns),
            (
                RATES.c.tokens_until_ns < bindparam("now_ns"),
                bindparam("now_ns") + bindparam("used_ns"),
            ),
            else_=RATES.c.tokens_until_ns + bindparam("used_ns"),
        ),
        in_flight=RATES.c.in_flight - bindparam("ended"),
    )
)
"""End requests of one subject: count what they used beyond the guess, take their permits away."""


@cache
def admit(*, requests: bool, tokens: bool, parallel: bool) -> Update:
    """Count a request in the limits that there are, where it fits all; a row comes back then."""
    now: BindParameter[int] = bindparam("now_ns")
    full: BindParameter[int] = bindparam("full_ns")
    conditions = [RATES.c.subject == bindparam("of_subject")]
    values: dict[str, ColumnElement[int]] = {}
    for name, wanted in (("requests", requests), ("tokens", tokens)):
        if wanted:
            until = RATES.c[f"{name}_until_ns"]
            cost: BindParameter[int] = bindparam(f"{name}_ns")
            after = case((until < now, now), else_=until) + cost
            conditions.append(after <= full)
            values[f"{name}_until_ns"] = after
    if parallel:
        conditions.append(RATES.c.in_flight < bindparam("parallel"))
        values["in_flight"] = RATES.c.in_flight + 1
    return update(RATES).where(*conditions).values(values).returning(*RATES.c)


@cache
def take(*, limited: bool, queued: bool, with_ticket: bool, soft: bool) -> Update:
    """Hold ``amount`` in a window: where it fits, if ``limited``; if nobody waits, if ``queued``.

    One who waits itself, ``with_ticket``, looks only at those who came before. A ``soft`` window's
    limit is taken to be what is used. A row changes when it was held.
    """
    amount: BindParameter[int] = bindparam("amount")
    used = WINDOWS.c.spent_nano_usd + WINDOWS.c.held_nano_usd + amount
    limit: ColumnElement[int] = used if soft else bindparam("limit")
    conditions: list[ColumnElement[bool]] = [
        WINDOWS.c.budget_id == bindparam("of_budget"),
        WINDOWS.c.window_start == bindparam("start"),
    ]
    if limited:
        conditions.append(used <= limit)
    if queued:
        ahead = [WAITS.c.budget_id == bindparam("of_budget"), WAITS.c.expires_at > bindparam("now")]
        if with_ticket:
            ahead.append(WAITS.c.id < bindparam("ticket"))
        conditions.append(~exists(select(WAITS.c.id).where(*ahead)))
    highest = WINDOWS.c.highest_limit_nano_usd
    return (
        update(WINDOWS)
        .where(*conditions)
        .values(
            held_nano_usd=WINDOWS.c.held_nano_usd + amount,
            highest_limit_nano_usd=case((highest < limit, limit), else_=highest),
        )
    )


def insert_requests(session: Session) -> Insert:
    """Write requests' rows, but for those that are there."""
    return _insert_requests(session.get_bind().dialect.name)


def insert_entries(session: Session) -> Insert:
    """Write entries' rows, but for attempts that are there; gives id, request and attempt."""
    return _insert_entries(session.get_bind().dialect.name)


@cache
def _insert_requests(dialect: str) -> Insert:
    return INSERTS[dialect](REQUESTS).on_conflict_do_nothing()


@cache
def _insert_entries(dialect: str) -> Insert:
    return (
        INSERTS[dialect](ENTRIES)
        .on_conflict_do_nothing(index_elements=["request_id", "attempt"])
        .returning(ENTRIES.c.id, ENTRIES.c.request_id, ENTRIES.c.attempt)
    )
