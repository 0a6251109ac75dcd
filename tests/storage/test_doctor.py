"""The check-up finds what was broken on purpose, and repairs counters but never rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import delete, update

from cost_models.budgets import Budget, Period
from cost_models.types import Arm
from storage.doctor import Problem
from storage.ledger import Attempted, SettleEntry
from storage.models import AttemptRow, BudgetWindowRow, CallRow, HoldRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import Executable
    from sqlalchemy.orm import Session

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]


def break_it(ledger: Ledger, *statements: Executable) -> None:
    """Change the tables behind the ledger's back."""

    def work(session: Session) -> None:
        for statement in statements:
            session.execute(statement)

    ledger.write(work)


def used_ledger(ledger: Ledger, opening: Opening, call: CallOf, now: datetime) -> None:
    """One settled entry of 5, one open that holds 60, one above its hold by 3."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    first = ledger.open(opening("q1", 20), now)
    ledger.settle(SettleEntry(first, (call(5),), latency_s=1), now)
    ledger.open(opening("q2", 60), now)
    third = ledger.open(opening("q3", 10), now)
    ledger.settle(SettleEntry(third, (call(13),), latency_s=1), now)


def test_a_broken_counter_is_found_and_repaired(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """The rows are the truth; each wrong counter is one finding with both figures."""
    used_ledger(ledger, opening, call, now)
    assert ledger.examine() == []
    break_it(ledger, update(BudgetWindowRow).values(spent_nano_usd=2, held_nano_usd=61))
    found = ledger.examine()
    assert [(f.problem, f.expected, f.found, f.repaired) for f in found] == [
        (Problem.COUNTER, 18, 2, False),
        (Problem.COUNTER, 60, 61, False),
    ]
    assert "spent_nano_usd of the day budget of 'organisation'" in str(found[0])
    repaired = ledger.examine(repair=True)
    assert [f.repaired for f in repaired] == [True, True]
    assert str(repaired[0]).endswith("; repaired")
    assert ledger.examine() == []
    (status,) = ledger.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (18, 60)
    assert status.overshoot_nano_usd == 3


def test_a_window_without_entries_must_stand_at_zero(
    ledger: Ledger, now: datetime, opening: Opening
) -> None:
    """Money that no row explains is a finding."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    ledger.open(opening("q1", 1), now)
    break_it(
        ledger, delete(HoldRow), update(BudgetWindowRow).values(held_nano_usd=0, spent_nano_usd=9)
    )
    (finding,) = ledger.examine()
    assert (finding.problem, finding.expected, finding.found) == (Problem.COUNTER, 0, 9)


def test_more_than_was_ever_granted_is_found(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Overshoot that was recorded is explained; other money beyond the limit is not."""
    used_ledger(ledger, opening, call, now)
    break_it(ledger, update(BudgetWindowRow).values(highest_limit_nano_usd=70))
    (finding,) = ledger.examine(repair=True)
    assert (finding.problem, finding.expected, finding.found) == (Problem.OVERDRAWN, 73, 78)


def test_an_entry_that_differs_from_its_calls_is_found_and_left(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Rows are for a person to put right."""
    used_ledger(ledger, opening, call, now)
    break_it(ledger, update(CallRow).where(CallRow.cost_nano_usd == 5).values(cost_nano_usd=4))
    for repair in (True, False):
        (finding,) = ledger.examine(repair=repair)
        assert (finding.problem, finding.expected, finding.found) == (Problem.ENTRY_COST, 4, 5)
        assert "'q1', attempt 0" in finding.subject


def test_rows_that_belong_to_nothing_are_found(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A request that nobody answered or refused; calls whose entry is gone."""
    used_ledger(ledger, opening, call, now)
    connection = ledger.engine.raw_connection()
    cursor = connection.cursor()
    if ledger.engine.dialect.name == "sqlite":
        cursor.execute("PRAGMA foreign_keys=OFF")
    else:
        cursor.execute("SET session_replication_role = replica")
    cursor.execute("DELETE FROM entries WHERE request_id = 'q3'")
    connection.commit()
    connection.invalidate()
    subjects = {f.subject: f.found for f in ledger.examine() if f.problem is Problem.ORPHAN}
    assert subjects == {
        "calls without their entries": 1,
        "holds without their entries": 1,
        "requests without entry or refusal": 1,
    }


def test_a_stage_that_differs_from_its_calls_is_found_and_left(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Every figure of it, and calls of a stage that nobody wrote down; a person has to look."""
    entry = ledger.open(opening("q1", 100), now)
    calls = tuple(replace(call(cost), stage=stage) for cost, stage in ((5, 0), (7, 0), (20, 1)))
    arms = (Arm("small", "direct"), Arm("large", "direct"), Arm("huge", "direct"))
    stages = tuple(Attempted(arm, "agree") for arm in arms)
    ledger.settle(SettleEntry(entry, calls, latency_s=1, attempts=stages), now)
    assert ledger.examine() == []
    wrong = {"cost_nano_usd": 1, "prompt_tokens": 3, "machine_ns": 9}
    break_it(ledger, update(AttemptRow).where(AttemptRow.seq == 0).values(wrong))
    found = ledger.examine(repair=True)
    assert [(f.problem, f.expected, f.found, f.repaired) for f in found] == [
        (Problem.STAGE, 12, 1, False),
        (Problem.STAGE, 20, 3, False),
        (Problem.STAGE, 0, 9, False),
    ]
    assert "cost_nano_usd of stage 0 of request 'q1'" in str(found[0])
    right = {"cost_nano_usd": 12, "prompt_tokens": 20, "machine_ns": 0}
    break_it(
        ledger,
        update(AttemptRow).where(AttemptRow.seq == 0).values(right),
        delete(AttemptRow).where(AttemptRow.seq == 1),
    )
    (lost,) = ledger.examine()
    assert (lost.problem, lost.expected, lost.found) == (Problem.STAGE, 1, 0)
