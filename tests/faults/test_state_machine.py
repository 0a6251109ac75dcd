# ruff: noqa: D401 - a rule's docstring says what holds, not what to do
"""Random holds, settlements, crashes, bills, limits and clocks against a model in plain arithmetic.

After every step: the counters of each window are the model's, nothing is spent beyond what was
granted and is not explained, the check-up finds nothing, and the report has every nano-USD.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cost_models.budgets import Budget, Period, window, zone
from cost_models.errors import BudgetExceededError
from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.bills import Bill, Charge
from storage.errors import HeldBackError
from storage.ledger import Asked, Call, OpenEntry, SettleEntry
from storage.models import BudgetRow, BudgetWindowRow
from storage.reconciling import reconcile
from storage.recovery import recover_dead
from storage.reports import totals
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = bool(os.environ.get("RHEOSTAT_LONG_FAULTS"))
SETTINGS = settings(
    max_examples=200 if LONG else 8,
    stateful_step_count=60 if LONG else 40,
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)
START = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
ZONE = "Europe/Berlin"
"""A zone in which the second night after `START` has a lost hour."""
DECISION = Decision(arm=Arm("small", "direct"), propensity=1.0, policy_version="fixed")
AMOUNT = st.integers(0, 60)


@dataclass
class Entry:
    """What the model knows of an entry: ``keys`` are the windows that it is held in."""

    entry_id: int
    request_id: str
    replica_id: str
    hold: int
    keys: tuple[tuple[Period, datetime], ...]
    state: str = "open"
    cost: int = 0


class Money(RuleBasedStateMachine):
    """Two gateways on one ledger, and the arithmetic of what they do."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.gateways = [ledger, Ledger(ledger.engine)]
        self.now = START
        self.limits = {Period.DAY: 100, Period.TOTAL: 250}
        self.entries: list[Entry] = []
        self.declare()

    def declare(self) -> None:
        """Put the limits in force."""
        self.gateways[0].declare_budgets(
            Budget("organisation", period, limit, ZONE) for period, limit in self.limits.items()
        )

    def pick(self, i: int, *states: str) -> Entry | None:
        """Pick one of the entries in some states."""
        found = [entry for entry in self.entries if entry.state in states]
        return found[i % len(found)] if found else None

    def used(self, key: tuple[Period, datetime]) -> tuple[int, int]:
        """Give what the model has spent and held in a window."""
        inside = [entry for entry in self.entries if key in entry.keys]
        held = sum(entry.hold for entry in inside if entry.state == "open")
        return sum(entry.cost for entry in inside), held

    @initialize()
    def begin(self) -> None:
        """Start with a crash that left two entries in doubt: what may follow is rare otherwise."""
        for amount in (20, 30):
            self.open(0, amount)
        self.crash(0)

    @rule(gateway=st.integers(0, 1), amount=AMOUNT)
    def open(self, gateway: int, amount: int) -> None:
        """A hold is granted exactly when it fits, and refused for good only when it never could."""
        ledger = self.gateways[gateway]
        keys = tuple((p, window(p, self.now, zone(ZONE)).start) for p in self.limits)
        free = [(self.limits[key[0]], *self.used(key)) for key in keys]
        fits = amount == 0 or all(s + h + amount <= limit for limit, s, h in free)
        hopeless = amount > 0 and any(s + amount > limit for limit, s, _ in free)
        name = f"q{len(self.entries)}"
        entry = OpenEntry(Asked(Query(name, "?")), DECISION, amount)
        if not fits:
            with pytest.raises(BudgetExceededError) as refused:
                ledger.open(entry, self.now)
            assert isinstance(refused.value, HeldBackError) is not hopeless
            return
        entry_id = ledger.open(entry, self.now)
        self.entries.append(Entry(entry_id, name, ledger.replica_id, amount, keys))

    @rule(i=st.integers(0, 99), cost=AMOUNT, gateway=st.integers(0, 1))
    def settle(self, i: int, cost: int, gateway: int) -> None:
        """The true cost takes the place of the hold."""
        self.settle_one(self.pick(i, "open"), cost, gateway)

    @rule(i=st.integers(0, 99), cost=AMOUNT, gateway=st.integers(0, 1))
    def settle_late(self, i: int, cost: int, gateway: int) -> None:
        """The true cost takes the place of what recovery had charged."""
        self.settle_one(self.pick(i, "in doubt"), cost, gateway)

    def settle_one(self, entry: Entry | None, cost: int, gateway: int) -> None:
        """Settle an entry that was not settled before."""
        if entry is not None:
            done = self.gateways[gateway].settle(self.settling(entry, cost), self.now)
            assert (done.cost_nano_usd, done.repeated) == (cost, False)
            entry.state, entry.cost = "settled", cost

    @rule(i=st.integers(0, 99), cost=AMOUNT)
    def settle_again(self, i: int, cost: int) -> None:
        """What was settled, or closed by a bill, stays."""
        entry = self.pick(i, "billed") or self.pick(i, "settled")
        if entry is not None:
            done = self.gateways[0].settle(self.settling(entry, cost), self.now)
            assert (done.cost_nano_usd, done.repeated) == (entry.cost, True)

    @rule(gateway=st.integers(0, 1))
    def crash(self, gateway: int) -> None:
        """A gateway dies, another one charges what it had open, a new one takes its place."""
        dead = self.gateways[gateway]
        self.gateways[gateway] = Ledger(dead.engine)
        found = self.gateways[1 - gateway].write(
            lambda session: recover_dead(
                session, self.now, 0.0, alive=lambda replica: replica.replica_id != dead.replica_id
            )
        )
        left = [
            entry
            for entry in self.entries
            if entry.state == "open" and entry.replica_id == dead.replica_id
        ]
        assert [one.entry_id for one in found] == [entry.entry_id for entry in left]
        for entry in left:
            entry.state, entry.cost = "in doubt", entry.hold

    @rule(i=st.integers(0, 99), cost=AMOUNT)
    def bill(self, i: int, cost: int) -> None:
        """A bill says what an entry in doubt cost; the same bill again changes nothing."""
        entry = self.pick(i, "in doubt")
        if entry is not None:
            charge = Charge(2, cost, request_id=entry.request_id)
            for _ in range(2):
                (told,) = reconcile(self.gateways[0], Bill("bill", (charge,)), self.now)
                assert told.difference == 0
            entry.state, entry.cost = "billed", cost

    @rule(period=st.sampled_from([Period.DAY, Period.TOTAL]), limit=st.integers(0, 300))
    def change_limit(self, period: Period, limit: int) -> None:
        """A limit is raised, or lowered below what is spent."""
        self.limits[period] = limit
        self.declare()

    @rule(minutes=st.integers(-90, 26 * 60))
    def move_clock(self, minutes: int) -> None:
        """Time goes on, over midnights and a lost hour, or is put back a little."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def roll_up(self) -> None:
        """Rollups catch up."""
        self.gateways[1].roll_up(self.now)

    @invariant()
    def counters_are_the_model(self) -> None:
        """Every window that there is, and no other money."""
        found = {
            (period, row.window_start): row
            for row, period in self.gateways[0].read(
                lambda session: (
                    session.query(BudgetWindowRow, BudgetRow.period)
                    .join(BudgetRow, BudgetRow.id == BudgetWindowRow.budget_id)
                    .all()
                )
            )
        }
        assert {key for entry in self.entries for key in entry.keys} <= found.keys()
        for key, row in found.items():
            assert (row.spent_nano_usd, row.held_nano_usd) == self.used(key)
            used = row.spent_nano_usd + row.held_nano_usd
            assert used <= row.highest_limit_nano_usd + row.overshoot_nano_usd

    @invariant()
    def the_ledger_is_in_order(self) -> None:
        """The check-up finds nothing, and the report has what the model has."""
        assert self.gateways[0].examine() == []
        whole = self.gateways[0].read(totals)
        assert whole.cost_nano_usd == sum(entry.cost for entry in self.entries)
        states = [entry.state for entry in self.entries]
        assert (whole.n_open, whole.n_in_doubt) == (states.count("open"), states.count("in doubt"))

    @staticmethod
    def settling(entry: Entry, cost: int) -> SettleEntry:
        """Settle an entry with one call."""
        return SettleEntry(
            entry.entry_id, (Call("small", "answer", Usage(n_calls=1), cost, 0.1),), 0.1
        )


@pytest.mark.timeout(3600 if LONG else 120)
def test_money_is_what_arithmetic_says(new_ledger: Callable[[], Ledger]) -> None:
    """On each kind of database; `make faults` runs many more and longer histories."""
    run_state_machine_as_test(lambda: Money(new_ledger()), settings=SETTINGS)
