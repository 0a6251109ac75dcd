"""Policies on trial: in shadow, or with a share of the traffic, until someone or a rule ends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from storage.errors import LedgerError
from storage.holds import QUIET
from storage.models import PolicyRow, TrialRow

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class TrialTerms:
    """How a policy is tried: ``share`` in [0, 1) of the traffic, 0 for a shadow.

    It is stopped when its quality is shown to be more than ``max_loss`` below that of the policy in
    service, or its cost more than ``max_rise`` (a share) above; where both are shown not to be, it
    has passed, and ``promotes`` puts it in service. Each is told wrongly with chance ``delta``.
    """

    share: float = 0.0
    max_loss: float = 0.05
    max_rise: float = 0.5
    delta: float = 0.05
    promotes: bool = False

    def __post_init__(self) -> None:
        fits = 0.0 <= self.share < 1.0 and 0.0 < self.delta < 1.0
        if not fits or self.max_loss < 0.0 or self.max_rise < 0.0:
            msg = (
                "a trial has a share in [0, 1), a delta in (0, 1), and a loss and a rise of at "
                f"least 0, got {self!r}"
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial under way: policy ``version`` beside ``baseline``, which is in service."""

    version: str
    baseline: str
    terms: TrialTerms
    started_at: datetime


def start_trial(
    session: Session, version: str, baseline: str, terms: TrialTerms, now: datetime
) -> None:
    """Begin to try a kept policy.

    LedgerError if it is in service, is not kept, or another trial is under way.
    """
    present = running_trial(session)
    if present is not None:
        msg = f"policy {present.version} is on trial; end that first: rheostat policy end"
        raise LedgerError(msg)
    if version == baseline:
        msg = f"policy {version} is in service already; there is nothing to compare it with"
        raise LedgerError(msg)
    if session.scalar(select(PolicyRow.version).where(PolicyRow.version == version)) is None:
        msg = f"no policy {version!r} is kept in the ledger; see: rheostat policy list"
        raise LedgerError(msg)
    session.execute(
        insert(TrialRow).values(
            version=version,
            baseline=baseline,
            share=terms.share,
            max_loss=terms.max_loss,
            max_rise=terms.max_rise,
            delta=terms.delta,
            promotes=terms.promotes,
            running=1,
            started_at=now,
        )
    )


def running_trial(session: Session) -> Trial | None:
    """Give the trial that is under way, None for none."""
    row = session.scalars(select(TrialRow).where(TrialRow.running == 1)).one_or_none()
    if row is None:
        return None
    terms = TrialTerms(row.share, row.max_loss, row.max_rise, row.delta, row.promotes)
    return Trial(row.version, row.baseline, terms, row.started_at)


def end_trial(session: Session, reason: str, now: datetime) -> bool:
    """End the trial under way, if there is one, and give whether there was."""
    ended = session.execute(
        update(TrialRow)
        .where(TrialRow.running == 1)
        .values(running=0, ended_at=now, reason=reason)
        .returning(TrialRow.id),
        execution_options=QUIET,
    )
    return ended.first() is not None


def last_ended(session: Session) -> tuple[str, str] | None:
    """Give version and reason of the trial that ended last, None if none has."""
    found = select(TrialRow.version, TrialRow.reason).where(TrialRow.running == 0)
    row = session.execute(found.order_by(TrialRow.id.desc()).limit(1)).first()
    return None if row is None else (row[0], row[1] or "")
