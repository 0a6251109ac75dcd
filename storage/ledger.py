"""Open, settle, refuse: functions over a Session. The caller owns the transaction.

An entry is one attempt at a request. Opening it holds its worst case in every budget that
applies; settling it writes each call and the true cost and frees the rest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from cost_models.types import Usage
from storage import statements
from storage.errors import EntryExistsError, EntryNotFoundError
from storage.holds import hold, settle_holds
from storage.marks import mark
from storage.models import EntryRow, EntryStatus, RefusalRow
from storage.offers import offered_text
from storage.prepared import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.errors import BudgetExceededError
    from cost_models.types import Arm
    from policies.types import Decision, Query
    from storage.waits import Place

ORGANISATION = "organisation"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked, as the ledger keeps it.

    ``scopes`` name the budgets that apply. The text of ``query`` is kept for learning unless
    ``keep_query_text`` is False: its hash alone is kept then. ``prompt_text`` is the whole
    conversation, given only where the operator stores prompts.
    """

    query: Query
    model_asked: str = "auto"
    scopes: tuple[str, ...] = (ORGANISATION,)
    end_user: str | None = None
    team: str | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    prompt_text: str | None = None
    keep_query_text: bool = True


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """A decision about to be run, and the worst case in whole nano-USD to hold for it."""

    asked: Asked
    decision: Decision
    hold_nano_usd: int

    def __post_init__(self) -> None:
        if self.hold_nano_usd < 0:
            msg = f"a hold must be at least 0 nano-USD, got {self.hold_nano_usd}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Call:
    """One upstream call to write down; ``cost_nano_usd`` is whole nano-USD, at least 0.

    ``price_source`` names the price that was used, with its version. ``in_doubt`` is True when
    the upstream never said what the call used and it is charged at its worst case. ``stage`` is
    the number of the attempt of a cascade that made it, 0 for any other arm. ``provider`` is who
    was asked, "" where nobody says. ``status`` is ``ok``, ``error``, ``cancelled`` or
    `TURNED_AWAY`; calls of the last kind stand behind the one that they were attempts at.
    """

    model: str
    role: str
    usage: Usage
    cost_nano_usd: int
    latency_s: float
    price_source: str = ""
    status: str = "ok"
    in_doubt: bool = False
    error: str | None = None
    stage: int = 0
    provider: str = ""

    def __post_init__(self) -> None:
        if self.cost_nano_usd < 0:
            msg = f"a call must cost at least 0 nano-USD, got {self.cost_nano_usd}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Attempted:
    """One stage of a cascade to write down; its cost and usage are those of its calls.

    ``trust`` in [0, 1] is what ``judge``, a rule or a verifier, said of the answer, None where it
    could not say; ``trusted`` that it sufficed. ``latency_s`` is None for one that was cut off.
    """

    arm: Arm
    judge: str
    latency_s: float | None = None
    answer_value: str | None = None
    confidence: float | None = None
    trust: float | None = None
    trusted: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SettleEntry:
    """What came of an entry. Its cost and usage are the sums of its calls, nothing else.

    ``answer_value`` is the canonical answer, None where there is none. ``error`` says why there
    is no whole answer; spent money is settled all the same. ``attempts`` are the stages of a
    cascade in their order, none for any other arm.
    """

    entry_id: int
    calls: tuple[Call, ...]
    latency_s: float
    answer_value: str | None = None
    confidence: float | None = None
    complete: bool = True
    error: str | None = None
    attempts: tuple[Attempted, ...] = ()

    @property
    def cost_nano_usd(self) -> int:
        """What the calls cost, in whole nano-USD."""
        return sum(call.cost_nano_usd for call in self.calls)

    @property
    def usage(self) -> Usage:
        """What the calls used."""
        return Usage.total(call.usage for call in self.calls)

    @property
    def status(self) -> EntryStatus:
        """In doubt as soon as one call is."""
        doubtful = any(call.in_doubt for call in self.calls)
        return EntryStatus.IN_DOUBT if doubtful else EntryStatus.SETTLED


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the ledger holds for an entry after settling; amounts are whole nano-USD.

    ``repeated`` is True when the entry had been settled before and nothing was written.
    """

    entry_id: int
    status: EntryStatus
    cost_nano_usd: int
    held_nano_usd: int
    repeated: bool = False

    @property
    def overshoot_nano_usd(self) -> int:
        """What was billed beyond the hold."""
        return max(0, self.cost_nano_usd - self.held_nano_usd)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was turned away: the arm, if one had been picked, and the reason.

    ``cause`` is the budget's refusal, None when something else stood in the way.
    """

    asked: Asked
    reason: str
    arm: Arm | None = None
    cause: BudgetExceededError | None = None


