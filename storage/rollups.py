"""Hourly rollups, in UTC: what reports read, so that they stay fast while the ledger grows.

Every transaction that changes what began in an hour leaves a mark (`storage.marks`). Rolling an
hour up takes its marks away first and then sums its rows up anew: a change that is not in the sum
has a mark that is still there. `storage.sums` reads rolled hours without marks from the rollups,
and all else from the rows.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import (
    Integer,
    and_,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    true,
)

from storage.marks import hour_of
from storage.models import (
    IMPORTED,
    AdjustmentRow,
    CallRow,
    EntryRow,
    EntryStatus,
    MetaRow,
    RefusalRow,
    RequestRow,
    RollupCallRow,
    RollupChangeRow,
    RollupDecisionRow,
    RollupEntryRow,
    RollupHourRow,
)
from storage.outcomes import entry_quality

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import ColumnElement, Select, SQLColumnExpression, Subquery
    from sqlalchemy.orm import InstrumentedAttribute, Session

    Figures: TypeAlias = Select[*tuple[Any, ...]]

Span: TypeAlias = "tuple[datetime | None, datetime | None]"
"""A time [since, until); None is open-ended."""

HOUR = timedelta(hours=1)
LOST = "lost"
"""Role, among calls, of what entries are charged that a crash left without calls."""
BINS = (0.2, 0.4, 0.6, 0.8)
"""Where the five bins of predicted difficulty part; each bound belongs to the bin above it."""
UNKNOWN_BIN = -1
ENTRY_KEYS = ("model", "strategy", "tenant", "team", "status")
DECISION_KEYS = ("model", "strategy", "difficulty")
CALL_KEYS = ("model", "strategy", "provider", "tenant", "team", "role", "status")
MOMENTS = (
    "weight_sum",
    "weighted_quality",
    "weight2_sum",
    "weight2_quality",
    "weight2_quality2",
)
HOUR_FIGURES = ("n_requests", "n_refused", "n_imported")
ENTRY_FIGURES = (
    "n_entries",
    "n_finished",
    "n_failed",
    "n_costed",
    "cost_nano_usd",
    "overshoot_nano_usd",
    "n_graded",
    "quality_sum",
    "graded_cost_nano_usd",
    "prompt_tokens",
    "completion_tokens",
    "machine_ns",
    "n_timed",
    "latency_s",
    *MOMENTS,
)
DECISION_FIGURES = (
    "n_entries",
    "n_failed",
    "n_in_doubt",
    "cost_nano_usd",
    "prompt_tokens",
    "completion_tokens",
    "n_graded",
    *MOMENTS,
    "n_random",
    "random_cost_nano_usd",
    "inverse_sum",
    "inverse_cost",
    "random_weight",
    "random_quality",
    "inverse_weight",
    "inverse_quality",
)
USAGE = (
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "machine_ns",
)
CALL_FIGURES = (
    "n_calls",
    "n_in_doubt",
    "n_estimated",
    "n_failed",
    "cost_nano_usd",
    "first_cost_nano_usd",
    "failed_cost_nano_usd",
    *USAGE,
)

_RUN_HERE = EntryRow.replica_id != IMPORTED
_FAILED = and_(EntryRow.status == EntryStatus.SETTLED, EntryRow.error.is_not(None))
_TEAM: ColumnElement[str] = func.coalesce(RequestRow.team, literal_column("''"))


def next_to_roll_up(session: Session, before: datetime) -> datetime | None:
    """Give the first hour that ended by ``before`` and has marks; None when there is none."""
    return session.scalar(
        select(func.min(RollupChangeRow.hour)).where(RollupChangeRow.hour < hour_of(before))
    )


def roll_up(session: Session, hour: datetime) -> None:
    """Sum one hour up anew; the caller commits. One process at a time does, the others wait."""
    session.execute(select(MetaRow.key).where(MetaRow.key == "ledger_id").with_for_update())
    session.execute(delete(RollupChangeRow).where(RollupChangeRow.hour == hour))
    for row in (RollupHourRow, RollupEntryRow, RollupDecisionRow, RollupCallRow):
        session.execute(delete(row).where(row.hour == hour))
    spans: list[Span] = [(hour, hour + HOUR)]
    counts = zip(HOUR_FIGURES, hour_figures(session, spans), strict=True)
    session.execute(insert(RollupHourRow).values(hour=hour, **dict(counts)))
    at = literal(hour, RollupHourRow.hour.type)
    for row, names, found in (
        (RollupEntryRow, (*ENTRY_KEYS, *ENTRY_FIGURES), entry_figures(spans)),
        (RollupDecisionRow, (*DECISION_KEYS, *DECISION_FIGURES), decision_figures(spans)),
        (RollupCallRow, (*CALL_KEYS, *CALL_FIGURES), call_figures(spans)),
        (RollupCallRow, (*CALL_KEYS, *CALL_FIGURES), lost_figures(spans)),
    ):
        session.execute(insert(row).from_select([*names, "hour"], found.add_columns(at)))


def entry_figures(spans: Sequence[Span]) -> Figures:
    """Select `ENTRY_KEYS` and `ENTRY_FIGURES` of the entries begun in any of ``spans``."""
    began = (_RUN_HERE, within(EntryRow.started_at, spans))
    quality = entry_quality(*began)
    cost = EntryRow.cost_nano_usd
    is_open = EntryRow.status == EntryStatus.OPEN
    beyond = cost - EntryRow.held_nano_usd
    keys = (EntryRow.model, EntryRow.strategy, RequestRow.tenant, _TEAM, EntryRow.status)
    return (
        select(
            *keys,
            func.count(EntryRow.id),
            func.count(EntryRow.finished_at),
            _count(_FAILED),
            _count(~is_open),
            func.sum(case((is_open, None), else_=cost)),
            func.sum(case((beyond > 0, beyond), else_=0)),
            func.count(quality.c.quality),
            _total(quality.c.quality),
            func.sum(case((quality.c.quality.is_not(None), cost), else_=0)),
            func.sum(EntryRow.prompt_tokens),
            func.sum(EntryRow.completion_tokens),
            func.sum(EntryRow.machine_ns),
            func.count(EntryRow.latency_s),
            _total(EntryRow.latency_s),
            *_moments(quality),
        )
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .outerjoin(quality, quality.c.entry_id == EntryRow.id)
        .where(*began)
        .group_by(*keys)
    )


def decision_figures(
    spans: Sequence[Span], by: Sequence[SQLColumnExpression[Any]] | None = None
) -> Figures:
    """Select `DECISION_KEYS` and `DECISION_FIGURES` of the closed entries begun in ``spans``.

    With ``by`` the keys are these, of an entry.
    """
    began = (
        _RUN_HERE,
        within(EntryRow.started_at, spans),
        EntryRow.status != EntryStatus.OPEN,
    )
    quality = entry_quality(*began)
    is_random = EntryRow.propensity < 1
    inverse = case((is_random, 1.0 / EntryRow.propensity))
    weight = case((is_random, 1.0 / quality.c.inclusion))
    cost = EntryRow.cost_nano_usd
    keys = (EntryRow.model, EntryRow.strategy, difficulty_bin()) if by is None else by
    return (
        select(
            *keys,
            func.count(EntryRow.id),
            _count(_FAILED),
            _count(EntryRow.status == EntryStatus.IN_DOUBT),
            func.sum(cost),
            func.sum(EntryRow.prompt_tokens),
            func.sum(EntryRow.completion_tokens),
            func.count(quality.c.quality),
            *_moments(quality),
            _count(is_random),
            func.sum(case((is_random, cost), else_=0)),
            _total(inverse),
            _total(inverse * cost),
            _total(weight),
            _total(weight * quality.c.quality),
            _total(inverse * weight),
            _total(inverse * weight * quality.c.quality),
        )
        .outerjoin(quality, quality.c.entry_id == EntryRow.id)
        .where(*began)
        .group_by(*keys)
    )


def difficulty_bin() -> ColumnElement[int]:
    """Give the bin of an entry's predicted difficulty; `UNKNOWN_BIN` without one."""
    below: list[tuple[ColumnElement[bool], ColumnElement[int]]] = [
        (EntryRow.difficulty < bound, literal_column(str(i))) for i, bound in enumerate(BINS)
    ]
    return case(
        (EntryRow.difficulty.is_(None), literal_column(str(UNKNOWN_BIN))),
        *below,
        else_=literal_column(str(len(BINS))),
    )


