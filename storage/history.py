"""Graded history as rows of an outcomes table: read from the ledger, or put into it from elsewhere.

What comes from elsewhere belongs to the replica ``import``. Its costs are written down like any
other, but nothing was spent here: no budget counts it and reports leave it out. An imported entry
without a call has no known cost, and one of the policy ``import:undecided`` no known propensity.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import insert, select

from cost_models.estimates import NS_PER_S
from cost_models.money import NANO_PER_USD, to_nano_usd
from cost_models.types import Arm, Usage
from policies.errors import OutcomeError
from policies.types import AnswerKind
from storage.dialects import insert_into
from storage.ledger import usage_columns
from storage.marks import mark
from storage.models import (
    IMPORTED,
    UNSTORABLE,
    CallRow,
    EntryRow,
    EntryStatus,
    OutcomeRow,
    ReplicaRow,
    RequestRow,
)
from storage.outcomes import entry_quality

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from policies.outcomes import OutcomeTable, Row

AUTO = "auto"
"""What a request asks for that leaves the choice to the policy."""
UNDECIDED = "import:undecided"
"""Policy version of imported entries of which nobody said how likely their arm was."""
ROWS_AT_ONCE = 500
MOST = 9e9
"""Above this an amount in billionths does not fit its column."""


@dataclass(frozen=True, slots=True)
class History:
    """Graded answers, oldest first, with the columns of an outcomes table; and what is left out.

    ``n_ungraded`` finished answers have no grade; of ``n_without_text`` graded ones the question
    was not kept.
    """

    rows: tuple[Row, ...]
    n_ungraded: int
    n_without_text: int


def read_history(
    session: Session, since: datetime | None = None, until: datetime | None = None
) -> History:
    """Read the finished entries begun in [``since``, ``until``); an imported one began then.

    ``correct`` is given where the grade is 0 or 1, else ``score``; ``propensity`` where a policy
    had the choice; ``sample_index`` is the attempt. Queries keep the ids that they were imported
    with, unless another text has that id.
    """
    quality = entry_quality()
    found = (
        select(EntryRow, RequestRow, quality.c.quality)
        .join(RequestRow, RequestRow.id == EntryRow.request_id)
        .outerjoin(quality, quality.c.entry_id == EntryRow.id)
        .where(EntryRow.finished_at.is_not(None))
        .order_by(EntryRow.id)
    )
    if since is not None:
        found = found.where(EntryRow.started_at >= since)
    if until is not None:
        found = found.where(EntryRow.started_at < until)
    rows: list[Row] = []
    text_of: dict[str, str] = {}
    n_ungraded = n_without_text = 0
    for entry, request, grade in session.execute(
        found, execution_options={"yield_per": ROWS_AT_ONCE}
    ):
        text = request.query_text
        if grade is None:
            n_ungraded += 1
        elif text is None:
            n_without_text += 1
        else:
            query_id = _outside_id(entry)
            if text_of.setdefault(query_id, text) != text:
                query_id = f"{request.id}#2"
            asked = {"query_id": query_id, "query": text}
            if request.posing is not None:
                asked["posing"] = request.posing
            rows.append({**asked, **_row(entry, request, grade)})
    return History(tuple(rows), n_ungraded, n_without_text)


def _row(entry: EntryRow, request: RequestRow, quality: float) -> Row:
    imported = entry.replica_id == IMPORTED
    row: dict[str, Any] = {
        "model": entry.model,
        "strategy": entry.strategy,
        "correct" if quality in {0.0, 1.0} else "score": quality,
        "sample_index": entry.attempt,
        "answer": entry.answer_value,
        "prompt_tokens": entry.prompt_tokens,
        "completion_tokens": entry.completion_tokens,
        "cost_usd": entry.cost_nano_usd / NANO_PER_USD,
        "latency_s": entry.latency_s,
        "machine_s": entry.machine_ns / NS_PER_S if entry.machine_ns else None,
        "propensity": entry.propensity if _decided(entry, request) else None,
    }
    if imported and not entry.n_calls:
        row["cost_usd"] = None
    if imported:
        row["prompt_tokens"] = entry.prompt_tokens or None
        row["completion_tokens"] = entry.completion_tokens or None
    return {name: value for name, value in row.items() if value is not None}


def _decided(entry: EntryRow, request: RequestRow) -> bool:
    """Whether a policy had the choice: not where the client named the model."""
    return request.model_asked == AUTO and entry.policy_version != UNDECIDED


def _outside_id(entry: EntryRow) -> str:
    return entry.request_id.split(":", 2)[2] if entry.replica_id == IMPORTED else entry.request_id


def import_history(session: Session, tables: Iterable[OutcomeTable], now: datetime) -> int:
    """Put graded outcomes into the ledger, and give how many it did not have; the caller commits.

    An outcome is known by query id and text, arm and sample. One that is there, also one that this
    gateway served, is left as it is. Tasks, right answers and folds are not kept. Raises
    OutcomeError, with nothing written, for a sample_index that is no whole number or an amount
    beyond all measure.
    """
    checked = list(tables)
    for table in checked:
        _check(table)
    session.execute(
        insert_into(session, ReplicaRow)
        .values(id=IMPORTED, host=IMPORTED, pid=0, started="", registered_at=now, heartbeat_at=now)
        .on_conflict_do_nothing()
    )
    outcomes = (_Outside.of(row) for table in checked for row in table.rows())
    return sum(_add(session, part, now) for part in _parts(outcomes))


@dataclass(frozen=True, slots=True)
class _Outside:
    """One outcome from elsewhere and the request that it becomes an attempt of."""

    request_id: str
    query_id: str
    text: str
    arm: Arm
    row: Row

    @classmethod
    def of(cls, row: Row) -> _Outside:
        arm = Arm(row["model"], row["strategy"])
        text = row.get("query", "")
        key = "\0".join([row["query_id"], text, str(arm)]).encode(errors="surrogatepass")
        query_id = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", row["query_id"])
        request_id = f"{IMPORTED}:{hashlib.sha256(key).hexdigest()[:32]}:{query_id}"
        return cls(request_id, query_id, text, arm, row)

    @property
    def sample(self) -> int:
        return int(self.row.get("sample_index", 0))

    @property
    def usage(self) -> Usage:
        return Usage(
            n_calls=int(self.cost_nano_usd is not None),
            prompt_tokens=int(self.row.get("prompt_tokens", 0)),
            completion_tokens=int(self.row.get("completion_tokens", 0)),
            machine_ns=round(self.row.get("machine_s", 0.0) * NS_PER_S),
        )

    @property
    def cost_nano_usd(self) -> int | None:
        cost_usd = self.row.get("cost_usd")
        return None if cost_usd is None else to_nano_usd(Decimal(repr(float(cost_usd))))

    def request_columns(self, now: datetime) -> dict[str, Any]:
        return {
            "id": self.request_id,
            "tenant": IMPORTED,
            "model_asked": AUTO,
            "answer_kind": AnswerKind.TEXT.value,
            "query_sha256": hashlib.sha256(self.text.encode(errors="surrogatepass")).hexdigest(),
            "query_text": self.text,
            "posing": self.row.get("posing"),
            "received_at": now,
        }

    def entry_columns(self, now: datetime) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "attempt": self.sample,
            "replica_id": IMPORTED,
            "model": self.arm.model,
            "strategy": self.arm.strategy,
            "propensity": self.row.get("propensity", 1.0),
            "policy_version": IMPORTED if "propensity" in self.row else UNDECIDED,
            "reason": "imported",
            "held_nano_usd": 0,
            "cost_nano_usd": self.cost_nano_usd or 0,
            "status": EntryStatus.SETTLED,
            "started_at": now,
            "finished_at": now,
            "latency_s": self.row.get("latency_s"),
            "answer_value": self.row.get("answer") or None,
            "complete": True,
            **usage_columns(self.usage),
        }

    def call_columns(self, entry_id: int) -> dict[str, Any]:
        return {
            "entry_id": entry_id,
            "seq": 0,
            "model": self.arm.model,
            "role": "answer",
            "cost_nano_usd": self.cost_nano_usd,
            "price_source": IMPORTED,
            "latency_s": self.row.get("latency_s", 0.0),
            "status": "ok",
            "in_doubt": False,
            **usage_columns(self.usage),
        }


def _add(session: Session, part: Sequence[_Outside], now: datetime) -> int:
    """Write what is not there; the database decides what is, also when two import at once."""
    served = _served(session, part)
    new = [o for o in part if (o.query_id, o.sample, o.arm) not in served]
    if not new:
        return 0
    mark(session, (now,))
    requests = {o.request_id: o.request_columns(now) for o in new}
    session.execute(
        insert_into(session, RequestRow).on_conflict_do_nothing(), list(requests.values())
    )
    written = session.execute(
        insert_into(session, EntryRow)
        .on_conflict_do_nothing(index_elements=["request_id", "attempt"])
        .returning(EntryRow.request_id, EntryRow.attempt, EntryRow.id),
        [o.entry_columns(now) for o in new],
    )
    entry_ids = {(request_id, attempt): entry_id for request_id, attempt, entry_id in written}
    added = {entry_ids[o.request_id, o.sample]: o for o in new if _key(o) in entry_ids}
    calls = [o.call_columns(i) for i, o in added.items() if o.cost_nano_usd is not None]
    if calls:
        session.execute(insert(CallRow), calls)
    grades = [
        {
            "entry_id": entry_id,
            "quality": float(o.row["correct" if "correct" in o.row else "score"]),
            "grader": IMPORTED,
            "weight": 1.0,
            "recorded_at": now,
        }
        for entry_id, o in added.items()
    ]
    if grades:
        session.execute(insert(OutcomeRow), grades)
    return len(added)


def _key(outside: _Outside) -> tuple[str, int]:
    return outside.request_id, outside.sample


def _served(session: Session, part: Sequence[_Outside]) -> set[tuple[str, int, Arm]]:
    """Give those of the outcomes that are this ledger's own, which was exported once."""
    found = session.execute(
        select(EntryRow.request_id, EntryRow.attempt, EntryRow.model, EntryRow.strategy).where(
            EntryRow.request_id.in_({o.query_id for o in part}), EntryRow.replica_id != IMPORTED
        )
    )
    return {(request_id, attempt, Arm(*arm)) for request_id, attempt, *arm in found}


def _parts(outcomes: Iterable[_Outside]) -> Iterator[list[_Outside]]:
    part: list[_Outside] = []
    for outcome in outcomes:
        part.append(outcome)
        if len(part) == ROWS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _check(table: OutcomeTable) -> None:
    """Raise OutcomeError at the first number that the ledger cannot hold."""
    sample = table.numbers["sample_index"]
    amounts = ("sample_index", "prompt_tokens", "completion_tokens", "cost_usd", "machine_s")
    problems = [
        ("sample_index", ~np.isnan(sample) & (sample % 1 != 0), "must be a whole number"),
        *((n, table.numbers[n] > MOST, f"must be at most {MOST:g}") for n in amounts),
    ]
    for column, bad, problem in problems:
        if bad.any():
            i = int(bad.argmax())
            msg = f"{problem}, got {table.numbers[column][i]:g}"
            raise OutcomeError(table.source, msg, row=i + 1, column=column)
