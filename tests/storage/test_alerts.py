"""Thresholds: told of once per window, by one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cost_models.budgets import Budget, Period
from policies.pacing import Pacing
from storage.alerts import NONE_PACED
from storage.engine import create_ledger_engine
from storage.ledger import SettleEntry
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.forecasts import Paced
    from storage.ledger import Call, OpenEntry

    Spend = Callable[[int, datetime], None]


@pytest.fixture
def spend(ledger: Ledger, opening: Callable[..., OpenEntry], call: Callable[..., Call]) -> Spend:
    """Spend an amount of the organisation's money."""
    names = iter(range(1000))

    def pay(amount: int, now: datetime) -> None:
        entry_id = ledger.open(opening(f"q{next(names)}", amount), now)
        ledger.settle(SettleEntry(entry_id, (call(amount),), latency_s=0), now)

    return pay


def percents(ledger: Ledger, now: datetime) -> list[int]:
    """Thresholds that are told of now."""
    return [percent for _, percent in thresholds(ledger, now)]


def thresholds(ledger: Ledger, now: datetime) -> list[tuple[str, int]]:
    """Periods and thresholds that are told of now."""
    return [
        (alert.status.facts.period, alert.percent)
        for alert in ledger.alerts(now)
        if alert.projected_nano_usd is None
    ]


def forecasts(ledger: Ledger, now: datetime, paced: Paced = NONE_PACED) -> list[int]:
    """Projections that are told of now."""
    told = [alert.projected_nano_usd for alert in ledger.alerts(now, paced)]
    return [projected for projected in told if projected is not None]


def test_each_threshold_is_told_of_once_in_a_window(
    ledger: Ledger, spend: Spend, now: datetime
) -> None:
    """To the nano-USD, again on the next day, and only the highest that was passed at once."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 1000)])
    assert percents(ledger, now) == []
    spend(499, now)
    assert percents(ledger, now) == []
    spend(1, now)
    (alert,) = ledger.alerts(now)
    assert alert.percent == 50
    assert "the day budget of 'organisation' has spent 50 % or more" in str(alert)
    assert percents(ledger, now) == []
    spend(500, now)
    assert percents(ledger, now) == [100]
    assert percents(ledger, now) == []
    tomorrow = now + timedelta(days=1)
    assert percents(ledger, tomorrow) == []
    spend(800, tomorrow)
    assert percents(ledger, tomorrow) == [80]


def test_a_hold_is_not_spending_and_no_limit_no_threshold(
    ledger: Ledger, opening: Callable[..., OpenEntry], now: datetime
) -> None:
    """What is held may come back; a limit of 0 is always used up."""
    ledger.declare_budgets(
        [Budget("organisation", Period.DAY, 100), Budget("key:none", Period.DAY, 0)]
    )
    ledger.open(opening("q", 100), now)
    assert percents(ledger, now) == []


def test_of_two_processes_one_tells(ledger: Ledger, spend: Spend, now: datetime) -> None:
    """Whoever sees it first."""
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 100)])
    other = Ledger(create_ledger_engine(ledger.engine.url.render_as_string(hide_password=False)))
    spend(90, now)
    assert [percents(other, now), percents(ledger, now)] == [[80], []]
    other.close()


def test_each_window_of_a_scope_has_its_own_limit_and_thresholds(
    ledger: Ledger, spend: Spend, now: datetime
) -> None:
    """A day, a week and a month count the same spending against limits of their own."""
    ledger.declare_budgets(
        [
            Budget("organisation", Period.DAY, 100),
            Budget("organisation", Period.WEEK, 160),
            Budget("organisation", Period.MONTH, 1000),
        ]
    )
    spend(90, now)
    told = {
        (a.status.facts.period, a.percent)
        for a in ledger.alerts(now)
        if a.projected_nano_usd is None
    }
    assert set(told) == {("day", 80), ("week", 50)}
    tomorrow = now + timedelta(days=1)
    spend(70, tomorrow)
    told = {
        (a.status.facts.period, a.percent)
        for a in ledger.alerts(tomorrow)
        if a.projected_nano_usd is None
    }
    assert set(told) == {("day", 50), ("week", 100)}
    standing = {s.facts.period: s.free_nano_usd for s in ledger.budget_status(tomorrow)}
    assert standing == {"day": 30, "week": 0, "month": 840}
    assert ledger.examine() == []


def test_a_forecast_above_the_limit_is_told_of_once_in_a_window(
    ledger: Ledger, spend: Spend, now: datetime
) -> None:
    """Where spending goes on as it did; again on the next day, and by one process alone."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 1000)])
    other = Ledger(create_ledger_engine(ledger.engine.url.render_as_string(hide_password=False)))
    eight = now.replace(hour=8)
    spend(330, eight)
    assert forecasts(ledger, eight) == []
    spend(10, eight)
    (alert,) = ledger.alerts(eight)
    assert (alert.percent, alert.projected_nano_usd) == (102, 1020)
    assert "'organisation' is on course for 102 %" in str(alert)
    spend(300, now)
    assert forecasts(other, now) == []
    tomorrow = eight + timedelta(days=1)
    spend(700, tomorrow)
    assert sorted([*forecasts(other, tomorrow), *forecasts(ledger, tomorrow)]) == [2100]
    other.close()


def test_there_is_no_forecast_from_little(ledger: Ledger, spend: Spend, now: datetime) -> None:
    """Neither from the first minutes nor from a small part of the limit, nor once it is reached."""
    ledger.declare_budgets(
        [Budget("organisation", Period.DAY, 1000), Budget("organisation", Period.TOTAL, 2000)]
    )
    midnight = now.replace(hour=0)
    spend(190, midnight)
    assert forecasts(ledger, midnight + timedelta(hours=2, minutes=24)) == []
    spend(200, midnight)
    assert forecasts(ledger, midnight + timedelta(hours=2, minutes=23)) == []
    spend(610, midnight)
    assert forecasts(ledger, midnight + timedelta(hours=3)) == []


def test_a_paced_budget_is_told_of_where_pacing_can_do_no_more(
    ledger: Ledger, spend: Spend, now: datetime
) -> None:
    """Ahead of its plan it still lasts; and a profile tells what half a day is."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 1000)])
    eight = now.replace(hour=8)
    spend(400, eight)
    pair = ("organisation", "day")
    assert forecasts(ledger, eight, {pair: Pacing()}) == []
    late = Pacing(hours=(1.0,) * 8 + (0.0,) * 15 + (0.1,), max_factor=1.5)
    assert forecasts(ledger, eight, {pair: late}) == []
    assert forecasts(ledger, eight, {pair: Pacing(max_factor=1.5)}) == [1200]


def test_of_many_that_look_at_once_one_tells(ledger: Ledger, spend: Spend, now: datetime) -> None:
    """Each threshold and each forecast, over replicas whose heartbeats meet."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 1000)])
    url = ledger.engine.url.render_as_string(hide_password=False)
    replicas = [ledger, *(Ledger(create_ledger_engine(url)) for _ in range(3))]
    spend(600, now)
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda i: replicas[i % 4].alerts(now), range(16)))
    kinds = sorted(alert.projected_nano_usd or 0 for alerts in told for alert in alerts)
    assert kinds == [0, 1200]
    for other in replicas[1:]:
        other.close()
