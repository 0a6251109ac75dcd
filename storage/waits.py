"""The queue for money: who waits at which budget, in the order of arrival, across processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, insert, select, update

from storage.models import WaitRow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Exists
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the queue; ``ticket`` None is its end, before a ticket was drawn."""

    ticket: int | None = None


def others_ahead(budget_id: int, place: Place, now: datetime) -> Exists:
    """Condition: somebody has been waiting at a budget for longer than ``place``."""
    ahead = [WaitRow.budget_id == budget_id, WaitRow.expires_at > now]
    if place.ticket is not None:
        ahead.append(WaitRow.id < place.ticket)
    return exists(select(WaitRow.id).where(*ahead))


def stand(
    session: Session, place: Place, budget_id: int, replica_id: str, expires_at: datetime
) -> Place:
    """Wait at ``budget_id``: with a new ticket, or with the old one if it was drawn elsewhere."""
    if place.ticket is not None:
        session.execute(
            update(WaitRow)
            .where(WaitRow.id == place.ticket)
            .values(budget_id=budget_id, expires_at=expires_at)
        )
        return place
    ticket = session.execute(
        insert(WaitRow)
        .values(budget_id=budget_id, replica_id=replica_id, expires_at=expires_at)
        .returning(WaitRow.id)
    ).scalar_one()
    return Place(int(ticket))


def leave(session: Session, tickets: Sequence[int]) -> None:
    """Give up places in the queue."""
    session.execute(delete(WaitRow).where(WaitRow.id.in_(tickets)))


def renew(session: Session, replica_id: str, now: datetime, expires_at: datetime) -> None:
    """Say that a replica's places still count, and clear away those that no longer do."""
    session.execute(
        update(WaitRow).where(WaitRow.replica_id == replica_id).values(expires_at=expires_at)
    )
    session.execute(delete(WaitRow).where(WaitRow.expires_at <= now))