def open_entry(
    session: Session,
    entry: OpenEntry,
    replica_id: str,
    now: datetime,
    place: Place | None = None,
) -> int:
    """Write a decision's row and hold its worst case in every budget that applies; give its id.

    All or nothing, also when the caller catches the error and commits: raises BudgetExceededError
    if the hold does not fit, EntryExistsError if the attempt was opened before. ``place`` is as in
    `storage.holds.hold`.
    """
    with session.begin_nested():
        _write_request(session, entry.asked, now)
        entry_id = _write_entry(session, entry, replica_id, now)
        hold(session, entry_id, entry.asked.scopes, entry.hold_nano_usd, now, place)
        mark(session, (now,))
    return entry_id


def find_open(session: Session, replica_id: str, request_ids: Sequence[str]) -> list[int]:
    """Give the ids of the entries of some requests that a replica has open."""
    return list(
        session.scalars(
            select(EntryRow.id)
            .where(
                EntryRow.request_id.in_(request_ids),
                EntryRow.replica_id == replica_id,
                EntryRow.status == EntryStatus.OPEN,
            )
            .order_by(EntryRow.id)
        )
    )


def settle_entry(session: Session, settle: SettleEntry, now: datetime) -> Settlement:
    """Write the calls and the true cost of an entry, and free what was held beyond it.

    The cost is recorded in full, also above the hold. Settling again changes nothing and gives
    what stands (``repeated``), so it may be tried again after a lost connection. An entry that
    recovery had charged at its worst case gets its true cost, unless a bill gave it before.
    EntryNotFoundError if nobody opened it.
    """
    opened = session.execute(
        statements.SETTLE_OPEN, {"of_entry": settle.entry_id, **settled_values(settle, now)}
    ).one_or_none()
    if opened is None:
        return _settled_before(session, settle.entry_id)
    held_nano_usd, recovered_at, started_at = opened
    mark(session, (started_at,))
    settle_holds(
        session, settle.entry_id, settle.cost_nano_usd, charged_before=recovered_at is not None
    )
    if settle.calls:
        write(session, statements.INSERT_CALLS, call_rows(settle))
    if settle.attempts:
        write(session, statements.INSERT_ATTEMPTS, attempt_rows(settle))
    return Settlement(settle.entry_id, settle.status, settle.cost_nano_usd, held_nano_usd)


def record_refusal(session: Session, refusal: Refusal, now: datetime) -> None:
    """Write down a request that was turned away, in a transaction apart from the failed one."""
    _write_request(session, refusal.asked, now)
    mark(session, (now,))
    cause = refusal.cause
    session.execute(
        insert(RefusalRow).values(
            request_id=refusal.asked.query.query_id,
            model=refusal.arm.model if refusal.arm else None,
            strategy=refusal.arm.strategy if refusal.arm else None,
            reason=refusal.reason,
            scope=cause.facts.scope if cause else None,
            asked_nano_usd=cause.asked_nano_usd if cause else None,
            refused_at=now,
        )
    )


def _write_request(session: Session, asked: Asked, now: datetime) -> None:
    """Write the request's row unless an earlier attempt did."""
    write(session, statements.insert_requests(session), request_values(asked, now))


def _write_entry(session: Session, entry: OpenEntry, replica_id: str, now: datetime) -> int:
    entry_id = session.execute(
        statements.insert_entries(session), entry_values(entry, replica_id, now)
    ).scalar_one_or_none()
    if entry_id is None:
        raise EntryExistsError(entry.asked.query.query_id, entry.decision.attempt)
    return int(entry_id)


