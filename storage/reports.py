"""What was spent and what it bought, summed up by the database.

Imported history is left out: this gateway neither ran nor paid it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, exists, func, select

from cost_models.money import NANO_PER_USD
from cost_models.types import Arm
from storage.models import IMPORTED, CallRow, EntryRow, EntryStatus, RefusalRow, RequestRow
from storage.outcomes import entry_quality

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute, Session

_RUN_HERE = EntryRow.replica_id != IMPORTED


@dataclass(frozen=True, slots=True)
class ArmTotal:
    """What one arm did over a time. ``quality`` is the mean over ``n_graded``, None without any.

    ``cost_nano_usd`` counts every charged entry, those in doubt (``n_in_doubt``) at what they
    are charged now, ``graded_cost_nano_usd`` the graded ones alone. ``latency_s`` is the mean over
    ``n_finished`` entries.
    """

    arm: Arm
    n_entries: int
    n_finished: int
    n_in_doubt: int
    n_graded: int
    quality: float | None
    cost_nano_usd: int
    graded_cost_nano_usd: int
    prompt_tokens: int
    completion_tokens: int
    machine_ns: int
    latency_s: float | None

    @property
    def usd_per_correct(self) -> float | None:
        """Cost of the graded entries per right answer among them; None when there is none."""
        right = (self.quality or 0.0) * self.n_graded
        return self.graded_cost_nano_usd / NANO_PER_USD / right if right > 0 else None


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole ledger over a time; ``cost_nano_usd`` is the sum over every arm.

    ``overshoot_nano_usd`` is what was billed beyond the holds of single entries. ``n_imported``
    entries came from elsewhere and are in none of the other figures.
    """

    n_requests: int
    n_refused: int
    n_entries: int
    n_open: int
    n_in_doubt: int
    n_calls: int
    cost_nano_usd: int
    overshoot_nano_usd: int
    n_imported: int


def totals_by_arm(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> list[ArmTotal]:
    """Sum up the entries begun in [``since``, ``until``), one line per arm, dearest first."""
    quality = entry_quality()
    cost = func.sum(EntryRow.cost_nano_usd)
    found = (
        select(
            EntryRow.model,
            EntryRow.strategy,
            func.count(EntryRow.id),
            func.count(EntryRow.finished_at),
            _count_in_doubt(),
            func.count(quality.c.quality),
            func.avg(quality.c.quality),
            cost,
            func.sum(case((quality.c.quality.is_not(None), EntryRow.cost_nano_usd), else_=0)),
            func.sum(EntryRow.prompt_tokens),
            func.sum(EntryRow.completion_tokens),
            func.sum(EntryRow.machine_ns),
            func.avg(EntryRow.latency_s),
        )
        .outerjoin(quality, quality.c.entry_id == EntryRow.id)
        .where(_RUN_HERE, *_within(EntryRow.started_at, since, until))
        .group_by(EntryRow.model, EntryRow.strategy)
        .order_by(cost.desc(), EntryRow.model, EntryRow.strategy)
    )
    return [
        ArmTotal(
            arm=Arm(model, strategy),
            n_entries=n_entries,
            n_finished=n_finished,
            n_in_doubt=n_in_doubt,
            n_graded=n_graded,
            quality=mean_quality,
            cost_nano_usd=int(cost_nano_usd),
            graded_cost_nano_usd=int(graded_cost_nano_usd),
            prompt_tokens=int(prompt_tokens),
            completion_tokens=int(completion_tokens),
            machine_ns=int(machine_ns),
            latency_s=latency_s,
        )
        for (
            model,
            strategy,
            n_entries,
            n_finished,
            n_in_doubt,
            n_graded,
            mean_quality,
            cost_nano_usd,
            graded_cost_nano_usd,
            prompt_tokens,
            completion_tokens,
            machine_ns,
            latency_s,
        ) in session.execute(found)
    ]


def totals(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> Totals:
    """Sum up what began in [``since``, ``until``); None is open-ended."""
    within = _within(EntryRow.started_at, since, until)
    began = [_RUN_HERE, *within]
    beyond = EntryRow.cost_nano_usd - EntryRow.held_nano_usd
    n_entries, n_open, n_in_doubt, cost_nano_usd, overshoot_nano_usd = session.execute(
        select(
            func.count(EntryRow.id),
            func.count(EntryRow.id).filter(EntryRow.status == EntryStatus.OPEN),
            _count_in_doubt(),
            func.coalesce(func.sum(EntryRow.cost_nano_usd), 0),
            func.coalesce(func.sum(case((beyond > 0, beyond), else_=0)), 0),
        ).where(*began)
    ).one()
    n_calls = session.scalar(
        select(func.count(CallRow.id)).join(EntryRow, EntryRow.id == CallRow.entry_id).where(*began)
    )
    n_requests = session.scalar(
        select(func.count(RequestRow.id)).where(
            ~exists().where(EntryRow.request_id == RequestRow.id, ~_RUN_HERE),
            *_within(RequestRow.received_at, since, until),
        )
    )
    n_imported = session.scalar(select(func.count(EntryRow.id)).where(~_RUN_HERE, *within))
    n_refused = session.scalar(
        select(func.count(RefusalRow.id)).where(*_within(RefusalRow.refused_at, since, until))
    )
    return Totals(
        n_requests=n_requests or 0,
        n_refused=n_refused or 0,
        n_entries=n_entries,
        n_open=n_open,
        n_in_doubt=n_in_doubt,
        n_calls=n_calls or 0,
        cost_nano_usd=int(cost_nano_usd),
        overshoot_nano_usd=int(overshoot_nano_usd),
        n_imported=n_imported or 0,
    )


def _count_in_doubt() -> ColumnElement[int]:
    return func.count(EntryRow.id).filter(EntryRow.status == EntryStatus.IN_DOUBT)


def _within(
    column: InstrumentedAttribute[datetime], since: datetime | None, until: datetime | None
) -> list[ColumnElement[bool]]:
    bounds = []
    if since is not None:
        bounds.append(column >= since)
    if until is not None:
        bounds.append(column < until)
    return bounds
