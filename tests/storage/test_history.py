"""Graded history, in and out of the ledger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from cost_models.budgets import Budget, Period
from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable
from storage.history import import_history, read_history
from storage.ledger import SettleEntry
from storage.models import CallRow, EntryRow, OutcomeRow, RequestRow
from storage.outcomes import Grade
from storage.reports import totals, totals_by_arm

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]

ROWS: list[dict[str, Any]] = [
    {
        "query_id": "q1",
        "query": "2 + 2?",
        "posing": "kind=number turns=2",
        "model": "small",
        "strategy": "direct",
        "correct": 1.0,
        "sample_index": 0,
        "answer": "4",
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "cost_usd": 0.000123456,
        "latency_s": 0.25,
        "machine_s": 0.5,
        "propensity": 0.7,
    },
    {
        "query_id": "q1",
        "query": "2 + 2?",
        "posing": "kind=number turns=2",
        "model": "small",
        "strategy": "direct",
        "score": 0.25,
        "sample_index": 1,
        "cost_usd": 0.0,
    },
    {
        "query_id": "a:b",
        "query": "",
        "model": "large|x",
        "strategy": "cot",
        "correct": 0.0,
        "sample_index": 0,
    },
]


def put(ledger: Ledger, rows: list[dict[str, Any]], now: datetime) -> int:
    """Import rows in one transaction."""
    tables = [OutcomeTable.from_rows(rows)]
    return ledger.write(lambda session: import_history(session, tables, now))


def count(ledger: Ledger, *tables: type[Any]) -> list[int]:
    """Count the rows of tables."""
    return ledger.read(
        lambda session: [
            session.scalar(select(func.count()).select_from(table)) or 0 for table in tables
        ]
    )


def serve(ledger: Ledger, entry: OpenEntry, call: Call, now: datetime) -> int:
    """Run one entry to its end."""
    entry_id = ledger.open(entry, now)
    ledger.settle(SettleEntry(entry_id, (call,), latency_s=0.5, answer_value="x"), now)
    return entry_id


def test_what_goes_in_comes_out(ledger: Ledger, now: datetime) -> None:
    """Every column that the ledger keeps is as it was; what was unknown stays unknown."""
    assert put(ledger, ROWS, now) == 3
    history = ledger.read(read_history)
    assert sorted(history.rows, key=str) == sorted(ROWS, key=str)
    assert (history.n_ungraded, history.n_without_text) == (0, 0)


def test_importing_again_adds_nothing_and_more_samples_are_added(
    ledger: Ledger, now: datetime
) -> None:
    """A row is known by query, text, arm and sample, whatever else it says the second time."""
    put(ledger, ROWS, now)
    before = count(ledger, RequestRow, EntryRow, CallRow, OutcomeRow)
    assert before == [2, 3, 2, 3]
    assert put(ledger, [{**row, "cost_usd": 9.0} for row in ROWS], now) == 0
    assert count(ledger, RequestRow, EntryRow, CallRow, OutcomeRow) == before
    assert put(ledger, [*ROWS, {**ROWS[0], "sample_index": 2}], now) == 1


def test_more_rows_than_one_statement_takes(ledger: Ledger, now: datetime) -> None:
    """Every one is written, once."""
    rows = [{**ROWS[0], "query_id": f"q{i}"} for i in range(1203)]
    assert put(ledger, rows, now) == 1203
    assert put(ledger, rows, now) == 0
    assert ledger.examine() == []


def test_two_imports_at_once_write_each_row_once(ledger: Ledger, now: datetime) -> None:
    """The database decides whose row it is; between them they say that they wrote all."""
    rows = [{**ROWS[0], "query_id": f"q{i}"} for i in range(600)]
    together = Barrier(2)

    def run(_: int) -> int:
        together.wait(30)
        return put(ledger, rows, now)

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(run, range(2))) == 600
    assert count(ledger, RequestRow, EntryRow, CallRow, OutcomeRow) == [600] * 4
    assert ledger.examine() == []


def test_imported_money_is_in_no_budget_and_in_no_report(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """The doctor finds nothing wrong, and what was spent here is all that is reported."""
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 1000)])
    serve(ledger, opening("served", 60), call(40), now)
    put(ledger, ROWS, now)
    assert ledger.examine() == []
    (status,) = ledger.budget_status(now)
    assert status.facts.spent_nano_usd == 40
    whole = ledger.read(totals)
    assert (whole.cost_nano_usd, whole.n_requests, whole.n_entries) == (40, 1, 1)
    assert (whole.n_calls, whole.n_imported) == (1, 3)
    (arm,) = ledger.read(totals_by_arm)
    assert (arm.n_entries, arm.cost_nano_usd) == (1, 40)


def test_a_served_answer_comes_with_its_propensity_unless_its_model_was_named(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Where the client chose, no policy did."""
    for request_id, asked in (("free", "auto"), ("named", "small")):
        serve(ledger, opening(request_id, 60, model_asked=asked), call(40), now)
        ledger.record_outcome(request_id, Grade(1.0, "test"), now)
    free, named = ledger.read(read_history).rows
    assert (free["query_id"], free["propensity"], free["cost_usd"]) == ("free", 0.9, 4e-8)
    assert (free["answer"], free["correct"], free["sample_index"]) == ("x", 1.0, 0)
    assert (named["query_id"], "propensity" in named) == ("named", False)


