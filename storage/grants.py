"""Prepaid budgets: money is granted, never reset; what is left is grants less spending.

Grants are rows that are only added. Their sum is the limit of the budget, so that a hold is decided
by the same statement as any other, and `storage.doctor` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from cost_models.budgets import EPOCH, Period
from cost_models.money import to_usd
from storage.alerts import THRESHOLDS
from storage.dialects import insert_into
from storage.errors import BudgetChangeError
from storage.holds import QUIET
from storage.models import BudgetRow, BudgetWindowRow, GrantRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Grant:
    """Money put into a prepaid budget; below 0 it was taken back. ``reference`` says what for."""

    amount_nano_usd: int
    reference: str | None
    granted_at: datetime


@dataclass(frozen=True, slots=True)
class Granted:
    """What came of a grant; ``repeated`` is True when its reference had been booked before."""

    granted_nano_usd: int
    repeated: bool = False


def grant(
    session: Session,
    scope: str,
    amount_nano_usd: int,
    now: datetime,
    *,
    reference: str | None = None,
) -> Granted:
    """Add to the prepaid budget of ``scope``, made where there is none; give the sum of all grants.

    A ``reference``, such as a payment's number, is booked once: again changes nothing. Raises
    BudgetChangeError for an amount of 0, for the same reference with another amount, and where more
    is taken back than was ever granted.
    """
    if amount_nano_usd == 0:
        msg = "a grant of nothing; say how much, below 0 to take it back"
        raise BudgetChangeError(msg)
    budget_id, granted = _prepaid(session, scope)
    written = session.execute(
        insert_into(session, GrantRow)
        .values(
            budget_id=budget_id,
            amount_nano_usd=amount_nano_usd,
            reference=reference,
            granted_at=now,
        )
        .on_conflict_do_nothing(index_elements=["budget_id", "reference"])
        .returning(GrantRow.id)
    ).one_or_none()
    if written is None:
        return _booked_before(session, budget_id, amount_nano_usd, str(reference), granted)
    if granted + amount_nano_usd < 0:
        msg = f"{to_usd(granted):f} USD were granted to {scope!r}; no more can be taken back"
        raise BudgetChangeError(msg)
    granted += amount_nano_usd
    session.execute(
        update(BudgetRow).where(BudgetRow.id == budget_id).values(limit_nano_usd=granted),
        execution_options=QUIET,
    )
    _forget_thresholds(session, budget_id, granted)
    return Granted(granted)


def grants_of(session: Session, scope: str) -> list[Grant]:
    """Give the grants of a scope, the oldest first."""
    rows = session.execute(
        select(GrantRow.amount_nano_usd, GrantRow.reference, GrantRow.granted_at)
        .join(BudgetRow, BudgetRow.id == GrantRow.budget_id)
        .where(BudgetRow.scope == scope)
        .order_by(GrantRow.id)
    )
    return [Grant(*row) for row in rows]


def _prepaid(session: Session, scope: str) -> tuple[int, int]:
    """Give id and sum of a prepaid budget, in force from now on and locked until the commit."""
    in_force = {"active": True, "by_command": True}
    budget_id, granted = session.execute(
        insert_into(session, BudgetRow)
        .values(
            scope=scope,
            period=Period.PREPAID,
            limit_nano_usd=0,
            time_zone="UTC",
            soft=False,
            **in_force,
        )
        .on_conflict_do_update(index_elements=["scope", "period"], set_=in_force)
        .returning(BudgetRow.id, BudgetRow.limit_nano_usd)
    ).one()
    return int(budget_id), int(granted)


def _booked_before(
    session: Session, budget_id: int, amount_nano_usd: int, reference: str, granted: int
) -> Granted:
    booked = session.scalar(
        select(GrantRow.amount_nano_usd).where(
            GrantRow.budget_id == budget_id, GrantRow.reference == reference
        )
    )
    if booked != amount_nano_usd:
        msg = (
            f"{reference!r} was booked before, with another amount; "
            "give each grant a reference of its own"
        )
        raise BudgetChangeError(msg)
    return Granted(granted, repeated=True)


def _forget_thresholds(session: Session, budget_id: int, granted: int) -> None:
    """Let thresholds that are no longer passed be told of again."""
    window = (BudgetWindowRow.budget_id == budget_id, BudgetWindowRow.window_start == EPOCH)
    spent = session.scalar(
        select(BudgetWindowRow.spent_nano_usd).where(*window).with_for_update(key_share=True)
    )
    if spent is None:
        return
    passed = max((p for p in THRESHOLDS if granted * p <= 100 * spent), default=0)
    session.execute(
        update(BudgetWindowRow)
        .where(*window, BudgetWindowRow.alerted_percent > passed)
        .values(alerted_percent=passed),
        execution_options=QUIET,
    )