def request_values(asked: Asked, now: datetime) -> dict[str, Any]:
    """Give the columns of a request's row."""
    query = asked.query
    return {
        "id": query.query_id,
        "tenant": query.tenant,
        "end_user": asked.end_user,
        "team": asked.team,
        "tags": list(asked.tags) or None,
        "session": asked.session,
        "model_asked": asked.model_asked,
        "answer_kind": query.answer_kind.value,
        "query_sha256": hashlib.sha256(query.text.encode(errors="surrogatepass")).hexdigest(),
        "query_text": query.text if asked.keep_query_text else None,
        "posing": query.posing or None,
        "prompt_text": asked.prompt_text,
        "received_at": now,
    }


def entry_values(entry: OpenEntry, replica_id: str, now: datetime) -> dict[str, Any]:
    """Give the columns of an open entry's row."""
    decision = entry.decision
    shadow = decision.shadow
    return {
        "request_id": entry.asked.query.query_id,
        "attempt": decision.attempt,
        "replica_id": replica_id,
        "model": decision.arm.model,
        "strategy": decision.arm.strategy,
        "propensity": decision.propensity,
        "policy_version": decision.policy_version,
        "predicted_quality": decision.predicted_quality,
        "predicted_cost_usd": decision.predicted_cost_usd,
        "difficulty": decision.difficulty,
        "offered": offered_text(decision.offered),
        "shadow_policy": None if shadow is None else shadow.policy_version,
        "shadow_arm": None if shadow is None else str(shadow.arm),
        "reason": decision.reason,
        "held_nano_usd": entry.hold_nano_usd,
        "status": EntryStatus.OPEN,
        "started_at": now,
    }


def settled_values(settle: SettleEntry, now: datetime) -> dict[str, Any]:
    """Give the columns of an entry's row that settling sets."""
    return {
        "status": settle.status,
        "cost_nano_usd": settle.cost_nano_usd,
        "finished_at": now,
        "latency_s": settle.latency_s,
        "answer_value": settle.answer_value,
        "confidence": settle.confidence,
        "complete": settle.complete,
        "error": settle.error,
        **usage_columns(settle.usage),
    }


def _settled_before(session: Session, entry_id: int) -> Settlement:
    row = session.execute(
        select(EntryRow.status, EntryRow.cost_nano_usd, EntryRow.held_nano_usd).where(
            EntryRow.id == entry_id
        )
    ).one_or_none()
    if row is None:
        key = f"entry {entry_id}"
        raise EntryNotFoundError(key)
    status, cost_nano_usd, held_nano_usd = row
    return Settlement(entry_id, status, cost_nano_usd, held_nano_usd, repeated=True)


def call_rows(settle: SettleEntry) -> list[dict[str, Any]]:
    """Give the columns of a row for each call."""
    return [
        {
            "entry_id": settle.entry_id,
            "seq": seq,
            "model": call.model,
            "role": str(call.role),
            "cost_nano_usd": call.cost_nano_usd,
            "price_source": call.price_source,
            "latency_s": call.latency_s,
            "status": call.status,
            "in_doubt": call.in_doubt,
            "error": call.error,
            "stage": call.stage,
            "provider": call.provider,
            **usage_columns(call.usage),
        }
        for seq, call in enumerate(settle.calls)
    ]


def attempt_rows(settle: SettleEntry) -> list[dict[str, Any]]:
    """Give the columns of a row for each stage of a cascade, with the sums over its calls."""
    rows = []
    for seq, attempt in enumerate(settle.attempts):
        calls = [call for call in settle.calls if call.stage == seq]
        rows.append(
            {
                "entry_id": settle.entry_id,
                "seq": seq,
                "model": attempt.arm.model,
                "strategy": attempt.arm.strategy,
                "cost_nano_usd": sum(call.cost_nano_usd for call in calls),
                "latency_s": attempt.latency_s,
                "answer_value": attempt.answer_value,
                "confidence": attempt.confidence,
                "judge": attempt.judge,
                "trust": attempt.trust,
                "trusted": attempt.trusted,
                "error": attempt.error,
                **usage_columns(Usage.total(call.usage for call in calls)),
            }
        )
    return rows


def usage_columns(usage: Usage) -> dict[str, int | bool]:
    """Give the columns that entries and calls have for a usage."""
    return {
        "n_calls": usage.n_calls,
        "prompt_tokens": usage.prompt_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "machine_ns": usage.machine_ns,
        "usage_estimated": usage.estimated,
    }
