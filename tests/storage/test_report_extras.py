"""What a report tells beside the facts, on each kind of database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from cost_models.budgets import Budget, Period
from cost_models.forecast import Forecast
from policies.synthetic import World
from router.jobs.simulate import simulate
from storage.ledger import SettleEntry
from storage.measured import Refused
from storage.models import BudgetWindowRow
from storage.policies import promote_policy, save_policy
from storage.report_extras import next_spend, organisation_limit, read_extras

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

SINCE = datetime(2026, 7, 1, tzinfo=UTC)
UNTIL = datetime(2026, 8, 1, tzinfo=UTC)


def test_an_empty_ledger_has_nothing_to_tell(ledger: Ledger) -> None:
    """No policy, no alert, no token, and no forecast."""
    found = ledger.read(lambda session: read_extras(session, SINCE, UNTIL))
    assert (found.policy, found.promoted, found.alerts, found.corrections) == (None, (), (), {})
    assert (found.reasoning_tokens, found.output_tokens) == (0, 0)
    coming = ledger.read(lambda session: next_spend(session, UNTIL, UNTIL, "UTC", None))
    assert isinstance(coming, Refused)


def test_policies_alerts_and_tokens_are_those_of_the_period(
    ledger: Ledger, opening: Callable[..., OpenEntry], call: Callable[[int], Call]
) -> None:
    """A policy promoted before is in service, and not news; one promoted after is neither."""
    for version, day in (("v1", SINCE - timedelta(days=3)), ("v2", SINCE + timedelta(days=5))):
        ledger.write(lambda session, v=version, at=day: save_policy(session, v, b"", {}, at))
        ledger.write(lambda session, v=version, at=day: promote_policy(session, v, at))
    ledger.declare_budgets([Budget("organisation", Period.MONTH, 10_000)])
    entry_id = ledger.open(opening("r1", 1000), SINCE + timedelta(days=1))
    one = call(700)
    ledger.settle(SettleEntry(entry_id, (one,), 0.1), SINCE + timedelta(days=1, hours=1))
    ledger.write(
        lambda session: session.execute(update(BudgetWindowRow).values(alerted_percent=80))
    )
    found = ledger.read(lambda session: read_extras(session, SINCE, UNTIL))
    assert found.policy == "v2"
    assert found.promoted == (("v2", SINCE + timedelta(days=5)),)
    (alert,) = found.alerts
    assert (alert.scope, alert.window_start, alert.percent) == ("organisation", SINCE, 80)
    assert not alert.by_forecast
    assert found.output_tokens == one.usage.completion_tokens
    before = ledger.read(lambda session: read_extras(session, SINCE - timedelta(days=9), SINCE))
    assert (before.policy, before.alerts, before.output_tokens) == ("v1", (), 0)


def test_a_limit_counts_where_its_window_is_the_period(ledger: Ledger) -> None:
    """Neither half a month nor another scope has it."""
    ledger.declare_budgets(
        [Budget("organisation", Period.MONTH, 700), Budget("team:a", Period.WEEK, 30)]
    )
    assert ledger.read(lambda session: organisation_limit(session, SINCE, UNTIL)) == 700
    half = SINCE + timedelta(days=15)
    assert ledger.read(lambda session: organisation_limit(session, SINCE, half)) is None
    week = datetime(2026, 7, 6, tzinfo=UTC)
    later = week + timedelta(days=7)
    assert ledger.read(lambda session: organisation_limit(session, week, later)) is None


def test_the_next_period_is_forecast_from_the_days_before_it(sqlite_ledger: Ledger) -> None:
    """Its fan widens, ends at the total, and starts from nothing spent."""
    simulate(sqlite_ledger, World(datetime(2026, 7, 12, tzinfo=UTC).date(), 20, 30, seed=1))
    end = UNTIL + timedelta(days=10)
    found = sqlite_ledger.read(lambda session: next_spend(session, UNTIL, end, "UTC", 1))
    assert isinstance(found, Forecast)
    assert found.over == 1.0
    assert len(found.fan) == len(found.daily) == 10
    low, middle, high = found.fan[-1]
    total = found.total_usd
    assert (low, middle, high) == pytest.approx((total.low, total.value, total.high))
    assert found.fan[0][2] - found.fan[0][0] < high - low
