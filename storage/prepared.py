"""Hot statements that give no rows, run past most of SQLAlchemy where that pays.

On SQLite the work around a statement costs several times the statement: finding its compiled form,
putting the parameters in order, making a result. Here its text and that order are found once for
each set of columns. Errors still leave through the engine's door (`storage.engine`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import CursorResult, Insert, Update
    from sqlalchemy.orm import Session

    Values = Mapping[str, Any]
    Convert = Callable[[Any], Any] | None

DIALECT = sqlite.dialect()
KEPT = 256


def write(session: Session, statement: Insert | Update, rows: Values | Sequence[Values]) -> int:
    """Run a statement once, or for several rows of the same columns; give how many rows changed.

    It must not return any. How many changed is known for an UPDATE with one row of values only.
    """
    if session.get_bind().dialect.name != "sqlite":
        return cast("CursorResult[Any]", session.execute(statement, rows)).rowcount
    given: Any
    if isinstance(rows, Mapping):
        text, columns = _prepared(statement, tuple(rows))
        given = _ordered(columns, rows)
    else:
        text, columns = _prepared(statement, tuple(rows[0]))
        given = [_ordered(columns, row) for row in rows]
    return session.connection().exec_driver_sql(text, given).rowcount


def _ordered(columns: Sequence[tuple[str, Convert]], row: Values) -> tuple[Any, ...]:
    return tuple(
        [row[name] if convert is None else convert(row[name]) for name, convert in columns]
    )


@lru_cache(KEPT)
def _prepared(
    statement: Insert | Update, names: tuple[str, ...]
) -> tuple[str, tuple[tuple[str, Convert], ...]]:
    """Give the text of a statement and, in their order, its parameters with their conversions."""
    compiled: Any = statement.compile(dialect=DIALECT, column_keys=list(names))
    return str(compiled), tuple(
        (name, compiled.binds[name].type.dialect_impl(DIALECT).bind_processor(DIALECT))
        for name in compiled.positiontup
    )
