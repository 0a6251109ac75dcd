"""Budgets of many scopes at once: all hold or none, whatever crowds overlap in them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from router.routing.scopes import scopes_of
from storage.ledger import SettleEntry
from storage.models import RequestRow

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

TAGS = ("batch", "night", "free")


def test_a_request_names_every_scope_that_it_spends_for() -> None:
    """What it does not say is not there."""
    assert scopes_of("acme") == ("organisation", "key:acme")
    assert scopes_of("acme", "ann", team="blue", tags=("a", "b"), session="s") == (
        "organisation",
        "key:acme",
        "team:blue",
        "user:ann",
        "session:s",
        "tag:a",
        "tag:b",
    )


def test_a_crowd_in_overlapping_scopes_spends_each_budget_to_the_end_and_no_further(
    ledger: Ledger,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
    now: datetime,
) -> None:
    """Each request is in four budgets or more, named in another order; no two wait in a circle."""
    limits = {"organisation": 400, "team:blue": 150, "tag:batch": 200, "session:s0": 70}
    limits |= {f"key:k{i}": 1_000 for i in range(4)} | {"tag:night": 1_000, "tag:free": 1_000}
    ledger.declare_budgets(
        Budget(scope, period, limit)
        for scope, limit in reversed(limits.items())
        for period in (Period.DAY, Period.TOTAL)
    )

    def run(i: int) -> bool:
        tags = tuple(TAGS[(i + j) % 3] for j in range(1 + i % 3))
        team = "blue" if i % 2 else None
        scopes = scopes_of(f"k{i % 4}", team=team, tags=tags, session=f"s{i % 5}")
        if i % 3:
            scopes = tuple(reversed(scopes))
        try:
            entry_id = ledger.opening(opening(f"q{i}", 20, scopes=scopes), now, 30).future.result()
        except BudgetExceededError:
            return False
        ledger.settle(SettleEntry(entry_id, (call(10),), latency_s=0.1), now)
        return True

    with ThreadPoolExecutor(16) as pool:
        served = sum(pool.map(run, range(60)))
    standing = {
        (s.facts.scope, s.facts.period): s.facts.spent_nano_usd for s in ledger.budget_status(now)
    }
    assert served > 0
    assert standing["organisation", "day"] == 10 * served
    for scope, limit in limits.items():
        assert standing[scope, "day"] == standing[scope, "total"] <= limit
    assert any(standing[scope, "day"] > limit - 20 for scope, limit in limits.items())
    assert ledger.examine() == []


def test_what_a_request_said_of_itself_is_in_its_row(
    ledger: Ledger, opening: Callable[..., OpenEntry], now: datetime
) -> None:
    """Team, tags and session can be summed by; a request without them has none."""
    ledger.open(opening("q1", 0, team="blue", tags=("batch", "night"), session="s1"), now)
    ledger.open(opening("q2", 0), now)
    rows = ledger.read(
        lambda session: [
            (row.team, row.tags, row.session)
            for row in session.query(RequestRow).order_by(RequestRow.id)
        ]
    )
    assert rows == [("blue", ["batch", "night"], "s1"), (None, None, None)]
