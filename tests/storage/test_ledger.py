"""Open, settle, refuse: what the rows and the counters say afterwards."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from cost_models.budgets import EPOCH, Budget, Period
from cost_models.errors import BudgetExceededError
from cost_models.types import Arm
from policies.types import Query
from storage.errors import EntryExistsError, EntryNotFoundError
from storage.ledger import Asked, Call, Refusal, SettleEntry, open_entry
from storage.models import CallRow, EntryRow, EntryStatus, RefusalRow, RequestRow
from storage.reports import totals

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]

ORGANISATION = "organisation"


def counters(ledger: Ledger, now: datetime) -> list[tuple[str, int, int, int]]:
    """(scope, spent, held, overshoot) of each budget in force."""
    return [
        (s.facts.scope, s.facts.spent_nano_usd, s.facts.held_nano_usd, s.overshoot_nano_usd)
        for s in ledger.budget_status(now)
    ]


def rows(ledger: Ledger, table: type[Any]) -> list[Any]:
    """All rows of a table, usable after the transaction."""

    def load(session: Any) -> list[Any]:  # noqa: ANN401 - a Session
        found = list(session.scalars(select(table)))
        session.expunge_all()
        return found

    return ledger.read(load)


def total(limit: int, scope: str = ORGANISATION) -> Budget:
    """Make a budget that never resets."""
    return Budget(scope, Period.TOTAL, limit)


def test_opening_writes_the_decision_and_holds_its_worst_case(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """All that replay needs is in the row, and the money is spoken for."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q1", 60, end_user="ann", prompt_text="[...]"), now)
    (entry,) = rows(ledger, EntryRow)
    assert (entry.id, entry.request_id, entry.attempt) == (entry_id, "q1", 0)
    assert (entry.model, entry.strategy) == ("small", "self_consistency(samples=5)")
    assert (entry.propensity, entry.policy_version) == (0.9, "p1")
    assert (entry.status, entry.held_nano_usd, entry.cost_nano_usd) == (EntryStatus.OPEN, 60, 0)
    assert entry.replica_id == ledger.replica_id
    assert entry.started_at == now
    (request,) = rows(ledger, RequestRow)
    assert (request.query_text, request.prompt_text) == ("what is q1?", "[...]")
    assert (request.tenant, request.end_user, request.model_asked) == ("default", "ann", "auto")
    assert counters(ledger, now) == [(ORGANISATION, 0, 60, 0)]


def test_only_the_hash_of_a_text_is_kept_where_texts_are_not(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """The same text has the same hash, so that repeats can be counted without reading."""
    ledger.open(opening("q1", 0, keep_query_text=False), now)
    (request,) = rows(ledger, RequestRow)
    assert request.query_text is None
    assert request.prompt_text is None
    assert len(request.query_sha256) == 64


def test_settling_writes_calls_and_true_cost_and_frees_the_rest(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """The entry's cost and usage are the sums of its calls."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q1", 60), now)
    later = now + timedelta(seconds=2)
    done = ledger.settle(
        SettleEntry(entry_id, (call(5), call(7)), latency_s=1.5, answer_value="4", confidence=0.8),
        later,
    )
    assert (done.status, done.cost_nano_usd, done.held_nano_usd) == (EntryStatus.SETTLED, 12, 60)
    assert (done.repeated, done.overshoot_nano_usd) == (False, 0)
    (entry,) = rows(ledger, EntryRow)
    assert (entry.status, entry.cost_nano_usd) == (EntryStatus.SETTLED, 12)
    assert (entry.n_calls, entry.prompt_tokens, entry.completion_tokens) == (2, 20, 8)
    assert (entry.answer_value, entry.confidence, entry.complete) == ("4", 0.8, True)
    assert entry.finished_at == later
    assert [(c.seq, c.cost_nano_usd, c.role) for c in rows(ledger, CallRow)] == [
        (0, 5, "answer"),
        (1, 7, "answer"),
    ]
    assert counters(ledger, now) == [(ORGANISATION, 12, 0, 0)]
    assert ledger.examine() == []


def test_settling_again_changes_nothing_and_gives_what_stands(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A lost connection is answered by settling again."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q1", 60), now)
    first = ledger.settle(SettleEntry(entry_id, (call(5),), latency_s=1), now)
    second = ledger.settle(SettleEntry(entry_id, (call(50),), latency_s=9), now)
    assert second.repeated
    assert (second.cost_nano_usd, second.held_nano_usd) == (first.cost_nano_usd, 60)
    assert len(rows(ledger, CallRow)) == 1
    assert counters(ledger, now) == [(ORGANISATION, 5, 0, 0)]


def test_a_cost_above_the_hold_is_recorded_in_full_and_reported(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """What a provider billed is owed, whatever its cap was."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q1", 90), now)
    done = ledger.settle(SettleEntry(entry_id, (call(130),), latency_s=1), now)
    assert done.overshoot_nano_usd == 40
    assert counters(ledger, now) == [(ORGANISATION, 130, 0, 40)]
    assert ledger.budget_status(now)[0].free_nano_usd == 0
    assert ledger.read(totals).overshoot_nano_usd == 40
    assert ledger.examine() == []


