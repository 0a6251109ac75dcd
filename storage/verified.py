"""Past answers that somebody found right, with their questions: examples to show a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from policies.types import AnswerKind
from storage.models import EntryRow, OutcomeRow, RequestRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class VerifiedAnswer:
    """A question of ``tenant`` with the value of an answer that every grader called right."""

    tenant: str
    kind: AnswerKind
    question: str
    answer: str


def newest_grade(session: Session) -> int:
    """Give the id of the newest grade, 0 where there is none: it tells whether any was added."""
    return session.scalar(select(func.max(OutcomeRow.id))) or 0


def read_verified(
    session: Session, n_grades: int, unheard: Sequence[str] = ()
) -> list[VerifiedAnswer]:
    """Read the verified answers among the newest ``n_grades`` grades, newest first.

    An answer counts whose every grader's latest word is 1, those in ``unheard`` left out. Left out
    are entries without a readable answer or whose question was not kept.
    """
    recent = select(OutcomeRow.entry_id).order_by(OutcomeRow.id.desc()).limit(n_grades).subquery()
    latest = (
        select(func.max(OutcomeRow.id))
        .where(
            OutcomeRow.entry_id.in_(select(recent.c.entry_id)),
            OutcomeRow.grader.not_in(unheard),
        )
        .group_by(OutcomeRow.entry_id, OutcomeRow.grader)
    )
    right = (
        select(OutcomeRow.entry_id, func.max(OutcomeRow.id).label("graded"))
        .where(OutcomeRow.id.in_(latest))
        .group_by(OutcomeRow.entry_id)
        .having(func.min(OutcomeRow.quality) >= 1.0)
        .subquery("right")
    )
    found = (
        select(
            RequestRow.tenant, RequestRow.answer_kind, RequestRow.query_text, EntryRow.answer_value
        )
        .join(EntryRow, EntryRow.request_id == RequestRow.id)
        .join(right, right.c.entry_id == EntryRow.id)
        .where(RequestRow.query_text.is_not(None), EntryRow.answer_value.is_not(None))
        .order_by(right.c.graded.desc())
    )
    return [
        VerifiedAnswer(tenant, AnswerKind(kind), question or "", answer or "")
        for tenant, kind, question, answer in session.execute(found)
    ]
