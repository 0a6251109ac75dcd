"""Prepaid, soft and commanded budgets: what is left, who may change what, what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from storage.budgets import end_budget, set_budget
from storage.errors import BudgetChangeError
from storage.grants import Granted, grant, grants_of
from storage.ledger import SettleEntry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]

SCOPE = "organisation"


def give(ledger: Ledger, amount: int, now: datetime, reference: str | None = None) -> Granted:
    """Grant to the organisation."""
    return ledger.write(lambda s: grant(s, SCOPE, amount, now, reference=reference))


def standing(ledger: Ledger, now: datetime) -> dict[str, tuple[int, int, int]]:
    """(limit, spent, held) of each budget in force, by period."""
    return {
        s.facts.period: (s.facts.limit_nano_usd, s.facts.spent_nano_usd, s.facts.held_nano_usd)
        for s in ledger.budget_status(now)
    }


def test_what_is_left_is_grants_less_spending(
    ledger: Ledger, opening: Opening, call: Callable[..., Call], now: datetime
) -> None:
    """A balance that is used up takes nothing until more is granted; what was held is untouched."""
    give(ledger, 100, now)
    first = ledger.open(opening("q1", 80), now)
    ledger.settle(SettleEntry(first, (call(70),), latency_s=1), now)
    with pytest.raises(BudgetExceededError, match="it grows by grants"):
        ledger.open(opening("q2", 31), now)
    assert give(ledger, 50, now) == Granted(150)
    ledger.open(opening("q3", 80), now)
    assert standing(ledger, now) == {"prepaid": (150, 70, 80)}
    give(ledger, -20, now)
    with pytest.raises(BudgetChangeError, match="no more can be taken back"):
        give(ledger, -131, now)
    assert [g.amount_nano_usd for g in ledger.read(lambda s: grants_of(s, SCOPE))] == [100, 50, -20]
    assert ledger.examine() == []


def test_a_payment_is_booked_once_however_many_book_it(ledger: Ledger, now: datetime) -> None:
    """Sixteen at once with four references; the same reference with another amount is an error."""
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: give(ledger, 10, now, f"invoice {i % 4}"), range(16)))
    assert sum(not granted.repeated for granted in done) == 4
    assert standing(ledger, now) == {"prepaid": (40, 0, 0)}
    assert len(ledger.read(lambda s: grants_of(s, SCOPE))) == 4
    with pytest.raises(BudgetChangeError, match="another amount"):
        give(ledger, 11, now, "invoice 1")
    with pytest.raises(BudgetChangeError, match="a grant of nothing"):
        give(ledger, 0, now)


def test_a_balance_that_differs_from_its_grants_is_found_and_put_right(
    ledger: Ledger, now: datetime
) -> None:
    """The rows are what counts."""
    give(ledger, 100, now)
    ledger.write(lambda s: s.execute(text("UPDATE budgets SET limit_nano_usd = 7")))
    (finding,) = ledger.examine()
    assert (finding.expected, finding.found) == (100, 7)
    assert ledger.examine(repair=True)[0].repaired
    assert ledger.examine() == []
    assert standing(ledger, now) == {"prepaid": (100, 0, 0)}


def test_thresholds_are_told_of_again_after_a_grant(
    ledger: Ledger, opening: Opening, call: Callable[..., Call], now: datetime
) -> None:
    """Nothing ever resets a balance but a grant, so that is when alerts begin anew."""
    give(ledger, 100, now)
    entry_id = ledger.open(opening("q1", 100), now)
    ledger.settle(SettleEntry(entry_id, (call(100),), latency_s=1), now)
    assert [alert.percent for alert in ledger.alerts(now)] == [100]
    give(ledger, 60, now)
    assert ledger.alerts(now) == []
    give(ledger, -40, now)
    assert [alert.percent for alert in ledger.alerts(now)] == [80]


def test_a_soft_budget_warns_and_refuses_nothing(
    ledger: Ledger, opening: Opening, call: Callable[..., Call], now: datetime
) -> None:
    """A hard one beside it still does, and says so itself; the books stay in order."""
    hard = Budget("key:a", Period.DAY, 200)
    ledger.declare_budgets([Budget(SCOPE, Period.DAY, 50, soft=True), hard])
    scopes = (SCOPE, "key:a")
    entry_id = ledger.open(opening("q1", 150, scopes=scopes), now)
    ledger.settle(SettleEntry(entry_id, (call(150),), latency_s=1), now)
    alert, other = (told for told in ledger.alerts(now) if told.projected_nano_usd is None)
    assert (alert.percent, other.percent) == (100, 50)
    assert "soft day budget" in str(alert)
    with pytest.raises(BudgetExceededError) as caught:
        ledger.open(opening("q2", 60, scopes=scopes), now)
    assert caught.value.facts.scope == "key:a"
    futures = [ledger.opening(opening(f"r{i}", 10, scopes=scopes), now).future for i in range(5)]
    assert all(future.result() for future in futures)
    soft, _ = ledger.budget_status(now)
    assert (soft.facts.spent_nano_usd, soft.facts.held_nano_usd, soft.soft) == (150, 50, True)
    assert ledger.examine() == []


def test_commands_and_the_file_keep_to_their_own(ledger: Ledger, now: datetime) -> None:
    """What a command set stays when the file is read again; what the file says is the file's."""
    declared = Budget(SCOPE, Period.DAY, 50)
    ledger.declare_budgets([declared])
    ledger.write(lambda s: set_budget(s, Budget(SCOPE, Period.TOTAL, 70)))
    ledger.write(lambda s: set_budget(s, Budget(SCOPE, Period.TOTAL, 80)))
    give(ledger, 90, now)
    ledger.declare_budgets([declared])
    assert standing(ledger, now) == {"day": (50, 0, 0), "total": (80, 0, 0), "prepaid": (90, 0, 0)}
    for change in (
        lambda s: set_budget(s, Budget(SCOPE, Period.DAY, 60)),
        lambda s: end_budget(s, SCOPE, Period.DAY),
    ):
        with pytest.raises(BudgetChangeError, match="in the configuration file"):
            ledger.write(change)
    with pytest.raises(BudgetChangeError, match="budget grant"):
        ledger.write(lambda s: set_budget(s, Budget(SCOPE, Period.PREPAID, 1)))
    ledger.write(lambda s: end_budget(s, SCOPE, Period.TOTAL))
    with pytest.raises(BudgetChangeError, match="has no total budget"):
        ledger.write(lambda s: end_budget(s, SCOPE, Period.TOTAL))
    ledger.declare_budgets([])
    assert standing(ledger, now) == {"prepaid": (90, 0, 0)}
