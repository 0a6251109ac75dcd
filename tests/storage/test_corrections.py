"""Corrections by the price book and by bills: every counter follows, nothing is booked twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from cost_models.budgets import Budget, Period
from cost_models.pricing import DatedPrice, Price, PriceBook
from cost_models.types import TURNED_AWAY, Usage
from storage.bills import Bill, Charge, read_bill
from storage.errors import BillError
from storage.ledger import SettleEntry
from storage.models import AdjustmentRow, CallRow, EntryRow
from storage.reconciling import reconcile, share_out
from storage.recovery import recover_dead
from storage.reports import parts, totals
from storage.repricing import reprice

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]

LATER = timedelta(hours=1)


def book(input_usd: int, *later: tuple[date, int]) -> PriceBook:
    """Price the model ``small`` by input alone, with later changes; 10 tokens are 10,000 times."""
    prices = [(None, input_usd), *later]
    return PriceBook(
        tuple(
            DatedPrice("small", Price(Decimal(usd), source=f"at {usd}"), on) for on, usd in prices
        )
    )


def settled(  # noqa: PLR0913, PLR0917 - a ledger, how to fill it, and with what
    ledger: Ledger, opening: Opening, name: str, hold: int, calls: tuple[Call, ...], now: datetime
) -> int:
    """Open and settle one entry."""
    entry_id = ledger.open(opening(name, hold), now)
    ledger.settle(SettleEntry(entry_id, calls, latency_s=1), now)
    return entry_id


def spent(ledger: Ledger, now: datetime) -> tuple[int, int]:
    """Give what is spent, and the overshoot, of the one budget; every counter is right."""
    assert ledger.examine() == []
    (status,) = ledger.budget_status(now)
    assert ledger.read(totals).cost_nano_usd == status.facts.spent_nano_usd
    return status.facts.spent_nano_usd, status.overshoot_nano_usd


def n_rows(ledger: Ledger) -> int:
    """Count the corrections."""
    return ledger.read(lambda s: s.scalar(select(func.count(AdjustmentRow.id)))) or 0


def over(now: datetime, cost: int, model: str = "small") -> Bill:
    """Charge so much for a model over the hour from ``now``."""
    return Bill("b.csv", (Charge(2, cost, model, start=now, end=now + LATER),))


def test_each_call_is_priced_at_its_day_and_only_once(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A dry run writes nothing; the run moves entry and budget, and the next finds nothing."""
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 100_000)])
    settled(ledger, opening, "old", 20_000, (call(9_000),), now - timedelta(days=1))
    settled(ledger, opening, "new", 40_000, (call(31_000), call(30_000)), now)
    prices = book(1, (now.date(), 3))
    tried = reprice(ledger, prices, now, dry_run=True)
    assert (tried.n_calls["small"], tried.n_differing["small"]) == (3, 2)
    assert (tried.booked["small"], tried.priced["small"]) == (70_000, 70_000)
    assert (spent(ledger, now)[0], n_rows(ledger)) == (70_000, 0)
    reprice(ledger, prices, now)
    assert (spent(ledger, now), n_rows(ledger)) == ((70_000, 22_000), 2)
    again = reprice(ledger, prices, now)
    assert (again.n_differing.total(), n_rows(ledger)) == (0, 2)
    costs = ledger.read(lambda s: s.scalars(select(EntryRow.cost_nano_usd).order_by("id")).all())
    assert list(costs) == [10_000, 60_000]
    booked = ledger.read(lambda s: s.scalars(select(CallRow.cost_nano_usd).order_by("id")).all())
    assert list(booked) == [9_000, 31_000, 30_000]


