"""Keys in the ledger: the secret is shown once, a keyed hash of it is kept.

A key is ``rh_ID_SECRET``. ID is public, and what lists and logs show. The hash is keyed by a pepper
that is not in the database, so a copy of the database does not say which secrets are right.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from cost_models.rates import NO_LIMITS, RateLimits
from storage.dialects import insert_into
from storage.errors import KeyNotFoundError
from storage.holds import QUIET
from storage.models import KeyRow, MetaRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

PREFIX = "rh"
ID_BYTES = 6
SECRET_BYTES = 32
N_PARTS = 3
FIRST_KEY = "first_key_made_at"


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; ``allowed_models`` None allows every model.

    ``name`` is the tenant that it spends for; several keys may share one, as in a rotation. What is
    asked with it counts in the budgets of its ``team`` too.
    """

    key_id: str
    name: str
    digest: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    allowed_models: tuple[str, ...] | None
    team: str | None = None
    limits: RateLimits = NO_LIMITS

    def is_valid(self, now: datetime) -> bool:
        """Tell whether the key opens anything at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def opened_by(self, shown: str, pepper: str) -> bool:
        """Tell whether ``shown`` is this key, in a time that says nothing of the secret."""
        return hmac.compare_digest(self.digest, digest_of(shown, pepper))


def digest_of(shown: str, pepper: str) -> str:
    """Give the keyed hash of a whole key."""
    return hmac.new(pepper.encode(), shown.encode(), hashlib.sha256).hexdigest()


def id_of(shown: str) -> str | None:
    """Read the public id of a key, None for text that is no key of the ledger."""
    parts = shown.split("_", N_PARTS - 1)
    if len(parts) != N_PARTS or parts[0] != PREFIX or not parts[2]:
        return None
    return parts[1]


def create_key(  # noqa: PLR0913 - the fields of a key
    session: Session,
    name: str,
    pepper: str,
    now: datetime,
    *,
    expires_at: datetime | None = None,
    allowed_models: Sequence[str] | None = None,
    team: str | None = None,
    limits: RateLimits = NO_LIMITS,
) -> str:
    """Make a key and give it: the only time that its secret can be read."""
    key_id = secrets.token_hex(ID_BYTES)
    shown = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    session.execute(
        insert(KeyRow).values(
            id=key_id,
            name=name,
            digest=digest_of(shown, pepper),
            team=team,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            parallel_requests=limits.parallel_requests,
            created_at=now,
            expires_at=expires_at,
            allowed_models=None if allowed_models is None else list(allowed_models),
        )
    )
    return shown


def create_first_key(session: Session, name: str, pepper: str, now: datetime) -> str | None:
    """Make the first key of a ledger and give it; None where one was made before, by anybody."""
    if session.scalar(select(KeyRow.id).limit(1)) is not None:
        return None
    mine = session.execute(
        insert_into(session, MetaRow)
        .values(key=FIRST_KEY, value=now.isoformat())
        .on_conflict_do_nothing()
        .returning(MetaRow.key)
    ).one_or_none()
    return None if mine is None else create_key(session, name, pepper, now)


def find_key(session: Session, key_id: str) -> Key | None:
    """Look a key up by its public id."""
    row = session.get(KeyRow, key_id)
    return None if row is None else _key(row)


def list_keys(session: Session) -> list[Key]:
    """Give every key, also those that are over, the oldest first."""
    rows = session.scalars(select(KeyRow).order_by(KeyRow.created_at, KeyRow.id))
    return [_key(row) for row in rows]


def revoke_key(session: Session, key_id: str, now: datetime) -> None:
    """End a key at once; again changes nothing. KeyNotFoundError for one that is not there."""
    if find_key(session, key_id) is None:
        raise KeyNotFoundError(key_id)
    session.execute(
        update(KeyRow)
        .where(KeyRow.id == key_id, KeyRow.revoked_at.is_(None))
        .values(revoked_at=now),
        execution_options=QUIET,
    )


def rotate_key(
    session: Session, key_id: str, pepper: str, now: datetime, *, old_until: datetime
) -> str:
    """Make a key in the place of another, which opens until ``old_until``, and give it.

    Name, team, models and limits stay; the new one does not expire. KeyNotFoundError for one that
    is not there or is over already.
    """
    old = find_key(session, key_id)
    if old is None or not old.is_valid(now):
        raise KeyNotFoundError(key_id)
    ends_before = old.expires_at is not None and old.expires_at < old_until
    if not ends_before:
        session.execute(
            update(KeyRow).where(KeyRow.id == key_id).values(expires_at=old_until),
            execution_options=QUIET,
        )
    return create_key(
        session,
        old.name,
        pepper,
        now,
        allowed_models=old.allowed_models,
        team=old.team,
        limits=old.limits,
    )


def limit_key(session: Session, key_id: str, limits: Mapping[str, int | None]) -> RateLimits:
    """Change some of the limits of a key, by their names in `RateLimits`, and give all of them.

    KeyNotFoundError for one that is not there.
    """
    known = find_key(session, key_id)
    if known is None:
        raise KeyNotFoundError(key_id)
    session.execute(
        update(KeyRow).where(KeyRow.id == key_id).values(limits), execution_options=QUIET
    )
    return replace(known.limits, **limits)


def _key(row: KeyRow) -> Key:
    models = row.allowed_models
    return Key(
        key_id=row.id,
        name=row.name,
        digest=row.digest,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        allowed_models=None if models is None else tuple(models),
        team=row.team,
        limits=RateLimits(row.requests_per_minute, row.tokens_per_minute, row.parallel_requests),
    )
