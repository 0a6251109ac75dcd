"""Reports from rollups say what the rows say, to the nano-USD, whenever they are asked."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, func, select, update

from cost_models.types import Arm
from policies.types import Query
from storage.adjustments import Adjustment, adjust, lock_entries
from storage.bills import Bill, Charge
from storage.doctor import Problem
from storage.ledger import Asked, Refusal, SettleEntry
from storage.marks import hour_of
from storage.models import (
    AdjustmentKind,
    CallRow,
    EntryRow,
    RefusalRow,
    RollupCallRow,
    RollupChangeRow,
    RollupEntryRow,
    RollupHourRow,
)
from storage.outcomes import Grade
from storage.reconciling import reconcile
from storage.recovery import recover_dead
from storage.reports import parts, totals, totals_by_arm
from storage.rollups import CALL_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]

START = datetime(2026, 7, 1, 9, 30, tzinfo=UTC)
MUCH_LATER = START + timedelta(days=9)
TIMES = (None, START, START + timedelta(hours=2, minutes=7), datetime(2026, 7, 1, 12, tzinfo=UTC))
ARMS = (Arm("small", "direct"), Arm("large", "direct"), Arm("small", "cot"))


class History:
    """Random work on a ledger over some hours: some of it settles, is graded or corrected late."""

    def __init__(self, ledger: Ledger, opening: Opening, call: CallOf, seed: int) -> None:
        self.ledger = ledger
        self.opening = opening
        self.call = call
        self.rng = random.Random(seed)
        self.prefix = f"s{seed}"
        self.open: list[tuple[int, str]] = []
        self.done: list[tuple[int, str]] = []
        self.n = 0

    def step(self) -> None:
        """Do one thing."""
        kind = self.rng.choice([self.begin, self.begin, self.end, self.grade, self.refuse])
        kind()

    @property
    def now(self) -> datetime:
        """Some time within four hours."""
        return START + timedelta(seconds=self.rng.randrange(4 * 3600))

    def begin(self) -> None:
        """Open an entry."""
        self.n += 1
        name = f"{self.prefix}-{self.n}"
        entry = self.opening(name, self.rng.randrange(100))
        decision = replace(
            entry.decision,
            arm=self.rng.choice(ARMS),
            propensity=self.rng.choice([0.05, 0.9, 1.0]),
            difficulty=self.rng.choice([None, 0.0, 0.2, 0.79, 1.0]),
        )
        query = Query(name, "?", tenant=self.rng.choice("ab"))
        asked = replace(entry.asked, query=query, team=self.rng.choice([None, "red", "blue"]))
        entry = replace(entry, asked=asked, decision=decision)
        self.open.append((self.ledger.open(entry, self.now), name))

    def end(self) -> None:
        """Settle one that is open, with some calls."""
        if not self.open:
            return
        entry_id, name = self.open.pop(self.rng.randrange(len(self.open)))
        calls = tuple(
            replace(
                self.call(self.rng.randrange(90), in_doubt=self.rng.random() < 0.2),
                role=self.rng.choice(["answer", "judge"]),
                provider=self.rng.choice(["", "openai"]),
            )
            for _ in range(self.rng.randrange(4))
        )
        self.ledger.settle(SettleEntry(entry_id, calls, self.rng.random()), self.now)
        self.done.append((entry_id, name))

    def grade(self) -> None:
        """Grade an answer, maybe again."""
        if self.done:
            _, name = self.rng.choice(self.done)
            quality = self.rng.randrange(5) / 4
            grade = Grade(quality, self.rng.choice("xy"), 1.0, self.rng.choice([0.1, 0.5, 1.0]))
            self.ledger.record_outcome(name, grade, self.now)

    def refuse(self) -> None:
        """Turn a request away."""
        self.n += 1
        asked = Asked(Query(f"{self.prefix}-{self.n}", "?"))
        self.ledger.refuse(Refusal(asked, "no arm"), self.now)

    def correct(self) -> None:
        """Correct one entry as `reprice` does."""
        if not self.done:
            return
        entry_id, _ = self.rng.choice(self.done)

        def work(session: Session) -> None:
            lock_entries(session, [entry_id])
            call_id = session.scalar(
                select(func.min(CallRow.id)).where(CallRow.entry_id == entry_id)
            )
            if call_id is not None:
                kind, amount = AdjustmentKind.REPRICE, self.rng.randrange(50)
                adjust(session, [Adjustment(entry_id, call_id, kind, amount, "t")], self.now)

        self.ledger.write(work)


def everything(ledger: Ledger) -> list[object]:
    """Give every report over every time and by every dimension, at one moment."""

    def work(session: Session) -> list[object]:
        times = [(since, until) for since in TIMES for until in TIMES]
        return [(totals(session, *time), totals_by_arm(session, *time)) for time in times] + [
            parts(session, key, *time) for key in CALL_KEYS for time in times
        ]

    return ledger.read(work)


def from_rows(ledger: Ledger) -> list[object]:
    """Give the same with every hour marked, so that nothing is read from a rollup."""
    hours = {hour_of(START + timedelta(hours=i)) for i in range(-1, 240)}
    with ledger.engine.connect() as connection:
        marks = connection.scalar(select(func.count(RollupChangeRow.id)))
        kept = list(connection.execute(select(RollupChangeRow.hour)).scalars())

    def mark_all(session: Session) -> None:
        session.add_all(RollupChangeRow(hour=hour) for hour in sorted(hours))

    ledger.write(mark_all)
    found = everything(ledger)

    def put_back(session: Session) -> None:
        session.execute(delete(RollupChangeRow))
        session.add_all(RollupChangeRow(hour=hour) for hour in kept)

    ledger.write(put_back)
    assert marks == len(kept)
    return found


def checked_sums(ledger: Ledger) -> None:
    """Compare the reports with plain sums over the rows, written apart from the code under test."""
    whole = ledger.read(totals)

    def plain(session: Session) -> tuple[int, ...]:
        entries = select(
            func.count(EntryRow.id), func.coalesce(func.sum(EntryRow.cost_nano_usd), 0)
        )
        n_calls = session.scalar(select(func.count(CallRow.id)))
        n_refused = session.scalar(select(func.count(RefusalRow.id)))
        n_entries, cost = session.execute(entries).one()
        return n_entries, int(cost), n_calls or 0, n_refused or 0

    counted = (whole.n_entries, whole.cost_nano_usd, whole.n_calls, whole.n_refused)
    assert ledger.read(plain) == counted
    for key in CALL_KEYS:
        split = ledger.read(lambda session, key=key: parts(session, key))
        assert sum(part.cost_nano_usd for part in split) == whole.cost_nano_usd
        assert sum(part.n_calls for part in split) == whole.n_calls


@pytest.mark.parametrize("seed", [1, 2])
def test_reports_say_what_the_rows_say_however_late_things_come(
    ledger: Ledger, opening: Opening, call: CallOf, seed: int
) -> None:
    """Work, roll up, work on the same hours, again and again: no report ever differs."""
    history = History(ledger, opening, call, seed)
    for _ in range(4):
        for _ in range(15):
            history.step()
        checked_sums(ledger)
        ledger.roll_up(MUCH_LATER)
        assert ledger.read(lambda s: s.scalar(select(func.count(RollupChangeRow.id)))) == 0
        history.correct()
        checked_sums(ledger)
    history.begin()
    ledger.write(lambda s: recover_dead(s, MUCH_LATER, 0.0, alive=lambda _replica: False))
    checked_sums(ledger)
    ledger.roll_up(MUCH_LATER)
    checked_sums(ledger)
    charge = Charge(2, 10, "small", start=START, end=MUCH_LATER)
    reconcile(ledger, Bill("b", (charge,)), MUCH_LATER)
    checked_sums(ledger)
    ledger.roll_up(MUCH_LATER)
    rolled = everything(ledger)
    rows = from_rows(ledger)
    assert _rounded(rolled) == _rounded(rows)
    assert ledger.examine() == []


def _rounded(found: object) -> object:
    """Take the order in which floats were added out of what is compared; the rest stays exact."""
    return re.sub(r"\d+\.\d+(?:e-\d+)?", lambda m: f"{float(m[0]):.9g}", repr(found))


def test_an_hour_is_rolled_up_when_it_is_over(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """The hour under way is read from its rows; a heartbeat takes so many hours at most."""
    for i in range(3):
        entry_id = ledger.open(opening(f"q{i}", 9), now + timedelta(hours=i, minutes=5))
        ledger.settle(SettleEntry(entry_id, (call(5),), latency_s=1), now)
    last = now + timedelta(hours=2, minutes=59)
    assert ledger.roll_up(last, at_most=1) == 1
    assert ledger.roll_up(last) == 1
    assert ledger.roll_up(last) == 0
    hours = ledger.read(lambda s: s.scalars(select(RollupHourRow.hour)).all())
    assert sorted(hours) == [now, now + timedelta(hours=1)]
    checked_sums(ledger)
    assert ledger.roll_up(now + timedelta(hours=3)) == 1


def test_what_is_not_known_is_not_nothing(ledger: Ledger, opening: Opening, now: datetime) -> None:
    """An open entry has no cost yet: NULL in the rollup and None in the report."""
    ledger.open(opening("q", 9), now)
    for _ in range(2):
        (arm,) = ledger.read(totals_by_arm)
        assert (arm.n_entries, arm.n_costed, arm.cost_nano_usd, arm.quality) == (1, 0, None, None)
        ledger.roll_up(now + timedelta(hours=1))
    assert ledger.read(lambda s: s.scalars(select(RollupEntryRow.cost_nano_usd)).all()) == [None]


def test_a_late_grade_counts_in_the_hour_of_its_answer(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """An answer that was rolled up without a grade is graded a day later, and then again."""
    entry_id = ledger.open(opening("q", 9), now)
    ledger.settle(SettleEntry(entry_id, (call(5),), latency_s=1), now)
    ledger.roll_up(MUCH_LATER)
    for quality in (0.25, 1.0):
        ledger.record_outcome("q", Grade(quality, "x"), now + timedelta(days=1))
        for _ in range(2):
            (arm,) = ledger.read(totals_by_arm)
            assert (arm.n_graded, arm.quality, arm.graded_cost_nano_usd) == (1, quality, 5)
            ledger.roll_up(MUCH_LATER)


def test_no_change_is_missed_while_hours_are_rolled_up(
    ledger: Ledger, opening: Opening, call: CallOf
) -> None:
    """Four threads work on the same hours while a fifth rolls them up all the time."""
    histories = [History(ledger, opening, call, seed) for seed in range(10, 14)]
    over = threading.Event()
    errors: list[BaseException] = []

    def run(history: History) -> None:
        try:
            for i in range(25):
                history.step()
                if i % 8 == 0:
                    history.correct()
        except BaseException as error:
            errors.append(error)
            raise

    def roll() -> None:
        while not over.is_set():
            ledger.roll_up(MUCH_LATER)

    threads = [threading.Thread(target=run, args=(history,)) for history in histories]
    roller = threading.Thread(target=roll)
    for thread in (*threads, roller):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    roller.join()
    assert errors == []
    checked_sums(ledger)
    ledger.roll_up(MUCH_LATER)
    checked_sums(ledger)
    assert ledger.examine() == []


@pytest.mark.parametrize(
    ("row", "figure"),
    [
        pytest.param(RollupEntryRow, "cost_nano_usd", id="cost"),
        pytest.param(RollupEntryRow, "quality_sum", id="quality"),
        pytest.param(RollupCallRow, "n_calls", id="calls"),
        pytest.param(RollupHourRow, "n_requests", id="requests"),
    ],
)
def test_the_check_up_finds_and_repairs_a_wrong_rollup(  # noqa: PLR0913, PLR0917 - fixtures and a table
    ledger: Ledger,
    opening: Opening,
    call: CallOf,
    now: datetime,
    row: type[RollupEntryRow | RollupCallRow | RollupHourRow],
    figure: str,
) -> None:
    """Each figure is compared with the rows, and summed up anew."""
    entry_id = ledger.open(opening("q", 9), now)
    ledger.settle(SettleEntry(entry_id, (call(5),), latency_s=1), now)
    ledger.roll_up(now + timedelta(hours=1))
    assert ledger.examine() == []
    ledger.write(lambda s: s.execute(update(row).values({figure: 7})))
    (finding,) = ledger.examine()
    assert (finding.problem, finding.found) == (Problem.ROLLUP, 7)
    assert f"{figure} of the hour from 2026-07-01T12:00" in finding.subject
    assert [f.repaired for f in ledger.examine(repair=True)] == [True]
    assert ledger.examine() == []


def test_the_check_up_finds_rows_that_no_rollup_knows_of(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """An hour without rollup and without mark, and one of which rows are gone from the rollup."""
    ledger.open(opening("q", 9), now)
    ledger.write(lambda s: s.execute(delete(RollupChangeRow)))
    (finding,) = ledger.examine(repair=True)
    assert (finding.problem, finding.expected, finding.found) == (Problem.ROLLUP, 1, 0)
    assert ledger.examine() == []
    ledger.write(lambda s: s.execute(delete(RollupEntryRow)))
    (finding,) = ledger.examine(repair=True)
    assert (finding.expected, finding.found) == (1, 0)
    assert ledger.examine() == []
