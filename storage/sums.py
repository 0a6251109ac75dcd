"""Exact sums over any time: from the rollups where they are up to date, from the rows elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import func, select

from storage.marks import hour_of
from storage.models import (
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
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.orm import InstrumentedAttribute, Session

Key: TypeAlias = tuple[Any, ...]
Figures: TypeAlias = dict[str, Any]
Sums: TypeAlias = dict[Key, Figures]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures of a time are.

    In the rolled hours of [``first``, ``end``) that have no marks, and in the rows of ``spans``.
    ``first`` and ``end`` are None for open ends.
    """

    first: datetime | None
    end: datetime | None
    spans: tuple[Span, ...]

    def rolled(self, hour: InstrumentedAttribute[datetime]) -> list[ColumnElement[bool]]:
        """Pick the rows of a rollup that count."""
        picked: list[ColumnElement[bool]] = [hour.not_in(select(RollupChangeRow.hour))]
        if self.first is not None:
            picked.append(hour >= self.first)
        if self.end is not None:
            picked.append(hour < self.end)
        return picked


def sources(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> Sources:
    """Find where to read what began in [``since``, ``until``); None is open-ended."""
    first = None if since is None else _next_hour(since)
    end = None if until is None else hour_of(until)
    if first is not None and end is not None and first >= end:
        return Sources(first, first, ((since, until),))
    marked = select(RollupChangeRow.hour).distinct().order_by(RollupChangeRow.hour)
    if first is not None:
        marked = marked.where(RollupChangeRow.hour >= first)
    if end is not None:
        marked = marked.where(RollupChangeRow.hour < end)
    spans = _joined(session.scalars(marked))
    if since is not None and since != first:
        spans.insert(0, (since, first))
    if until is not None and until != end:
        spans.append((end, until))
    return Sources(first, end, tuple(spans))


def entry_sums(session: Session, where: Sources, keys: Sequence[str]) -> Sums:
    """Sum the figures of entries up by ``keys``, some of `storage.rollups.ENTRY_KEYS`."""
    rolled = _rolled(RollupEntryRow, keys, ENTRY_FIGURES, where)
    found = session.execute(rolled).all()
    sums: Sums = {}
    _add(sums, found, keys, keys, ENTRY_FIGURES)
    if where.spans:
        _add(sums, session.execute(entry_figures(where.spans)), keys, ENTRY_KEYS, ENTRY_FIGURES)
    return sums


def decision_sums(session: Session, where: Sources, keys: Sequence[str]) -> Sums:
    """Sum the figures of decisions up by ``keys``, some of `storage.rollups.DECISION_KEYS`."""
    rolled = _rolled(RollupDecisionRow, keys, DECISION_FIGURES, where)
    sums: Sums = {}
    _add(sums, session.execute(rolled).all(), keys, keys, DECISION_FIGURES)
    if where.spans:
        found = session.execute(decision_figures(where.spans))
        _add(sums, found, keys, DECISION_KEYS, DECISION_FIGURES)
    return sums


def call_sums(session: Session, where: Sources, keys: Sequence[str]) -> Sums:
    """Sum the figures of calls up by ``keys``, some of `storage.rollups.CALL_KEYS`."""
    rolled = _rolled(RollupCallRow, keys, CALL_FIGURES, where)
    sums: Sums = {}
    _add(sums, session.execute(rolled).all(), keys, keys, CALL_FIGURES)
    if where.spans:
        for figures in (call_figures(where.spans), lost_figures(where.spans)):
            _add(sums, session.execute(figures), keys, CALL_KEYS, CALL_FIGURES)
    return sums


def hour_sums(session: Session, where: Sources) -> dict[str, int]:
    """Count requests, refusals and imported entries."""
    columns = [func.coalesce(func.sum(getattr(RollupHourRow, name)), 0) for name in HOUR_FIGURES]
    rolled = session.execute(select(*columns).where(*where.rolled(RollupHourRow.hour))).one()
    rows = hour_figures(session, where.spans) if where.spans else (0, 0, 0)
    return {
        name: int(one) + other for name, one, other in zip(HOUR_FIGURES, rolled, rows, strict=True)
    }


def _rolled(
    row: type[RollupEntryRow | RollupDecisionRow | RollupCallRow],
    keys: Sequence[str],
    figures: Sequence[str],
    where: Sources,
) -> Select[Any]:
    by = [getattr(row, key) for key in keys]
    return (
        select(*by, *(func.sum(getattr(row, name)) for name in figures))
        .where(*where.rolled(row.hour))
        .group_by(*by)
    )


def _add(
    sums: Sums,
    rows: Iterable[Row[Any]],
    wanted: Sequence[str],
    keys: Sequence[str],
    figures: Sequence[str],
) -> None:
    """Add rows of ``keys`` and ``figures`` to sums by the ``wanted`` keys; None is not known."""
    for row in rows:
        named = dict(zip(keys, row[: len(keys)], strict=True))
        into = sums.setdefault(tuple(named[key] for key in wanted), dict.fromkeys(figures))
        for name, value in zip(figures, row[len(keys) :], strict=True):
            if value is not None:
                number = value if isinstance(value, float) else int(value)
                into[name] = number if into[name] is None else into[name] + number


def _next_hour(time: datetime) -> datetime:
    """Give the first start of an hour at or after ``time``."""
    return hour_of(time + HOUR - timedelta(microseconds=1))


def _joined(hours: Iterable[datetime]) -> list[Span]:
    """Make spans of hours, which come in order; neighbours become one."""
    spans: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if spans and spans[-1][1] == hour:
            spans[-1] = (spans[-1][0], hour + HOUR)
        else:
            spans.append((hour, hour + HOUR))
    return list(spans)
