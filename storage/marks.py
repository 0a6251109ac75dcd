"""Marks of hours whose rows changed: written with each change, so that no rollup misses one.

A mark is a row of its own, not a counter: transactions that change the same hour never wait for
each other.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from storage.prepared import write
from storage.statements import INSERT_MARKS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session


def hour_of(time: datetime) -> datetime:
    """Give the start of the hour, in UTC, that holds an aware ``time``."""
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def mark(session: Session, times: Iterable[datetime]) -> None:
    """Say that rows of what began at ``times`` change in this transaction."""
    hours = sorted({hour_of(time) for time in times})
    if hours:
        write(session, INSERT_MARKS, [{"hour": hour} for hour in hours])
