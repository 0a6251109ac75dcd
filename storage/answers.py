"""Answers kept for idempotency keys: who may run a request, and what the first run said.

A key is claimed before its request is run, so that of all processes of a ledger one runs it. The
claim of a process that died is taken over; an answer is given until it expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from storage.dialects import insert_into
from storage.holds import QUIET
from storage.models import AnswerRow, ReplicaRow
from storage.recovery import Replica, process_alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

FORGOTTEN_AT_ONCE = 1_000


class ClaimState(StrEnum):
    """What to do with a request that has a key."""

    RUN = "run"
    KEPT = "kept"
    UNDER_WAY = "under way"
    OTHER_BODY = "other body"


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """A key of one tenant on one path, by its SHA-256, as is the body that came with it."""

    tenant: str
    path: str
    key_sha256: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Claim:
    """``answer`` is what was kept, where the state says so."""

    state: ClaimState
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims: a replica, for how long an answer is kept, and when others count as dead."""

    replica_id: str
    keep_s: float
    stale_after_s: float


def claim(
    session: Session,
    place: KeyPlace,
    claimant: Claimant,
    now: datetime,
    alive: Callable[[Replica], bool | None] = process_alive,
) -> Claim:
    """Claim a key, or say what stands in the way; an expired one is free again.

    A process asks for what it does not run: its own claim without an answer is one whose answer
    could not be kept.
    """
    expires_at = now + timedelta(seconds=claimant.keep_s)
    fresh: dict[str, Any] = {
        "body_sha256": place.body_sha256,
        "replica_id": claimant.replica_id,
        "expires_at": expires_at,
        "answer": None,
    }
    session.execute(
        delete(AnswerRow).where(_at(place), AnswerRow.expires_at <= now), execution_options=QUIET
    )
    made = session.execute(
        insert_into(session, AnswerRow)
        .values(tenant=place.tenant, path=place.path, key_sha256=place.key_sha256, **fresh)
        .on_conflict_do_nothing()
        .returning(AnswerRow.tenant)
    ).one_or_none()
    if made is not None:
        return Claim(ClaimState.RUN)
    found = session.execute(
        select(AnswerRow.body_sha256, AnswerRow.replica_id, AnswerRow.answer)
        .where(_at(place))
        .with_for_update()
    ).one_or_none()
    if found is None:
        return Claim(ClaimState.UNDER_WAY)
    body_sha256, replica_id, answer = found
    if body_sha256 != place.body_sha256:
        return Claim(ClaimState.OTHER_BODY)
    if answer is not None:
        return Claim(ClaimState.KEPT, answer)
    stale_before = now - timedelta(seconds=claimant.stale_after_s)
    mine = replica_id == claimant.replica_id
    if not mine and not _is_dead(session, replica_id, stale_before, alive):
        return Claim(ClaimState.UNDER_WAY)
    session.execute(update(AnswerRow).where(_at(place)).values(**fresh), execution_options=QUIET)
    return Claim(ClaimState.RUN)


def keep_answer(session: Session, place: KeyPlace, replica_id: str, answer: bytes) -> None:
    """Keep what a claimed request was answered."""
    session.execute(
        update(AnswerRow)
        .where(_at(place), AnswerRow.replica_id == replica_id)
        .values(answer=answer),
        execution_options=QUIET,
    )


def drop_claim(session: Session, place: KeyPlace, replica_id: str) -> None:
    """Give a key back whose request has no answer to keep."""
    session.execute(
        delete(AnswerRow).where(
            _at(place), AnswerRow.replica_id == replica_id, AnswerRow.answer.is_(None)
        ),
        execution_options=QUIET,
    )


def forget_answers(session: Session, now: datetime) -> None:
    """Remove what has expired, so many at once."""
    old = (
        select(AnswerRow.tenant, AnswerRow.path, AnswerRow.key_sha256)
        .where(AnswerRow.expires_at <= now)
        .limit(FORGOTTEN_AT_ONCE)
    )
    for tenant, path, key_sha256 in session.execute(old).all():
        session.execute(
            delete(AnswerRow).where(_at(KeyPlace(tenant, path, key_sha256, ""))),
            execution_options=QUIET,
        )


def any_expired(session: Session, now: datetime) -> bool:
    """Tell whether there is something to forget."""
    found = session.scalars(select(AnswerRow.path).where(AnswerRow.expires_at <= now).limit(1))
    return found.one_or_none() is not None


def _at(place: KeyPlace) -> ColumnElement[bool]:
    return (
        (AnswerRow.tenant == place.tenant)
        & (AnswerRow.path == place.path)
        & (AnswerRow.key_sha256 == place.key_sha256)
    )


def _is_dead(
    session: Session,
    replica_id: str,
    stale_before: datetime,
    alive: Callable[[Replica], bool | None],
) -> bool:
    row = session.execute(
        select(
            ReplicaRow.id,
            ReplicaRow.host,
            ReplicaRow.pid,
            ReplicaRow.started,
            ReplicaRow.heartbeat_at,
        ).where(ReplicaRow.id == replica_id)
    ).one_or_none()
    if row is None:
        return True
    known_id, host, pid, started, heartbeat_at = row
    seen = alive(Replica(known_id, host, pid, started))
    return seen is False or (seen is None and heartbeat_at < stale_before)