def test_repricing_keeps_to_its_time_and_says_what_it_leaves(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Calls in doubt and calls without a price stay as they are, counted; times are half-open."""
    for hour in range(3):
        settled(ledger, opening, f"q{hour}", 9, (call(5),), now + hour * LATER)
    settled(ledger, opening, "doubt", 9, (call(9, in_doubt=True),), now)
    within = (now + LATER, now + 2 * LATER)
    assert reprice(ledger, book(1), now, within).n_differing == {"small": 1}
    assert reprice(ledger, book(1), now).n_in_doubt == 1
    unknown = reprice(ledger, PriceBook(), now)
    assert (unknown.n_unpriced, unknown.n_calls.total()) == ({"small": 3}, 0)
    assert ledger.examine() == []


def test_a_correction_beyond_what_is_left_is_overshoot_and_explained(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Freed money may be held by others when the truth turns out dearer."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 20_000)])
    settled(ledger, opening, "q1", 15_000, (call(1_000),), now)
    settled(ledger, opening, "q2", 19_000, (call(10_000),), now)
    reprice(ledger, book(1), now)
    assert spent(ledger, now) == (20_000, 9_000)
    ledger.open(opening("free", 0), now)
    reprice(ledger, book(2), now)
    assert spent(ledger, now) == (40_000, 29_000)


def test_a_bill_closes_what_a_crash_left_and_what_broke_off(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """What the certain calls leave of the charge is shared out by worst case, and once."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 1_000)])
    settled(ledger, opening, "sure", 100, (call(40),), now)
    settled(ledger, opening, "broken", 100, (call(10), call(30, in_doubt=True)), now)
    crashed = ledger.open(opening("crashed", 60), now)
    ledger.write(lambda s: _kill(s, crashed, now))
    assert spent(ledger, now) == (140, 0)
    tried = reconcile(ledger, over(now, 80), now, dry_run=True)
    assert (spent(ledger, now)[0], tried[0].settled, tried[0].n_closed) == (140, 80, 2)
    (told,) = reconcile(ledger, over(now, 80), now)
    assert (told.n_calls, told.n_closed, told.booked, told.difference) == (4, 2, 140, 0)
    assert spent(ledger, now) == (80, 0)
    whole = ledger.read(totals)
    assert (whole.n_in_doubt, n_rows(ledger)) == (0, 2)
    assert reconcile(ledger, over(now, 80), now)[0].n_closed == 0
    assert n_rows(ledger) == 2
    late = ledger.settle(SettleEntry(crashed, (call(55),), latency_s=1), now)
    assert (late.repeated, late.cost_nano_usd) == (True, 20)
    assert spent(ledger, now) == (80, 0)


def _kill(session: Session, entry_id: int, now: datetime) -> None:
    """Leave the entry as the recovery of a dead replica does."""
    found = recover_dead(session, now, 0.0, alive=lambda _replica: False)
    assert [one.entry_id for one in found] == [entry_id]


@pytest.mark.parametrize(
    ("charge", "settled_at", "difference"),
    [
        pytest.param(500, 100, 400, id="more than the worst case is told, not booked"),
        pytest.param(35, 40, -5, id="less than what is certain leaves nothing for the rest"),
        pytest.param(55, 55, 0, id="what is left is the cost"),
    ],
)
def test_a_charge_over_a_time_never_books_more_than_the_worst_case(  # noqa: PLR0913, PLR0917 - fixtures and a table
    ledger: Ledger,
    opening: Opening,
    call: CallOf,
    now: datetime,
    charge: int,
    settled_at: int,
    difference: int,
) -> None:
    """Other programs may have used the model too."""
    settled(ledger, opening, "sure", 100, (call(40),), now)
    settled(ledger, opening, "broken", 100, (call(60, in_doubt=True),), now)
    (told,) = reconcile(ledger, over(now, charge), now)
    assert (told.settled, told.difference) == (settled_at, difference)
    assert ledger.examine() == []
    assert ledger.read(totals).cost_nano_usd == settled_at


def test_a_charge_counts_its_own_model_and_time_alone(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """The end is not part of the time; what is still open is told."""
    settled(ledger, opening, "before", 9, (call(5, in_doubt=True),), now - timedelta(seconds=1))
    settled(ledger, opening, "at the end", 9, (call(5, in_doubt=True),), now + LATER)
    ledger.open(opening("open", 9), now)
    (told,) = reconcile(ledger, over(now, 3), now)
    assert (told.n_calls, told.n_closed, told.n_open, told.difference) == (0, 0, 1, 3)
    (other,) = reconcile(ledger, over(now - LATER, 3, "large"), now)
    assert (other.n_calls, other.difference) == (0, 3)


@pytest.mark.parametrize(
    "charge",
    [
        pytest.param(70, id="more"),
        pytest.param(25, id="less than certain"),
        pytest.param(45, id="between"),
        pytest.param(0, id="nothing"),
    ],
)
def test_a_named_request_costs_what_its_bill_says(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime, charge: int
) -> None:
    """To the nano-USD, whatever was booked; the price book leaves it alone afterwards."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 1_000)])
    settled(ledger, opening, "q1", 100, (call(20), call(10), call(30, in_doubt=True)), now)
    settled(ledger, opening, "q2", 100, (call(7),), now)
    bill = Bill("b.csv", (Charge(2, charge, request_id="q1"),))
    (told,) = reconcile(ledger, bill, now)
    assert (told.settled, told.difference, told.n_closed) == (charge, 0, 1)
    assert spent(ledger, now)[0] == charge + 7
    (again,) = reconcile(ledger, bill, now)
    assert (again.booked, again.n_closed) == (charge, 0)
    assert reprice(ledger, book(1), now, dry_run=True).n_billed >= 1


def test_an_attempt_that_was_turned_away_gets_no_share_of_a_bill(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """It counts among the calls as a failed one; the free call that it was made for gets all."""
    tried = replace(call(0), status=TURNED_AWAY, error="busy", usage=Usage())
    settled(ledger, opening, "q", 100, (call(0), tried, tried), now)
    (part,) = ledger.read(lambda session: parts(session, "role"))
    assert (part.n_calls, part.n_failed, part.failed_cost_nano_usd) == (3, 2, 0)
    (told,) = reconcile(ledger, Bill("b.csv", (Charge(2, 50, request_id="q"),)), now)
    assert (told.n_calls, told.settled) == (1, 50)
    (corrected,) = ledger.read(lambda s: s.scalars(select(AdjustmentRow)).all())
    assert corrected.amount_nano_usd == 50
    (part,) = ledger.read(lambda session: parts(session, "role"))
    assert (part.first_cost_nano_usd, part.failed_cost_nano_usd) == (50, 0)


def test_only_a_bill_of_each_model_closes_a_request(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A request stays in doubt as long as one of its calls is."""
    doubtful = call(30, in_doubt=True)
    settled(ledger, opening, "q", 100, (doubtful, replace(doubtful, model="large")), now)
    reconcile(ledger, over(now, 10), now)
    assert ledger.read(totals).n_in_doubt == 1
    reconcile(ledger, over(now, 12, "large"), now)
    whole = ledger.read(totals)
    assert (whole.n_in_doubt, whole.cost_nano_usd) == (0, 22)


@given(
    total=st.integers(0, 10**18), weights=st.lists(st.integers(0, 10**18), min_size=1, max_size=9)
)
def test_shares_are_whole_and_sum_up(total: int, weights: list[int]) -> None:
    """No share is more than one part away from its exact size."""
    parts = share_out(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    if whole:
        exact = [total * weight / whole for weight in weights]
        assert all(
            abs(part * whole - total * weight) < whole
            for part, weight in zip(parts, weights, strict=True)
        ), exact


def test_lines_about_the_same_are_one_charge(tmp_path: Path) -> None:
    """Token classes are billed apart; a date is its midnight in UTC; extra columns are left."""
    path = tmp_path / "bill.csv"
    path.write_text(
        "\ufeffmodel,start,end,note,cost_usd,request_id\n"
        "large,2026-07-01,2026-07-02,input,0.000000001,\n"
        "large,2026-07-01T00:00Z,2026-07-02T02:00+02:00,output,1.5,\n"
        ",,,,2,q7\n"
    )
    assert read_bill(path).charges == (
        Charge(4, 2_000_000_000, request_id="q7"),
        Charge(
            2,
            1_500_000_001,
            "large",
            start=datetime(2026, 7, 1, tzinfo=UTC),
            end=datetime(2026, 7, 2, tzinfo=UTC),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("model,cost\nlarge,1\n", "no column cost_usd", id="no cost"),
        pytest.param("cost_usd,request_id\n", "no line below", id="nothing in it"),
        pytest.param("cost_usd,request_id\n-1,q\n", "line 2: cost_usd must", id="below 0"),
        pytest.param("cost_usd,request_id\nNaN,q\n", "line 2: cost_usd must", id="no number"),
        pytest.param("cost_usd,request_id\n1e12,q\n", "line 2: cost_usd must", id="too much"),
        pytest.param("cost_usd,request_id\n1,\n", "needs a request_id, or", id="for nothing"),
        pytest.param(
            "cost_usd,model,start,end\n1,m,July,2026-08-01\n", "start must be a date", id="no time"
        ),
        pytest.param(
            "cost_usd,model,start,end\n1,m,2026-08-01,2026-08-01\n", "end must be", id="no length"
        ),
        pytest.param(
            "cost_usd,model,start,end\n1,m,2026-07-01,2026-07-03\n1,m,2026-07-02,2026-07-04\n",
            "line 3: the time of m overlaps that of line 2",
            id="overlapping",
        ),
        pytest.param(
            "cost_usd,model,request_id\n1,m,q\n1,,q\n", "with and without a model", id="twice"
        ),
        pytest.param('cost_usd\n"\xff', "must be|cannot be read|needs", id="not UTF-8"),
    ],
)
def test_what_is_no_bill_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    """Nothing is guessed."""
    path = tmp_path / "bill.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BillError, match=message):
        read_bill(path)