def _moments(quality: Subquery) -> list[ColumnElement[float]]:
    weight, q = 1.0 / quality.c.inclusion, quality.c.quality
    square = weight * weight
    return [_total(part) for part in (weight, weight * q, square, square * q, square * q * q)]


def call_figures(spans: Sequence[Span]) -> Figures:
    """Select `CALL_KEYS` and `CALL_FIGURES` of the calls of entries begun in any of ``spans``."""
    corrected = (
        select(func.coalesce(func.sum(AdjustmentRow.amount_nano_usd), 0))
        .where(AdjustmentRow.call_id == CallRow.id)
        .correlate(CallRow)
        .scalar_subquery()
    )
    keys = (
        CallRow.model,
        EntryRow.strategy,
        CallRow.provider,
        RequestRow.tenant,
        _TEAM,
        CallRow.role,
        EntryRow.status,
    )
    cost = CallRow.cost_nano_usd + corrected
    failed = CallRow.error.is_not(None)
    return (
        select(
            *keys,
            func.count(CallRow.id),
            _count(and_(CallRow.in_doubt, EntryRow.status == EntryStatus.IN_DOUBT)),
            _count(CallRow.usage_estimated.is_(true())),
            _count(failed),
            func.sum(cost),
            func.sum(case((and_(CallRow.seq == 0, ~failed), cost), else_=0)),
            func.sum(case((failed, cost), else_=0)),
            *(func.sum(getattr(CallRow, name)) for name in USAGE),
        )
        .join(EntryRow, EntryRow.id == CallRow.entry_id)
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .where(_RUN_HERE, within(EntryRow.started_at, spans))
        .group_by(*keys)
    )


