"""Fitted policies, kept with the ledger that they were learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from policies.errors import PolicyNotReadyError
from storage.dialects import insert_into
from storage.errors import LedgerError
from storage.holds import QUIET
from storage.models import PolicyRow
from storage.trials import end_trial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy as it was fitted; ``promoted_at`` is None while it never was in service."""

    version: str
    artifact: bytes
    manifest: Mapping[str, Any]
    created_at: datetime
    promoted_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeptPolicy:
    """A policy in a list: all but its artifact."""

    version: str
    manifest: Mapping[str, Any]
    created_at: datetime
    promoted_at: datetime | None


def save_policy(
    session: Session, version: str, artifact: bytes, manifest: Mapping[str, Any], now: datetime
) -> None:
    """Keep a fitted policy; saving the same one again changes nothing.

    Raises LedgerError if another artifact has that version: a version names one policy for good.
    """
    session.execute(
        insert_into(session, PolicyRow)
        .values(version=version, artifact=artifact, manifest=dict(manifest), created_at=now)
        .on_conflict_do_nothing()
    )
    if read_policy(session, version).artifact != artifact:
        msg = f"another policy is called {version!r}; give this one a version of its own"
        raise LedgerError(msg)


def promote_policy(session: Session, version: str, now: datetime, *, reason: str = "") -> None:
    """Put a kept policy in service, also to go back to an older one; PolicyNotReadyError if none.

    The policy promoted last is the one in service. A trial under way ends with it; ``reason``
    says why, if that was known.
    """
    end_trial(session, reason or f"policy {version} was put in service", now)
    found = session.execute(
        update(PolicyRow)
        .where(PolicyRow.version == version)
        .values(promoted_at=now)
        .returning(PolicyRow.version),
        execution_options=QUIET,
    ).one_or_none()
    if found is None:
        raise _unknown(version)


def kept_policies(session: Session) -> list[KeptPolicy]:
    """List every kept policy, the newest first, without their artifacts."""
    found = select(
        PolicyRow.version, PolicyRow.manifest, PolicyRow.created_at, PolicyRow.promoted_at
    ).order_by(PolicyRow.created_at.desc(), PolicyRow.version)
    return [KeptPolicy(*row) for row in session.execute(found)]


def roll_back(session: Session, now: datetime) -> str:
    """Put the policy in service again that was before the present one; give its version.

    PolicyNotReadyError if there was none. Rolling back twice returns to the first.
    """
    promoted = select(PolicyRow.version).where(PolicyRow.promoted_at.is_not(None))
    order = (PolicyRow.promoted_at.desc(), PolicyRow.created_at.desc())
    versions = session.scalars(promoted.order_by(*order).limit(2)).all()
    if len(versions) < len(("present", "before")):
        msg = "no other policy was in service before; promote one by its version"
        raise PolicyNotReadyError(msg)
    promote_policy(session, versions[1], now)
    return versions[1]


def read_policy(session: Session, version: str) -> StoredPolicy:
    """Give the policy of that version; PolicyNotReadyError if there is none."""
    found = find_policy(session, version)
    if found is None:
        raise _unknown(version)
    return found


def find_policy(session: Session, version: str) -> StoredPolicy | None:
    """Give the policy of that version, None if there is none."""
    row = session.scalars(select(PolicyRow).where(PolicyRow.version == version)).one_or_none()
    return None if row is None else _stored(row)


def kept_versions(session: Session, at_most: int) -> list[str]:
    """List the versions of the policies kept last, the newest first."""
    newest = select(PolicyRow.version).order_by(PolicyRow.created_at.desc(), PolicyRow.version)
    return list(session.scalars(newest.limit(at_most)))


def policy_in_service(session: Session) -> StoredPolicy | None:
    """Give the policy promoted last, None before the first promotion."""
    row = session.scalars(
        select(PolicyRow)
        .where(PolicyRow.promoted_at.is_not(None))
        .order_by(PolicyRow.promoted_at.desc(), PolicyRow.created_at.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _stored(row)


def _stored(row: PolicyRow) -> StoredPolicy:
    return StoredPolicy(row.version, row.artifact, row.manifest, row.created_at, row.promoted_at)


def _unknown(version: str) -> PolicyNotReadyError:
    return PolicyNotReadyError(
        f"no policy {version!r} is kept in the ledger; see: rheostat policy list, or name a "
        "directory from: rheostat fit"
    )
