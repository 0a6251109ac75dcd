"""Money held in budget windows: take, free, charge. Each race is decided inside one UPDATE.

Windows are always touched in the order of (budget id, window start), so that two transactions
never wait for each other in a circle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, insert, select, update

from cost_models.errors import BudgetExceededError
from storage.budgets import budgets_in_force, status_of
from storage.dialects import insert_into
from storage.models import BudgetWindowRow, HoldRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from storage.budgets import KnownBudget

QUIET: dict[str, Any] = {"synchronize_session": False}


def hold(
    session: Session, entry_id: int, scopes: Sequence[str], amount_nano_usd: int, now: datetime
) -> None:
    """Hold ``amount_nano_usd`` for an entry in every budget of ``scopes``.

    Raises BudgetExceededError for the first budget in which it does not fit; holds taken before
    that one are then still in the transaction, and the caller's savepoint takes them back. An
    amount of 0 always fits: what costs nothing is not refused when the money is gone. A refusal is
    never contradicted by its own facts: where money came free in between, the hold is tried again.
    """
    rows = []
    for known in budgets_in_force(session, scopes):
        start = known.window(now).start
        if not _take(session, known, start, amount_nano_usd):
            _open_window(session, known, start)
            while not _take(session, known, start, amount_nano_usd):
                status = status_of(session, known, now)
                if status.free_nano_usd < amount_nano_usd:
                    raise BudgetExceededError(status.facts, amount_nano_usd)
        rows.append(
            {
                "entry_id": entry_id,
                "budget_id": known.budget_id,
                "window_start": start,
                "amount_nano_usd": amount_nano_usd,
            }
        )
    if rows:
        session.execute(insert(HoldRow), rows)


def _take(session: Session, known: KnownBudget, start: datetime, amount_nano_usd: int) -> bool:
    limit = known.budget.limit_nano_usd
    take = (
        update(BudgetWindowRow)
        .where(BudgetWindowRow.budget_id == known.budget_id, BudgetWindowRow.window_start == start)
        .values(
            held_nano_usd=BudgetWindowRow.held_nano_usd + amount_nano_usd,
            highest_limit_nano_usd=case(
                (BudgetWindowRow.highest_limit_nano_usd < limit, limit),
                else_=BudgetWindowRow.highest_limit_nano_usd,
            ),
        )
    )
    if amount_nano_usd > 0:
        take = take.where(
            BudgetWindowRow.spent_nano_usd + BudgetWindowRow.held_nano_usd + amount_nano_usd
            <= limit
        )
    taken = session.execute(take.returning(BudgetWindowRow.budget_id), execution_options=QUIET)
    return taken.one_or_none() is not None


def _open_window(session: Session, known: KnownBudget, start: datetime) -> None:
    session.execute(
        insert_into(session, BudgetWindowRow)
        .values(
            budget_id=known.budget_id,
            window_start=start,
            spent_nano_usd=0,
            held_nano_usd=0,
            overshoot_nano_usd=0,
            highest_limit_nano_usd=known.budget.limit_nano_usd,
        )
        .on_conflict_do_nothing()
    )


def settle_holds(
    session: Session, entry_id: int, cost_nano_usd: int, *, charged_before: bool
) -> None:
    """Turn what an entry holds into what it cost, in the windows in which it was held.

    ``charged_before`` says that recovery moved the hold to spent: that charge is then replaced.
    """
    holds = session.execute(
        select(HoldRow.budget_id, HoldRow.window_start, HoldRow.amount_nano_usd)
        .where(HoldRow.entry_id == entry_id)
        .order_by(HoldRow.budget_id, HoldRow.window_start)
    ).all()
    for budget_id, start, amount in holds:
        charged, held = (amount, 0) if charged_before else (0, amount)
        _move(
            session,
            (budget_id, start),
            spent=cost_nano_usd - charged,
            held=-held,
            overshoot=max(0, cost_nano_usd - amount),
        )


def charge_held(session: Session, key: tuple[int, datetime], amount_nano_usd: int) -> None:
    """Move ``amount_nano_usd`` of one window (budget id, start) from held to spent."""
    _move(session, key, spent=amount_nano_usd, held=-amount_nano_usd, overshoot=0)


def _move(
    session: Session, key: tuple[int, datetime], *, spent: int, held: int, overshoot: int
) -> None:
    budget_id, start = key
    session.execute(
        update(BudgetWindowRow)
        .where(BudgetWindowRow.budget_id == budget_id, BudgetWindowRow.window_start == start)
        .values(
            spent_nano_usd=BudgetWindowRow.spent_nano_usd + spent,
            held_nano_usd=BudgetWindowRow.held_nano_usd + held,
            overshoot_nano_usd=BudgetWindowRow.overshoot_nano_usd + overshoot,
        ),
        execution_options=QUIET,
    )
