"""What SQLite and PostgreSQL spell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table
    from sqlalchemy.orm import Session

    from storage.models import Base

Insert: TypeAlias = sqlite.Insert | postgresql.Insert

INSERTS: dict[str, Callable[[type[Base] | Table], Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def insert_into(session: Session, row: type[Base]) -> Insert:
    """Start an INSERT into ``row``'s table that can go ON CONFLICT."""
    return INSERTS[session.get_bind().dialect.name](row)


def advance_ids(session: Session, row: type[Base]) -> None:
    """Let ids that the database gives follow those that were written in bulk; needs a row.

    SQLite looks for the highest one itself.
    """
    if session.get_bind().dialect.name == "postgresql":
        ids = row.__table__.c.id
        sequence = func.pg_get_serial_sequence(row.__tablename__, ids.name)
        session.execute(select(func.setval(sequence, select(func.max(ids)).scalar_subquery())))
