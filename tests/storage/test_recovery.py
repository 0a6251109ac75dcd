"""Crashes: what a dead process left open is charged, listed, and put right later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import storage
from cost_models.budgets import Budget, Period
from storage.ledger import SettleEntry
from storage.models import EntryStatus
from storage.recovery import (
    BATCH,
    Recovered,
    Replica,
    process_alive,
    recover_dead,
    this_host,
    this_process,
)
from storage.reports import totals
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import Call, OpenEntry

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]

CONTENDER = Path(__file__).with_name("contender.py")
ROOT = Path(storage.__file__).parents[1]
STALE_AFTER_S = 30.0


def dead(_: Replica) -> bool:
    """Say of every process that it has ended."""
    return False


def recover(
    ledger: Ledger, now: datetime, alive: Callable[[Replica], bool | None]
) -> list[Recovered]:
    """Recover in one transaction, with a chosen view on who lives."""
    return ledger.write(lambda session: recover_dead(session, now, STALE_AFTER_S, alive))


def spent_and_held(ledger: Ledger, now: datetime) -> tuple[int, int]:
    """Counters of the only budget."""
    (status,) = ledger.budget_status(now)
    return status.facts.spent_nano_usd, status.facts.held_nano_usd


def test_kill_9_between_open_and_settle_loses_nothing(ledger: Ledger, now: datetime) -> None:
    """The next process to look finds the pid gone and charges the worst case at once."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    url = ledger.engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, str(CONTENDER), "crash", url, "q1", "60"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert ledger.recover(now, STALE_AFTER_S) == []
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert spent_and_held(ledger, now) == (0, 60)
    (recovered,) = ledger.recover(now, STALE_AFTER_S)
    assert (recovered.request_id, recovered.charged_nano_usd) == ("q1", 60)
    assert spent_and_held(ledger, now) == (60, 0)
    assert ledger.recover(now, STALE_AFTER_S) == []
    assert ledger.examine() == []
    assert ledger.read(totals).n_in_doubt == 1


def test_a_replica_that_cannot_be_seen_is_dead_when_its_heart_stops(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """On another host only the heartbeat tells."""
    ledger.open(opening("q1", 60), now)
    late = now + timedelta(seconds=STALE_AFTER_S + 1)
    assert recover(ledger, now + timedelta(seconds=STALE_AFTER_S), lambda _: None) == []
    ledger.beat(late)
    assert recover(ledger, late, lambda _: None) == []
    later = late + timedelta(seconds=STALE_AFTER_S + 1)
    assert recover(ledger, later, lambda _: True) == []
    assert len(recover(ledger, later, lambda _: None)) == 1


def test_a_replica_taken_for_dead_puts_the_true_cost_in(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A process that was only paused settles late, and the worst case is taken back."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    entry_id = ledger.open(opening("q1", 60), now)
    recover(ledger, now, dead)
    assert spent_and_held(ledger, now) == (60, 0)
    done = ledger.settle(SettleEntry(entry_id, (call(11),), latency_s=1), now)
    assert (done.status, done.cost_nano_usd, done.repeated) == (EntryStatus.SETTLED, 11, False)
    assert spent_and_held(ledger, now) == (11, 0)
    assert ledger.settle(SettleEntry(entry_id, (), latency_s=1), now).repeated
    assert ledger.examine() == []


def test_recovery_takes_any_number_of_entries_in_batches(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """One transaction stays short; the ledger's own method goes on to the end."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 10**6)])
    ledger.write(lambda _session: None)
    for i in range(3):
        ledger.open(opening(f"q{i}", 5), now)
    survivor = Ledger(ledger.engine)
    assert len(recover(survivor, now, dead)) == 3
    assert spent_and_held(ledger, now) == (15, 0)
    assert BATCH > 3


def test_settled_entries_of_a_dead_replica_are_left_alone(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Only what was in flight is in doubt."""
    entry_id = ledger.open(opening("q1", 60), now)
    ledger.settle(SettleEntry(entry_id, (call(5),), latency_s=1), now)
    assert recover(ledger, now, dead) == []


def test_a_process_is_known_by_more_than_its_pid() -> None:
    """Another start time is another process; another host cannot be seen."""
    me = this_process("r1")
    assert process_alive(me) is True
    assert process_alive(Replica("r1", me.host, me.pid, "1")) is False
    assert process_alive(Replica("r1", me.host, 2**22 + 1, me.started)) is False
    assert process_alive(Replica("r1", "elsewhere", me.pid, me.started)) is None
    assert process_alive(Replica("r1", me.host, me.pid, "")) is None
    assert this_host() == me.host


def test_a_process_that_ended_but_was_not_collected_is_dead() -> None:
    """A zombie serves nobody."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    replica = this_process("r1")
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_alive(Replica("r1", replica.host, process.pid, "1")) is False
    process.communicate()


@pytest.mark.parametrize("stale_after_s", [0.0, 5.0])
def test_an_empty_ledger_has_nothing_to_recover(
    ledger: Ledger, now: datetime, stale_after_s: float
) -> None:
    """Recovery at the first start does nothing."""
    assert ledger.recover(now, stale_after_s) == []