def test_what_cannot_be_learned_from_is_counted(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """Ungraded, and graded without its text; what is open or outside the window is not there."""
    serve(ledger, opening("ungraded", 60), call(40), now)
    serve(ledger, opening("hashed", 60, keep_query_text=False), call(40), now)
    ledger.record_outcome("hashed", Grade(1.0, "test"), now)
    ledger.open(opening("open", 60), now)
    history = ledger.read(read_history)
    assert (history.rows, history.n_ungraded, history.n_without_text) == ((), 1, 1)
    second = timedelta(seconds=1)
    for since, until in ((now + second, None), (None, now)):
        other = ledger.read(lambda s, a=since, b=until: read_history(s, a, b))
        assert (other.n_ungraded, other.n_without_text) == (0, 0)


def test_what_this_ledger_exported_is_not_imported_into_it(
    ledger: Ledger,
    new_ledger: Callable[[], Ledger],
    opening: Opening,
    call: CallOf,
    now: datetime,
) -> None:
    """Another ledger takes it, and gives the same rows."""
    serve(ledger, opening("served", 60), call(40), now)
    ledger.record_outcome("served", Grade(0.5, "test"), now)
    rows = list(ledger.read(read_history).rows)
    assert put(ledger, rows, now) == 0
    other = new_ledger()
    assert put(other, rows, now) == 1
    assert list(other.read(read_history).rows) == rows


def test_two_texts_under_one_id_stay_apart(ledger: Ledger, now: datetime) -> None:
    """The later one gets an id of its own."""
    put(ledger, ROWS[:1], now)
    put(ledger, [{**ROWS[0], "query": "3 + 3?"}], now)
    first, second = ledger.read(read_history).rows
    assert (first["query_id"], first["query"]) == ("q1", "2 + 2?")
    assert second["query_id"] != "q1"
    assert second["query"] == "3 + 3?"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        pytest.param("sample_index", 0.5, id="half a sample"),
        pytest.param("cost_usd", 1e12, id="more money than there is"),
        pytest.param("completion_tokens", 1e30, id="no column holds it"),
    ],
)
def test_a_number_that_the_ledger_cannot_hold_leaves_it_as_it_was(
    ledger: Ledger, now: datetime, column: str, value: float
) -> None:
    """The error names row and column, and the rows before it are not written either."""
    with pytest.raises(OutcomeError, match=f"row 4, column '{column}'"):
        put(ledger, [*ROWS, {**ROWS[0], "query_id": "q9", column: value}], now)
    assert count(ledger, RequestRow, EntryRow) == [0, 0]