def lost_figures(spans: Sequence[Span]) -> Figures:
    """Select the same of entries that a crash left without calls, so that sums add up."""
    keys = (EntryRow.model, EntryRow.strategy, RequestRow.tenant, _TEAM, EntryRow.status)
    model, strategy, tenant, team, status = keys
    zero = cast(literal(0), Integer)
    cost = func.sum(EntryRow.cost_nano_usd)
    return (
        select(
            model,
            strategy,
            literal("").label("provider"),
            tenant,
            team,
            literal(LOST).label("role"),
            status,
            zero,
            zero,
            zero,
            zero,
            cost,
            zero,
            zero,
            *(zero for _ in USAGE),
        )
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .where(
            EntryRow.recovered_at.is_not(None),
            EntryRow.finished_at.is_(None),
            within(EntryRow.started_at, spans),
        )
        .group_by(*keys)
    )


def hour_figures(session: Session, spans: Sequence[Span]) -> tuple[int, int, int]:
    """Count requests, refusals and imported entries of ``spans``, as `HOUR_FIGURES`."""
    n_requests = session.scalar(
        select(func.count(RequestRow.id)).where(
            ~exists().where(EntryRow.request_id == RequestRow.id, ~_RUN_HERE),
            within(RequestRow.received_at, spans),
        )
    )
    n_refused = session.scalar(
        select(func.count(RefusalRow.id)).where(within(RefusalRow.refused_at, spans))
    )
    n_imported = session.scalar(
        select(func.count(EntryRow.id)).where(~_RUN_HERE, within(EntryRow.started_at, spans))
    )
    return n_requests or 0, n_refused or 0, n_imported or 0


def within(column: InstrumentedAttribute[datetime], spans: Sequence[Span]) -> ColumnElement[bool]:
    """Say that a time is in one of ``spans``; in none where there are none."""
    if not spans:
        return false()
    return or_(*(_between(column, since, until) for since, until in spans))


def _between(
    column: InstrumentedAttribute[datetime], since: datetime | None, until: datetime | None
) -> ColumnElement[bool]:
    bounds: list[ColumnElement[bool]] = []
    if since is not None:
        bounds.append(column >= since)
    if until is not None:
        bounds.append(column < until)
    return and_(true(), *bounds)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _total(value: SQLColumnExpression[Any]) -> ColumnElement[Any]:
    """Sum up what may be unknown; 0.0 where nothing is known."""
    return func.coalesce(func.sum(value), 0.0)
