"""Replicas and their crashes: what a dead process left open is charged at its worst case."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from storage.dialects import insert_into
from storage.holds import QUIET, charge_held
from storage.marks import mark
from storage.models import EntryRow, EntryStatus, HoldRow, ReplicaRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

PROC = Path("/proc")
ENDED = frozenset("ZX")
STARTED_FIELD = 19
BATCH = 500


@dataclass(frozen=True, slots=True)
class Replica:
    """A process that opens entries; ``host`` and ``started`` are as in `storage.models`."""

    replica_id: str
    host: str
    pid: int
    started: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """An entry whose replica died, charged at its worst case until somebody knows better."""

    entry_id: int
    request_id: str
    attempt: int
    replica_id: str
    charged_nano_usd: int


def this_process(replica_id: str) -> Replica:
    """Describe the running process."""
    return Replica(replica_id, this_host(), os.getpid(), started_of(os.getpid()) or "")


def this_host() -> str:
    """Name what shares process ids with this process: one container on one boot of one machine.

    Only the host's name where the system does not say more.
    """
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").readlink()
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{boot}/{namespace}"


def started_of(pid: int) -> str | None:
    """When process ``pid`` began, as the system counts; None if it has ended or cannot be seen."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ENDED else fields[STARTED_FIELD]


def process_alive(replica: Replica) -> bool | None:
    """Tell whether a replica of this host still runs; None when it cannot be seen from here."""
    if not replica.started or replica.host != this_host():
        return None
    return started_of(replica.pid) == replica.started


def register_replica(session: Session, replica: Replica, now: datetime) -> None:
    """Make a replica known before it opens its first entry; nothing changes if it is."""
    session.execute(
        insert_into(session, ReplicaRow)
        .values(
            id=replica.replica_id,
            host=replica.host,
            pid=replica.pid,
            started=replica.started,
            registered_at=now,
            heartbeat_at=now,
        )
        .on_conflict_do_nothing()
    )


def beat(session: Session, replica_id: str, now: datetime) -> None:
    """Say that a replica is alive at ``now``."""
    session.execute(
        update(ReplicaRow).where(ReplicaRow.id == replica_id).values(heartbeat_at=now),
        execution_options=QUIET,
    )


def recover_dead(
    session: Session,
    now: datetime,
    stale_after_s: float,
    alive: Callable[[Replica], bool | None] = process_alive,
) -> list[Recovered]:
    """Charge what dead replicas left open, at worst case, and mark it in doubt; give what it did.

    A replica is dead when ``alive`` says False, or says None and its last heartbeat is more than
    ``stale_after_s`` ago. At most ``BATCH`` entries are taken in one transaction: call again until
    nothing comes back. Should a replica turn out to live, its settling puts the true cost in.
    """
    dead = _dead_replicas(session, now - timedelta(seconds=stale_after_s), alive)
    ids = session.scalars(
        select(EntryRow.id)
        .where(EntryRow.replica_id.in_(dead), EntryRow.status == EntryStatus.OPEN)
        .order_by(EntryRow.id)
        .limit(BATCH)
        .with_for_update()
    ).all()
    closed = session.execute(
        update(EntryRow)
        .where(EntryRow.id.in_(ids))
        .values(status=EntryStatus.IN_DOUBT, cost_nano_usd=EntryRow.held_nano_usd, recovered_at=now)
        .returning(
            EntryRow.id,
            EntryRow.request_id,
            EntryRow.attempt,
            EntryRow.replica_id,
            EntryRow.cost_nano_usd,
            EntryRow.started_at,
        ),
        execution_options=QUIET,
    ).all()
    _charge_holds(session, ids)
    mark(session, [row.started_at for row in closed])
    return sorted((Recovered(*row[:-1]) for row in closed), key=lambda entry: entry.entry_id)


def _dead_replicas(
    session: Session, stale_before: datetime, alive: Callable[[Replica], bool | None]
) -> list[str]:
    with_open_entries = select(EntryRow.replica_id).where(EntryRow.status == EntryStatus.OPEN)
    dead = []
    for row in session.execute(
        select(
            ReplicaRow.id,
            ReplicaRow.host,
            ReplicaRow.pid,
            ReplicaRow.started,
            ReplicaRow.heartbeat_at,
        ).where(ReplicaRow.id.in_(with_open_entries))
    ):
        replica_id, host, pid, started, heartbeat_at = row
        seen = alive(Replica(replica_id, host, pid, started))
        if seen is False or (seen is None and heartbeat_at < stale_before):
            dead.append(replica_id)
    return dead


def _charge_holds(session: Session, entry_ids: Sequence[int]) -> None:
    amounts: defaultdict[tuple[int, datetime], int] = defaultdict(int)
    for budget_id, start, amount in session.execute(
        select(HoldRow.budget_id, HoldRow.window_start, HoldRow.amount_nano_usd).where(
            HoldRow.entry_id.in_(entry_ids)
        )
    ):
        amounts[budget_id, start] += amount
    for key in sorted(amounts):
        charge_held(session, key, amounts[key])
