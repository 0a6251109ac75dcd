"""The one statement that SQLite and PostgreSQL share but SQLAlchemy spells apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

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
