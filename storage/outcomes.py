"""How good answers were: grades go in, training episodes come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from cost_models.money import NANO_PER_USD
from cost_models.types import Arm
from policies.types import AnswerKind, Decision, Episode, Outcome, Query, Shadowed
from storage.errors import EntryNotFoundError
from storage.marks import mark
from storage.models import EntryRow, OutcomeRow, RequestRow
from storage.offers import read_offered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement, Subquery
    from sqlalchemy.orm import Session

ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Grade:
    """``grader``'s word on an answer: ``quality`` in [0, 1], counted ``weight`` > 0 times.

    ``sample_prob`` in (0, 1] is the probability with which this answer was picked for grading.
    """

    quality: float
    grader: str
    weight: float = 1.0
    sample_prob: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.quality <= 1.0 or not 0.0 < self.weight < float("inf"):
            msg = f"quality must be in [0, 1] and weight above 0, got {self!r}"
            raise ValueError(msg)
        if not 0.0 < self.sample_prob <= 1.0:
            msg = f"sample_prob must be in (0, 1], got {self.sample_prob}"
            raise ValueError(msg)


def record_outcome(
    session: Session, request_id: str, grade: Grade, now: datetime, *, attempt: int | None = None
) -> int:
    """Add a grade to an attempt of a request, the last one if ``attempt`` is None; give its entry.

    Nothing is overwritten: a grader's latest word counts. EntryNotFoundError if nobody opened
    such an entry.
    """
    wanted = select(EntryRow.id, EntryRow.started_at).where(EntryRow.request_id == request_id)
    if attempt is not None:
        wanted = wanted.where(EntryRow.attempt == attempt)
    found = session.execute(wanted.order_by(EntryRow.attempt.desc()).limit(1)).one_or_none()
    if found is None:
        which = f"request {request_id!r}" + ("" if attempt is None else f", attempt {attempt}")
        raise EntryNotFoundError(which)
    entry_id, started_at = found
    mark(session, (started_at,))
    session.execute(
        insert(OutcomeRow).values(
            entry_id=entry_id,
            quality=grade.quality,
            grader=grade.grader,
            weight=grade.weight,
            sample_prob=grade.sample_prob,
            recorded_at=now,
        )
    )
    return int(entry_id)


def check_made_by(session: Session, request_id: str, tenant: str) -> None:
    """Raise EntryNotFoundError unless ``tenant`` made the request: as if it were not there."""
    found = session.scalar(
        select(RequestRow.id).where(RequestRow.id == request_id, RequestRow.tenant == tenant)
    )
    if found is None:
        which = f"request {request_id!r}"
        raise EntryNotFoundError(which)


def entry_quality(*where: ColumnElement[bool]) -> Subquery:
    """Select (entry_id, quality, inclusion) of every graded entry, or of those ``where`` picks.

    The quality is the mean of each grader's latest word, by weight; the inclusion the probability
    of the grader that was likeliest to grade it.
    """
    latest = select(func.max(OutcomeRow.id)).group_by(OutcomeRow.entry_id, OutcomeRow.grader)
    if where:
        latest = latest.join(EntryRow, EntryRow.id == OutcomeRow.entry_id).where(*where)
    return (
        select(
            OutcomeRow.entry_id,
            (func.sum(OutcomeRow.quality * OutcomeRow.weight) / func.sum(OutcomeRow.weight)).label(
                "quality"
            ),
            func.max(OutcomeRow.sample_prob).label("inclusion"),
        )
        .where(OutcomeRow.id.in_(latest))
        .group_by(OutcomeRow.entry_id)
        .subquery("entry_quality")
    )


def read_episodes(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Episode]:
    """Yield each finished entry begun in [``since``, ``until``), oldest first, to learn from.

    Entries without a grade come with quality None. Left out: entries whose text was not kept,
    and those that a crash left without a true cost.
    """
    quality = entry_quality()
    found = (
        select(EntryRow, RequestRow, quality.c.quality)
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .outerjoin(quality, quality.c.entry_id == EntryRow.id)
        .where(EntryRow.finished_at.is_not(None), RequestRow.query_text.is_not(None))
        .order_by(EntryRow.id)
    )
    if since is not None:
        found = found.where(EntryRow.started_at >= since)
    if until is not None:
        found = found.where(EntryRow.started_at < until)
    for entry, request, grade in session.execute(
        found, execution_options={"yield_per": ROWS_AT_ONCE}
    ):
        yield _episode(entry, request, grade)


def _episode(entry: EntryRow, request: RequestRow, quality: float | None) -> Episode:
    return Episode(
        query=Query(
            query_id=request.id,
            text=request.query_text or "",
            answer_kind=AnswerKind(request.answer_kind),
            tenant=request.tenant,
            posing=request.posing or "",
        ),
        decision=Decision(
            arm=Arm(entry.model, entry.strategy),
            propensity=entry.propensity,
            policy_version=entry.policy_version,
            predicted_quality=entry.predicted_quality,
            predicted_cost_usd=entry.predicted_cost_usd,
            difficulty=entry.difficulty,
            attempt=entry.attempt,
            reason=entry.reason,
            offered=read_offered(entry.offered),
            shadow=_shadowed(entry),
        ),
        outcome=Outcome(
            answer=entry.answer_value or "",
            quality=quality,
            cost_usd=entry.cost_nano_usd / NANO_PER_USD,
            latency_s=entry.latency_s or 0.0,
            prompt_tokens=entry.prompt_tokens,
            completion_tokens=entry.completion_tokens,
        ),
    )


def _shadowed(entry: EntryRow) -> Shadowed | None:
    if entry.shadow_policy is None or entry.shadow_arm is None:
        return None
    return Shadowed(entry.shadow_policy, Arm.parse(entry.shadow_arm))
