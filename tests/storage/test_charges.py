"""Charges are the report's money, told apart: what was charged at first, and what corrected it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cost_models.budgets import Budget, Period
from cost_models.charges import GrantCharge
from cost_models.pricing import DatedPrice, Price, PriceBook
from cost_models.types import TURNED_AWAY, Usage
from storage.charges import DAY, month_of, pieces, read_charges
from storage.grants import grant
from storage.ledger import SettleEntry
from storage.recovery import recover_dead
from storage.reports import totals
from storage.repricing import reprice
from storage.rollups import HOUR

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

    Opening = Callable[..., OpenEntry]
    CallOf = Callable[..., Call]


def test_usage_and_corrections_add_up_and_stand_apart(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A team's calls, others, one that a crash left, a repricing a month later, and a grant."""
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 1_000_000)])
    yesterday = now - DAY
    for name, team, at in (("q1", "search", now), ("q2", None, now), ("q3", None, yesterday)):
        entry = ledger.open(opening(name, 90_000, team=team), at)
        ledger.settle(SettleEntry(entry, (call(30_000), call(31_000)), latency_s=1), at)
    ledger.open(opening("crashed", 5_000), now)
    ledger.write(lambda s: recover_dead(s, now, 0.0, alive=lambda _replica: False))
    book = PriceBook((DatedPrice("small", Price(Decimal(1))),))
    later = now + timedelta(days=31)
    reprice(ledger, book, later, (now, None))
    ledger.write(lambda s: grant(s, "team:search", 700, now, reference="r1"))
    since, until = yesterday, now + DAY
    for grain in (HOUR, DAY):
        found = ledger.read(lambda s, g=grain: read_charges(s, since, until, g))  # type: ignore[misc] - bound
        whole = ledger.read(lambda s: totals(s, since, until)).cost_nano_usd
        charged = sum(charge.cost_nano_usd for charge in found.usage)
        corrected = sum(each.amount_nano_usd for each in found.corrections)
        assert (charged, corrected) == (3 * 61_000 + 5_000, -82_000)
        assert charged + corrected == whole
        assert {each.month for each in found.corrections} == {month_of(later)}
        assert {each.to.team for each in found.corrections} == {"", "search"}
        by_role = {c.to.role: c.usage.prompt_tokens for c in found.usage if c.start <= now < c.end}
        assert by_role == {"answer": 20, "lost": 0}
        assert found.grants == (GrantCharge("team:search", 700, "r1", now),)


def test_a_request_is_priced_once_however_often_it_was_turned_away(
    ledger: Ledger, opening: Opening, call: CallOf, now: datetime
) -> None:
    """A price per request counts what was answered; the attempts are calls all the same."""
    tried = replace(call(0), status=TURNED_AWAY, error="busy", usage=Usage())
    entry = ledger.open(opening("q", 90_000), now)
    ledger.settle(SettleEntry(entry, (call(30_000), tried, tried), latency_s=1), now)
    (charge,) = ledger.read(lambda s: read_charges(s, now, now + HOUR, HOUR)).usage
    assert (charge.n_calls, charge.usage.n_calls) == (3, 1)


def test_a_time_is_cut_at_hours_and_days_of_utc(now: datetime) -> None:
    """The pieces follow on each other from end to end; those inside are whole."""
    since, until = now - timedelta(minutes=90), now + timedelta(minutes=20)
    found = list(pieces(since, until, HOUR))
    assert [(end - start).seconds // 60 for start, end in found] == [30, 60, 20]
    assert (found[0][0], found[-1][1]) == (since, until)
    days = list(pieces(now, now + 2 * DAY, DAY))
    assert [(end - start) for start, end in days] == [DAY / 2, DAY, DAY / 2]
    assert list(pieces(now, now + HOUR, DAY)) == [(now, now + HOUR)]


@pytest.mark.parametrize("grain", [HOUR, DAY], ids=["hour", "day"])
def test_an_empty_ledger_has_no_charges(ledger: Ledger, now: datetime, grain: timedelta) -> None:
    """Nothing is read where nothing was."""
    found = ledger.read(lambda s: read_charges(s, now, now + DAY, grain))
    assert (found.usage, found.corrections, found.grants) == ((), (), ())
