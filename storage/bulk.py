"""Several openings, or several settlements, in a few statements: what makes a shared commit cheap.

The plain case only: where one of them is refused, held back, repeated or unknown, nothing is
written and the caller takes them one by one, with `storage.ledger`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from storage import statements
from storage.budgets import budgets_in_force
from storage.holds import holds_row, movement, take
from storage.ledger import (
    Settlement,
    attempt_rows,
    call_rows,
    entry_values,
    request_values,
    settled_values,
)
from storage.marks import mark
from storage.prepared import write
from storage.waits import Place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.budgets import Window
    from storage.budgets import KnownBudget
    from storage.ledger import OpenEntry, SettleEntry

Key = tuple[int, "datetime"]


class _NotPlainError(Exception):
    """One of them needs to be looked at alone."""


def open_together(
    session: Session, entries: Sequence[tuple[OpenEntry, datetime]], replica_id: str
) -> list[int] | None:
    """Open all ``entries``, each at its time, and give their ids; None when nothing was opened.

    All fit every budget together, and nobody waits there.
    """
    try:
        with session.begin_nested():
            return _open(session, entries, replica_id)
    except _NotPlainError:
        return None


def _open(
    session: Session, entries: Sequence[tuple[OpenEntry, datetime]], replica_id: str
) -> list[int]:
    requests = [request_values(entry.asked, now) for entry, now in entries]
    write(session, statements.insert_requests(session), requests)
    rows = [entry_values(entry, replica_id, now) for entry, now in entries]
    written = session.execute(statements.insert_entries(session), rows).all()
    if len(written) < len(rows):
        raise _NotPlainError
    ids = {(request_id, attempt): int(entry_id) for entry_id, request_id, attempt in written}
    entry_ids = [ids[row["request_id"], row["attempt"]] for row in rows]
    amounts: defaultdict[Key, int] = defaultdict(int)
    windows: dict[Key, tuple[KnownBudget, datetime]] = {}
    holds = []
    in_force: dict[tuple[str, ...], list[KnownBudget]] = {}
    current: dict[int, Window] = {}
    for entry_id, (entry, now) in zip(entry_ids, entries, strict=True):
        scopes = entry.asked.scopes
        if scopes not in in_force:
            in_force[scopes] = budgets_in_force(session, scopes)
        for known in in_force[scopes]:
            window = current.get(known.budget_id)
            if window is None or not window.holds(now):
                window = current[known.budget_id] = known.window(now)
            key = (known.budget_id, window.start)
            amounts[key] += entry.hold_nano_usd
            windows[key] = (known, now)
            holds.append(holds_row(entry_id, key, entry.hold_nano_usd))
    for key in sorted(amounts):
        known, now = windows[key]
        if not take(session, known, key[1], amounts[key], Place(), now):
            raise _NotPlainError
    if holds:
        write(session, statements.INSERT_HOLDS, holds)
    mark(session, [now for _, now in entries])
    return entry_ids


def settle_together(
    session: Session, settles: Sequence[tuple[SettleEntry, datetime]]
) -> list[Settlement] | None:
    """Settle all of them, each at its time; None when nothing was settled.

    All are open and held, as it is where nothing went wrong.
    """
    ids = [settle.entry_id for settle, _ in settles]
    held = {
        int(entry_id): (int(held_nano_usd), started_at)
        for entry_id, held_nano_usd, started_at in session.execute(
            statements.OPEN_AND_HELD, {"entry_ids": ids}
        )
    }
    if len(held) < len(ids):
        return None
    write(
        session,
        statements.SETTLE,
        [{"of_entry": settle.entry_id, **settled_values(settle, now)} for settle, now in settles],
    )
    _move(session, {settle.entry_id: settle.cost_nano_usd for settle, _ in settles})
    calls: list[dict[str, Any]] = [row for settle, _ in settles for row in call_rows(settle)]
    if calls:
        write(session, statements.INSERT_CALLS, calls)
    attempts: list[dict[str, Any]] = [row for s, _ in settles for row in attempt_rows(s)]
    if attempts:
        write(session, statements.INSERT_ATTEMPTS, attempts)
    mark(session, [started_at for _, started_at in held.values()])
    return [
        Settlement(s.entry_id, s.status, s.cost_nano_usd, held[s.entry_id][0]) for s, _ in settles
    ]


def _move(session: Session, cost_of: dict[int, int]) -> None:
    """Turn what the entries hold into what they cost, each window in one statement."""
    moved: defaultdict[Key, list[int]] = defaultdict(lambda: [0, 0, 0])
    for entry_id, budget_id, start, amount in session.execute(
        statements.HOLDS_OF_ENTRIES, {"entry_ids": list(cost_of)}
    ):
        cost = cost_of[entry_id]
        sums = moved[budget_id, start]
        sums[0] += cost
        sums[1] -= amount
        sums[2] += max(0, cost - amount)
    if moved:
        write(session, statements.MOVE, [movement(key, *moved[key]) for key in sorted(moved)])
