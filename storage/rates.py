"""Limits on how fast keys ask: requests and tokens per minute, requests at once.

One row per subject, which is the name of keys, shared by all replicas. Requests and tokens are
counted by the generic cell rate algorithm (ITU-T I.371): a request moves the time until which
something counts as used by its share of the minute, and is let in where that time is then at most
a minute ahead. One statement decides, so two requests cannot both take what is left. Requests at
once are permits: rows that go when a request ends, and lapse where its process has died.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update

from cost_models.budgets import EPOCH
from cost_models.rates import MINUTE_NS, Bucket
from storage import statements
from storage.dialects import insert_into
from storage.errors import RateLimitedError
from storage.holds import QUIET
from storage.models import PermitRow, RateRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.rates import RateLimits

PARALLEL_RETRY_S = 1.0
"""When to ask again where too many run at once: nobody knows when one of them ends."""

NOTHING_USED = {"requests_until_ns": 0, "tokens_until_ns": 0, "in_flight": 0}


@dataclass(frozen=True, slots=True)
class RateAsk:
    """A request that asks to be let in, for about ``tokens``; ``permit_id`` is its own."""

    subject: str
    permit_id: str
    limits: RateLimits
    tokens: int


@dataclass(frozen=True, slots=True)
class Permit:
    """A request that was let in: ``tokens`` were counted for it, ``buckets`` is what is left."""

    ask: RateAsk
    tokens: int
    buckets: dict[str, Bucket]

    @property
    def is_to_end(self) -> bool:
        """Whether the end of the request changes what is counted."""
        limits = self.ask.limits
        return limits.parallel_requests is not None or limits.tokens_per_minute is not None


def admit(session: Session, ask: RateAsk, now: datetime, lapses_at: datetime) -> Permit:
    """Let a request in and count it, or raise RateLimitedError, with nothing counted.

    One that asks for more tokens than the whole limit is let in when none are used: it could never
    be otherwise. Its permit, if it has one, lapses at ``lapses_at`` unless `tend` renews it.
    """
    limits, now_ns = ask.limits, nanoseconds(now)
    asked = _asked(ask)
    statement = statements.admit(
        requests=limits.requests_per_minute is not None,
        tokens=limits.tokens_per_minute is not None,
        parallel=limits.parallel_requests is not None,
    )
    values = {
        "of_subject": ask.subject,
        "now_ns": now_ns,
        "full_ns": now_ns + MINUTE_NS,
        "parallel": limits.parallel_requests,
        **{f"{name}_ns": Bucket(limit, 0).cost_ns(n) for name, (limit, n) in asked.items()},
    }
    while True:
        row = session.execute(statement, values).one_or_none()
        if row is not None:
            break
        standing = session.execute(statements.RATE, {"of_subject": ask.subject}).one_or_none()
        if standing is None:
            make_subjects(session, [ask.subject])
        elif (refusal := _refusal(ask, standing, now_ns)) is not None:
            raise refusal
    if limits.parallel_requests is not None:
        permit = {"id": ask.permit_id, "subject": ask.subject, "lapses_at": lapses_at}
        session.execute(statements.INSERT_PERMIT, permit)
    n_tokens = asked["tokens"][1] if "tokens" in asked else 0
    return Permit(ask, n_tokens, _buckets(ask, row, now_ns))


def release(session: Session, permit: Permit, tokens: int, now: datetime) -> None:
    """End a request that was let in and used ``tokens``: count what differs from the guess.

    A permit that lapsed before changes nothing any more but the tokens.
    """
    ask, limit = permit.ask, permit.ask.limits.tokens_per_minute
    ended = 0
    if ask.limits.parallel_requests is not None:
        lock_subjects(session, [ask.subject])
        gone = session.execute(statements.DELETE_PERMIT, {"of_permit": ask.permit_id})
        ended = len(gone.all())
    used_ns = 0
    if limit is not None:
        used_ns = (tokens - permit.tokens) * MINUTE_NS // limit
    values = {
        "of_subject": ask.subject,
        "now_ns": nanoseconds(now),
        "used_ns": used_ns,
        "ended": ended,
    }
    session.execute(statements.MOVE_RATE, values)


def tend(session: Session, running: Sequence[str], now: datetime, lapses_at: datetime) -> int:
    """Renew the permits of requests that run here, take away what has lapsed; give how many."""
    subjects = session.scalars(select(PermitRow.subject).distinct()).all()
    lock_subjects(session, subjects)
    session.execute(
        update(PermitRow).where(PermitRow.id.in_(running)).values(lapses_at=lapses_at),
        execution_options=QUIET,
    )
    lapsed = session.scalars(
        delete(PermitRow)
        .where(PermitRow.subject.in_(subjects), PermitRow.lapses_at <= now)
        .returning(PermitRow.subject),
        execution_options=QUIET,
    ).all()
    for subject, n in sorted(Counter(lapsed).items()):
        session.execute(
            update(RateRow)
            .where(RateRow.subject == subject)
            .values(in_flight=RateRow.in_flight - n),
            execution_options=QUIET,
        )
    return len(lapsed)


def has_permits(session: Session) -> bool:
    """Tell whether anybody has a permit."""
    return session.scalar(select(PermitRow.id).limit(1)) is not None


def make_subjects(session: Session, subjects: Iterable[str]) -> None:
    """Make the rows of subjects, in a fixed order, unless they are there."""
    for subject in sorted(set(subjects)):
        session.execute(
            insert_into(session, RateRow)
            .values(subject=subject, **NOTHING_USED)
            .on_conflict_do_nothing()
        )


def hold_subjects(session: Session, subjects: Collection[str]) -> None:
    """Lock the rows that requests in one transaction will touch; those missing are made first.

    They come after entries and windows. SQLite has one writer at a time, and needs none of it.
    """
    if not subjects or session.get_bind().dialect.name == "sqlite":
        return
    in_order = sorted(subjects)
    there = session.scalars(select(RateRow.subject).where(RateRow.subject.in_(in_order))).all()
    make_subjects(session, set(in_order).difference(there))
    lock_subjects(session, in_order)


def lock_subjects(session: Session, subjects: Sequence[str]) -> None:
    """Lock the rows of subjects until the commit, in a fixed order."""
    session.execute(statements.LOCK_RATES, {"subjects": list(subjects)})


def counters(session: Session) -> list[tuple[str, int, int]]:
    """Give each subject whose ``in_flight`` differs from its permits: what they are, what it is."""
    n_permits = (
        select(func.count(PermitRow.id))
        .where(PermitRow.subject == RateRow.subject)
        .scalar_subquery()
    )
    wrong = (
        select(RateRow.subject, n_permits, RateRow.in_flight)
        .where(RateRow.in_flight != n_permits)
        .order_by(RateRow.subject)
    )
    return [(subject, int(n), found) for subject, n, found in session.execute(wrong)]


def nanoseconds(now: datetime) -> int:
    """Give an instant as nanoseconds since 1970."""
    return (now - EPOCH) // timedelta(microseconds=1) * 1000


def _asked(ask: RateAsk) -> dict[str, tuple[int, int]]:
    """Give each limit per minute that there is, and what is asked of it."""
    limits, asked = ask.limits, {}
    if limits.requests_per_minute is not None:
        asked["requests"] = (limits.requests_per_minute, 1)
    if limits.tokens_per_minute is not None:
        asked["tokens"] = (limits.tokens_per_minute, min(ask.tokens, limits.tokens_per_minute))
    return asked


def _buckets(ask: RateAsk, row: Any, now_ns: int) -> dict[str, Bucket]:  # noqa: ANN401 - a row of `rates`
    until_ns = {"requests": row.requests_until_ns, "tokens": row.tokens_until_ns}
    return {
        name: Bucket(limit, max(0, until_ns[name] - now_ns))
        for name, (limit, _) in _asked(ask).items()
    }


def _refusal(ask: RateAsk, row: Any, now_ns: int) -> RateLimitedError | None:  # noqa: ANN401 - as above
    """Say which limit is in the way, None where there was one and is no more."""
    buckets = _buckets(ask, row, now_ns)
    waits = {name: buckets[name].wait_s(n) for name, (_, n) in _asked(ask).items()}
    longest = max(waits, key=waits.__getitem__, default=None)
    if longest is not None and waits[longest] > 0:
        limit = f"{buckets[longest].limit} {longest} per minute"
        return RateLimitedError(ask.subject, limit, waits[longest], buckets)
    parallel = ask.limits.parallel_requests
    if parallel is not None and row.in_flight >= parallel:
        limit = f"{parallel} requests at once"
        return RateLimitedError(ask.subject, limit, PARALLEL_RETRY_S, buckets)
    return None
