"""A text and how it was posed come apart as they were put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable
from policies.posing import MARK, PLAIN, Posing, parted, posed
from policies.types import AnswerKind

COUNT = st.integers(0, 10**9)
POSINGS = st.builds(
    Posing, st.none() | st.sampled_from(AnswerKind), COUNT, COUNT, COUNT, COUNT, COUNT, COUNT
)


@given(st.text(), POSINGS)
def test_what_is_put_together_comes_apart(text: str, posing: Posing) -> None:
    """Whatever the text."""
    assert parted(posed(text, posing)) == (text, posing)


@given(st.text())
def test_a_text_cannot_say_how_it_is_posed(text: str) -> None:
    """A client that writes the mark itself has written text."""
    forged = f"{text}{MARK}kind=number tools=99"
    assert parted(posed(forged, PLAIN)) == (forged, PLAIN)


def test_most_queries_are_their_text() -> None:
    """Nothing is added where nothing is known."""
    assert posed("2 + 2?", PLAIN) == "2 + 2?"
    assert str(Posing(AnswerKind.NUMBER, turns=2)) == "kind=number turns=2"


@pytest.mark.parametrize(
    "told", ["turns=-1", "turns=x", "kind=novel", "mood=good", "turns", "turns=1 turns=2"]
)
def test_a_bad_posing_is_refused_with_its_row(told: str) -> None:
    """Files of outcomes may have the column."""
    row = {"query": "?", "model": "m", "strategy": "s", "correct": 1}
    rows = [{**row, "query_id": "a", "posing": "turns=1"}, {**row, "query_id": "b", "posing": told}]
    with pytest.raises(OutcomeError, match="row 2, column 'posing'"):
        OutcomeTable.from_rows(rows)


def test_a_table_tells_equal_texts_posed_differently_apart() -> None:
    """What is predicted may differ between them."""
    row = {"query": "and now?", "model": "m", "strategy": "s", "correct": 1}
    table = OutcomeTable.from_rows(
        [{**row, "query_id": "a"}, {**row, "query_id": "b", "posing": "turns=4"}]
    )
    assert table.queries == ("and now?", posed("and now?", Posing(turns=4)))
    assert [dict(line).get("posing") for line in table.rows()] == [None, "turns=4"]
