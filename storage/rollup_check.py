"""The rollups against the rows that they sum up, hour by hour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isclose
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from storage.models import (
    EntryRow,
    RollupCallRow,
    RollupChangeRow,
    RollupDecisionRow,
    RollupEntryRow,
    RollupHourRow,
)
from storage.rollups import (
    CALL_FIGURES,
    CALL_KEYS,
    DECISION_FIGURES,
    DECISION_KEYS,
    ENTRY_FIGURES,
    ENTRY_KEYS,
    HOUR,
    HOUR_FIGURES,
    Span,
    call_figures,
    decision_figures,
    entry_figures,
    hour_figures,
    lost_figures,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    Table = dict[tuple[Any, ...], tuple[Any, ...]]

REL_TOLERANCE = 1e-9
"""Of sums of qualities and seconds, whose order of addition is the database's own."""


@dataclass(frozen=True, slots=True)
class WrongHour:
    """An hour whose rollup is wrong: of which figure, what the rows say, what is stored."""

    hour: datetime
    figure: str
    expected: int
    found: int


def wrong_hours(session: Session) -> Iterator[WrongHour]:
    """Look at every rolled hour without marks, and for entries in hours that are neither."""
    marked = set(session.scalars(select(RollupChangeRow.hour).distinct()))
    rolled = set(session.scalars(select(RollupHourRow.hour)))
    for hour in sorted(rolled - marked):
        wrong = _wrong(session, hour)
        if wrong is not None and not _is_marked(session, hour):
            yield wrong
    for since, until in _gaps(sorted(rolled | marked)):
        n_entries = session.scalar(
            select(func.count(EntryRow.id)).where(within(EntryRow.started_at, [(since, until)]))
        )
        if n_entries:
            first = session.scalar(
                select(func.min(EntryRow.started_at)).where(
                    within(EntryRow.started_at, [(since, until)])
                )
            )
            if first is not None:
                yield WrongHour(first, "n_entries", n_entries, 0)


def _wrong(session: Session, hour: datetime) -> WrongHour | None:
    spans: list[Span] = [(hour, hour + HOUR)]
    rows = session.execute(
        select(*(getattr(RollupHourRow, name) for name in HOUR_FIGURES)).where(
            RollupHourRow.hour == hour
        )
    ).one()
    for name, expected, found in zip(HOUR_FIGURES, hour_figures(session, spans), rows, strict=True):
        if expected != found:
            return WrongHour(hour, name, expected, found)
    for row, keys, figures, selects in (
        (RollupEntryRow, ENTRY_KEYS, ENTRY_FIGURES, (entry_figures(spans),)),
        (RollupDecisionRow, DECISION_KEYS, DECISION_FIGURES, (decision_figures(spans),)),
        (RollupCallRow, CALL_KEYS, CALL_FIGURES, (call_figures(spans), lost_figures(spans))),
    ):
        names = (*keys, *figures)
        stored = _table(
            session.execute(
                select(*(getattr(row, name) for name in names)).where(row.hour == hour)
            ),
            len(keys),
        )
        summed: Table = {}
        for found_rows in selects:
            summed |= _table(session.execute(found_rows), len(keys))
        wrong = _first_difference(hour, figures, summed, stored)
        if wrong is not None:
            return wrong
    return None


def _table(rows: Iterable[Row[Any]], n_keys: int) -> Table:
    return {tuple(row[:n_keys]): tuple(row[n_keys:]) for row in rows}


def _first_difference(
    hour: datetime, figures: tuple[str, ...], summed: Table, stored: Table
) -> WrongHour | None:
    if summed.keys() != stored.keys():
        return WrongHour(hour, "rows of it", len(summed), len(stored))
    for key, values in summed.items():
        for name, expected, found in zip(figures, values, stored[key], strict=True):
            if not _equal(expected, found):
                return WrongHour(hour, name, int(expected or 0), int(found or 0))
    return None


def _equal(one: Any, other: Any) -> bool:  # noqa: ANN401 - figures of any type
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=REL_TOLERANCE)
    return bool(one == other)


def _is_marked(session: Session, hour: datetime) -> bool:
    """Tell whether the rows changed since the marks were read, outside one unchanging view."""
    found = select(RollupChangeRow.id).where(RollupChangeRow.hour == hour).limit(1)
    return session.scalar(found) is not None


def _gaps(hours: list[datetime]) -> Iterator[Span]:
    """Give the times around and between hours."""
    if not hours:
        yield None, None
        return
    yield None, hours[0]
    for one, other in pairwise(hours):
        if one + HOUR < other:
            yield one + HOUR, other
    yield hours[-1] + HOUR, None