def test_an_entry_without_calls_costs_nothing(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """A strategy that failed before its first call frees all that was held."""
    ledger.declare_budgets([total(100)])
    entry_id = ledger.open(opening("q1", 90), now)
    done = ledger.settle(
        SettleEntry(entry_id, (), latency_s=0, complete=False, error="upstream down"), now
    )
    assert done.cost_nano_usd == 0
    assert rows(ledger, EntryRow)[0].error == "upstream down"
    assert counters(ledger, now) == [(ORGANISATION, 0, 0, 0)]


def test_one_call_in_doubt_puts_the_entry_in_doubt(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """It is charged, and listed until somebody reconciles it."""
    entry_id = ledger.open(opening("q1", 90), now)
    settle = SettleEntry(entry_id, (call(5), call(40, in_doubt=True)), latency_s=1)
    assert ledger.settle(settle, now).status is EntryStatus.IN_DOUBT
    assert ledger.read(totals).n_in_doubt == 1
    assert ledger.examine() == []


def test_settling_what_nobody_opened_is_an_error(
    ledger: Ledger, call: CallOf, now: datetime
) -> None:
    """A cost without an entry is a defect, not a row."""
    with pytest.raises(EntryNotFoundError, match="entry 77"):
        ledger.settle(SettleEntry(77, (call(1),), latency_s=1), now)
    assert rows(ledger, CallRow) == []


def test_a_refusal_says_which_budget_and_writes_nothing(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """Scope, limit, spent, held and reset time, to act on."""
    ledger.declare_budgets([Budget(ORGANISATION, Period.DAY, 100)])
    ledger.open(opening("q1", 60), now)
    with pytest.raises(BudgetExceededError) as refused:
        ledger.open(opening("q2", 41), now)
    facts = refused.value.facts
    assert (facts.scope, facts.period) == (ORGANISATION, "day")
    assert (facts.limit_nano_usd, facts.spent_nano_usd, facts.held_nano_usd) == (100, 0, 60)
    assert facts.resets_at == now.replace(hour=0) + timedelta(days=1)
    assert refused.value.asked_nano_usd == 41
    assert [row.id for row in rows(ledger, RequestRow)] == ["q1"]
    assert counters(ledger, now) == [(ORGANISATION, 0, 60, 0)]


def test_a_refusal_by_one_budget_takes_back_the_holds_in_all_others(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """All or nothing, also for a caller that catches the error and commits."""
    ledger.declare_budgets([total(100), total(30, "key:a"), total(5, "key:b")])
    ledger.beat(now)
    entry = opening("q1", 40, scopes=(ORGANISATION, "key:a"))

    def refused_and_committed(session: Any) -> None:  # noqa: ANN401 - a Session
        with pytest.raises(BudgetExceededError, match="key:a"):
            open_entry(session, entry, ledger.replica_id, now)

    ledger.write(refused_and_committed)
    assert counters(ledger, now) == [
        (ORGANISATION, 0, 0, 0),
        ("key:a", 0, 0, 0),
        ("key:b", 0, 0, 0),
    ]
    assert rows(ledger, EntryRow) == []


def test_each_budget_of_a_request_holds_and_spends(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Several scopes and several windows on one scope count the same money; others do not."""
    day = Budget(ORGANISATION, Period.DAY, 100)
    ledger.declare_budgets([total(1000), day, total(50, "key:a"), total(50, "key:b")])
    entry_id = ledger.open(opening("q1", 40, scopes=(ORGANISATION, "key:a")), now)
    assert [held for _, _, held, _ in counters(ledger, now)] == [40, 40, 40, 0]
    ledger.settle(SettleEntry(entry_id, (call(7),), latency_s=1), now)
    assert [spent for _, spent, _, _ in counters(ledger, now)] == [7, 7, 7, 0]
    assert ledger.examine() == []


def test_without_a_budget_everything_is_admitted_and_recorded(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """No budget means no limit, not no ledger."""
    entry_id = ledger.open(opening("q1", 10**15), now)
    ledger.settle(SettleEntry(entry_id, (call(10**15),), latency_s=1), now)
    assert ledger.read(totals).cost_nano_usd == 10**15
    assert ledger.examine() == []


def test_what_costs_nothing_is_admitted_when_the_money_is_gone(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A free model keeps working on an overdrawn budget."""
    ledger.declare_budgets([total(10)])
    entry_id = ledger.open(opening("q1", 10), now)
    ledger.settle(SettleEntry(entry_id, (call(15),), latency_s=1), now)
    free = ledger.open(opening("q2", 0), now)
    ledger.settle(SettleEntry(free, (call(0),), latency_s=1), now)
    assert counters(ledger, now) == [(ORGANISATION, 15, 0, 5)]
    assert ledger.examine() == []


def test_a_second_attempt_has_its_own_entry_under_the_same_request(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """Escalation is a row of its own."""
    ledger.open(opening("q1", 10), now)
    ledger.open(opening("q1", 20, attempt=1), now)
    assert [(e.attempt, e.held_nano_usd) for e in rows(ledger, EntryRow)] == [(0, 10), (1, 20)]
    assert len(rows(ledger, RequestRow)) == 1


def test_opening_an_attempt_twice_is_an_error_and_holds_once(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """The first one stands."""
    ledger.declare_budgets([total(100)])
    ledger.open(opening("q1", 10), now)
    with pytest.raises(EntryExistsError, match="attempt 0 of request 'q1'"):
        ledger.open(opening("q1", 10), now)
    assert counters(ledger, now) == [(ORGANISATION, 0, 10, 0)]


def test_windows_follow_the_clock_and_nothing_is_reset(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A new day has its own counters; an entry is charged to the day in which it was held."""
    ledger.declare_budgets([Budget(ORGANISATION, Period.DAY, 100)])
    overnight = ledger.open(opening("q1", 90), now)
    tomorrow = now + timedelta(days=1)
    ledger.open(opening("q2", 80), tomorrow)
    ledger.settle(SettleEntry(overnight, (call(70),), latency_s=1), tomorrow)
    assert counters(ledger, tomorrow) == [(ORGANISATION, 0, 80, 0)]
    assert counters(ledger, now) == [(ORGANISATION, 70, 0, 0)]
    assert ledger.examine() == []


def test_a_changed_limit_counts_from_the_next_hold_on(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """Raised or lowered, what is held stays, and a lowered limit is no overshoot."""
    ledger.declare_budgets([total(10)])
    with pytest.raises(BudgetExceededError):
        ledger.open(opening("q1", 50), now)
    ledger.declare_budgets([total(50)])
    ledger.open(opening("q1", 50), now)
    ledger.declare_budgets([total(20)])
    with pytest.raises(BudgetExceededError):
        ledger.open(opening("q2", 1), now)
    assert ledger.budget_status(now)[0].window_start == EPOCH
    assert ledger.examine() == []


def test_a_budget_that_is_no_longer_declared_no_longer_counts(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """It is kept with its history, and comes back with it."""
    ledger.declare_budgets([total(10)])
    entry_id = ledger.open(opening("q1", 10), now)
    ledger.declare_budgets([])
    assert ledger.budget_status(now) == []
    ledger.open(opening("q2", 500), now)
    ledger.settle(SettleEntry(entry_id, (call(4),), latency_s=1), now)
    ledger.declare_budgets([total(10)])
    assert counters(ledger, now) == [(ORGANISATION, 4, 0, 0)]


def test_refusals_are_written_with_their_cause(
    ledger: Ledger, opening: Opening, now: datetime
) -> None:
    """Who was turned away, by what, for how much; also when no arm had been picked."""
    ledger.declare_budgets([total(10)])
    entry = opening("q1", 50)
    with pytest.raises(BudgetExceededError) as refused:
        ledger.open(entry, now)
    ledger.refuse(Refusal(entry.asked, str(refused.value), entry.decision.arm, refused.value), now)
    ledger.refuse(Refusal(Asked(Query("q2", "?")), "no arm fits"), now)
    first, second = rows(ledger, RefusalRow)
    assert (first.request_id, first.scope, first.asked_nano_usd) == ("q1", ORGANISATION, 50)
    assert Arm(first.model, first.strategy) == entry.decision.arm
    assert (second.request_id, second.model, second.reason) == ("q2", None, "no arm fits")
    assert ledger.read(totals).n_refused == 2
    assert ledger.examine() == []


def test_amounts_below_zero_are_refused_at_birth(opening: Opening, call: CallOf) -> None:
    """No hold and no call adds money to a budget."""
    with pytest.raises(ValueError, match="at least 0"):
        opening("q1", -1)
    with pytest.raises(ValueError, match="at least 0"):
        call(-1)


NANO_USD = st.integers(min_value=0, max_value=10**12)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(limit=NANO_USD, asks=st.lists(NANO_USD, max_size=10))
def test_a_hold_is_granted_exactly_when_it_fits(
    new_ledger: Callable[[], Ledger],
    opening: Opening,
    now: datetime,
    limit: int,
    asks: list[int],
) -> None:
    """The ledger agrees with one line of arithmetic, whatever is asked in whatever order."""
    held = 0
    ledger = new_ledger()
    ledger.declare_budgets([total(limit)])
    for i, amount in enumerate(asks):
        fits = held + amount <= limit or amount == 0
        with nullcontext() if fits else pytest.raises(BudgetExceededError):
            ledger.open(opening(str(i), amount), now)
        held += amount if fits else 0
    assert counters(ledger, now) == [(ORGANISATION, 0, held, 0)]
    ledger.close()
