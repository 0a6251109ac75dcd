"""Text that a database cannot store never keeps money from being settled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cost_models.budgets import Budget, Period
from policies.types import Query
from storage.errors import EntryNotFoundError
from storage.ledger import SettleEntry
from storage.models import CallRow, EntryRow, RequestRow
from storage.outcomes import Grade

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

ODD = "a\x00b\ud800c\N{GRINNING FACE}"
STORED = "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{GRINNING FACE}"


def test_a_nul_or_half_a_surrogate_pair_is_replaced(
    ledger: Ledger,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    now: datetime,
) -> None:
    """A prompt, an answer or an upstream's error with such a text is opened and settled."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 100)])
    entry = opening("q", 7, query=Query("q", ODD), end_user=ODD, prompt_text=ODD)
    entry_id = ledger.open(entry, now)
    failed = replace(call(5), status="error", error=ODD)
    ledger.settle(SettleEntry(entry_id, (failed,), 0.1, answer_value=ODD, error=ODD), now)
    columns = select(
        RequestRow.query_text,
        RequestRow.end_user,
        RequestRow.prompt_text,
        EntryRow.answer_value,
        EntryRow.error,
        CallRow.error,
    )
    (row,) = ledger.read(
        lambda session: session.execute(
            columns.where(RequestRow.id == EntryRow.request_id, CallRow.entry_id == EntryRow.id)
        ).all()
    )
    assert set(row) == {STORED}
    (status,) = ledger.budget_status(now)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (5, 0)
    assert ledger.examine() == []


def test_feedback_for_an_odd_id_finds_nothing(ledger: Ledger, now: datetime) -> None:
    """It is a request that nobody made, not a failing database."""
    with pytest.raises(EntryNotFoundError):
        ledger.record_outcome("a\x00b", Grade(1.0, "client"), now)
