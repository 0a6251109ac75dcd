"""Decisions over time: sums by hour and arm, and spend by day in any time zone.

Hours that a day's midnight cuts (in zones that are half an hour off) are read from the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, literal_column, null, select

from storage.marks import hour_of
from storage.models import EntryRow, RollupDecisionRow
from storage.rollups import DECISION_FIGURES, HOUR, decision_figures, difficulty_bin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date, tzinfo

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from storage.sums import Sources

    Piece = tuple[datetime, datetime]

PIECES_AT_ONCE = 200
"""Spans of time in one statement; databases bound the depth of an expression."""


@dataclass(frozen=True, slots=True)
class Hour:
    """Decisions of one arm that began in an hour, or in the piece of it from ``start`` on.

    ``difficulty`` is the number of their bin, None where all bins are summed up.
    """

    start: datetime
    model: str
    strategy: str
    figures: dict[str, Any]
    difficulty: int | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """Closed entries of one day of the report's zone; a day that is not over is not ``complete``.

    A day outside the period, or partly, is not complete either.
    """

    day: date
    n_closed: int
    cost_nano_usd: int
    complete: bool


def hourly(
    session: Session, where: Sources, cuts: Iterable[datetime], *, by_difficulty: bool = False
) -> list[Hour]:
    """Sum decisions up by hour and arm, and bin if asked; no piece reaches over any of ``cuts``."""
    cut_hours = {hour_of(cut) for cut in cuts if cut != hour_of(cut)}
    row = RollupDecisionRow
    parts = (row.difficulty,) if by_difficulty else ()
    rolled = select(
        row.hour,
        row.model,
        row.strategy,
        *(parts or (null(),)),
        *(func.sum(getattr(row, name)) for name in DECISION_FIGURES),
    ).where(*where.rolled(row.hour), row.hour.not_in(sorted(cut_hours)))
    found = [
        Hour(start, model, strategy, _named(figures), bin_)
        for start, model, strategy, bin_, *figures in session.execute(
            rolled.group_by(row.hour, row.model, row.strategy, *parts)
        )
    ]
    pieces = _pieces(where, cut_hours, sorted(cuts))
    for first in range(0, len(pieces), PIECES_AT_ONCE):
        at_once = pieces[first : first + PIECES_AT_ONCE]
        found += _from_rows(session, at_once, by_difficulty=by_difficulty)
    return found


def midnights(first: datetime, end: datetime, zone: tzinfo) -> list[datetime]:
    """Give the starts of the days of a zone that lie in [``first``, ``end``], in UTC."""
    found = []
    day = first.astimezone(zone).date()
    while (start := datetime.combine(day, time(), zone).astimezone(UTC)) <= end:
        if start >= first:
            found.append(start)
        day += timedelta(days=1)
    return found


def days(hours: Iterable[Hour], zone: tzinfo, since: datetime, until: datetime) -> list[Day]:
    """Add hours up to days, from the first to the last; days without an entry cost 0.

    Complete are those that lie whole in [``since``, ``until``).
    """
    sums: dict[date, list[int]] = {}
    for hour in hours:
        into = sums.setdefault(hour.start.astimezone(zone).date(), [0, 0])
        into[0] += hour.figures["n_entries"]
        into[1] += hour.figures["cost_nano_usd"]
    starts = midnights(since, until, zone)
    whole = {start.astimezone(zone).date() for start in starts[:-1]}
    return [
        Day(day, n_closed, cost_nano_usd, day in whole)
        for day in sorted(whole | set(sums))
        for n_closed, cost_nano_usd in [sums.get(day, [0, 0])]
    ]


def _pieces(where: Sources, cut_hours: set[datetime], cuts: Sequence[datetime]) -> list[Piece]:
    """Give what is to be read from rows, cut at whole hours and at ``cuts``."""
    pieces: list[Piece] = []
    wholes = {(hour, hour + HOUR) for hour in cut_hours if _is_rolled(where, hour)}
    for since, until in [*where.spans, *wholes]:
        if since is None or until is None:
            msg = "a series needs a beginning and an end"
            raise ValueError(msg)
        start = since
        while start < until:
            end = min(hour_of(start) + HOUR, until)
            end = min([end, *(cut for cut in cuts if start < cut < end)])
            pieces.append((start, end))
            start = end
    return sorted(set(pieces))


def _is_rolled(where: Sources, hour: datetime) -> bool:
    """Tell whether an hour lies in the rollups' part, and in no span that is read anyway."""
    first, end = where.first, where.end
    if (first is not None and hour < first) or (end is not None and hour >= end):
        return False
    return not any(
        since is not None and until is not None and since <= hour < until
        for since, until in where.spans
    )


def _from_rows(session: Session, pieces: Sequence[Piece], *, by_difficulty: bool) -> list[Hour]:
    numbers: list[tuple[ColumnElement[bool], ColumnElement[int]]] = [
        (and_(EntryRow.started_at >= start, EntryRow.started_at < end), literal_column(str(i)))
        for i, (start, end) in enumerate(pieces)
    ]
    keys = (case(*numbers), EntryRow.model, EntryRow.strategy)
    if by_difficulty:
        return [
            Hour(pieces[number][0], model, strategy, _named(figures), bin_)
            for number, model, strategy, bin_, *figures in session.execute(
                decision_figures(pieces, (*keys, difficulty_bin()))
            )
        ]
    return [
        Hour(pieces[number][0], model, strategy, _named(figures))
        for number, model, strategy, *figures in session.execute(decision_figures(pieces, keys))
    ]


def _named(figures: Sequence[Any]) -> dict[str, Any]:
    numbers = (f if isinstance(f, float) else int(f or 0) for f in figures)
    return dict(zip(DECISION_FIGURES, numbers, strict=True))
