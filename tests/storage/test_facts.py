"""The facts of a period add up in every dimension, equal every other report, and find the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import event

from cost_models.savings import Savings
from cost_models.types import Arm
from policies.synthetic import World
from policies.synthetic_traffic import day_of_traffic
from router.jobs.simulate import question_bank, simulate
from storage.bridges import read_bridge
from storage.facts import Asked, read_facts
from storage.ledger import SettleEntry
from storage.marks import mark
from storage.measured import Refused
from storage.reports import parts, totals, totals_by_arm

if TYPE_CHECKING:
    from collections.abc import Callable

    from storage.facts import PeriodFacts
    from storage.ledger import Call, OpenEntry
    from storage.store import Ledger

WORLD = World(date(2026, 8, 3), days=3, requests_per_day=500, seed=8, epsilon=0.5)
START = datetime(2026, 8, 3, tzinfo=UTC)
END = START + timedelta(days=WORLD.days)
MOST_STATEMENTS = 8


@pytest.fixture
def simulated(ledger: Ledger) -> Ledger:
    """Fill a ledger with three days, on each kind of database."""
    simulate(ledger, WORLD)
    return ledger


def facts_of(ledger: Ledger, asked: Asked) -> PeriodFacts:
    """Read the facts."""
    return ledger.read(lambda session: read_facts(session, asked))


def check_sums(ledger: Ledger, facts: PeriodFacts) -> None:
    """Hold every dimension against the whole, and the whole against the other reports."""
    since, until = facts.asked.since, facts.asked.until
    whole = ledger.read(lambda session: totals(session, since, until))
    cost = facts.whole.cost_nano_usd
    assert cost == whole.cost_nano_usd
    assert facts.whole.n_closed + facts.whole.n_open == whole.n_entries
    assert (facts.n_requests, facts.n_refused) == (whole.n_requests, whole.n_refused)
    for dimension, slices in facts.by.items():
        assert sum(part.cost_nano_usd or 0 for part in slices) == cost, dimension
        for name in ("n_closed", "n_failed", "n_in_doubt", "n_answered", "prompt_tokens"):
            assert sum(getattr(part, name) for part in slices) == getattr(facts.whole, name)
        assert sum(part.grades.n for part in slices) == facts.whole.grades.n
    assert sum(day.cost_nano_usd for day in facts.days) == cost
    for split in (facts.roles, facts.providers, facts.called_models, facts.compute):
        assert sum(split.values()) == cost
    by_role = ledger.read(lambda session: parts(session, "role", since, until))
    assert facts.roles == {part.name: part.cost_nano_usd for part in by_role}
    arms = ledger.read(lambda session: totals_by_arm(session, since, until))
    found = {part.name: part.cost_nano_usd for part in facts.by["arm"]}
    assert found == {str(total.arm): total.cost_nano_usd for total in arms}


def test_it_adds_up_in_every_dimension_zone_and_however_far_behind_the_rollups_are(
    simulated: Ledger,
) -> None:
    """Zones half an hour off, odd bounds, hours that are rolled up and hours that are not."""
    odd = START + timedelta(hours=7, minutes=13)
    periods = [(START, END), (odd, END - timedelta(minutes=1)), (odd, odd + timedelta(minutes=9))]
    zones = ("UTC", "Asia/Kolkata", "America/St_Johns")
    asked = [Asked(a, b, zone) for (a, b), zone in zip(periods, zones, strict=True)]
    asked.append(Asked(START, END, "Asia/Kolkata"))
    before = [facts_of(simulated, one) for one in asked]
    for facts in before:
        check_sums(simulated, facts)
    assert [day.day.isoformat() for day in before[3].days] == [
        "2026-08-03",
        "2026-08-04",
        "2026-08-05",
        "2026-08-06",
    ]
    assert [day.complete for day in before[3].days] == [False, True, True, False]
    simulated.write(
        lambda session: mark(session, [START + timedelta(hours=h) for h in range(0, 72, 5)])
    )
    for one, facts in zip(asked, before, strict=True):
        behind = facts_of(simulated, one)
        assert behind.days == facts.days
        assert behind.whole.cost_nano_usd == facts.whole.cost_nano_usd
        check_sums(simulated, behind)


def test_it_takes_few_statements_and_its_document_is_json(simulated: Ledger) -> None:
    """Eight statements at most; the twin survives a round trip and has no NaN or infinity."""
    said: list[str] = []
    event.listen(
        simulated.engine, "before_cursor_execute", lambda *given: said.append(str(given[2]))
    )
    facts = facts_of(simulated, Asked(START, END, target=0.7))
    assert sum("SELECT" in statement for statement in said) <= MOST_STATEMENTS
    document = facts.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False))["since"] == START.isoformat()
    assert document["simulated"]["seed"] == WORLD.seed
    assert facts_of(simulated, Asked(START, END, target=0.7)).to_dict() == document


def test_it_finds_what_is_true_of_the_world(sqlite_ledger: Ledger) -> None:
    """Accuracy, cost of a right answer and savings: the truth is in each interval."""
    world = replace(WORLD, days=14, requests_per_day=400)
    simulate(sqlite_ledger, world)
    end = START + timedelta(days=world.days)
    asked = Asked(START, end, forecast_to=end + timedelta(days=7))
    facts = facts_of(sqlite_ledger, asked)
    bank = np.array(question_bank(world.seed).difficulties)
    traffic = [day_of_traffic(world, day, bank) for day in range(world.days)]
    right = sum(int(t.correct[np.arange(len(t.arm)), t.arm][t.answered].sum()) for t in traffic)
    answered = sum(int(t.answered.sum()) for t in traffic)
    assert facts.whole.n_answered == answered
    found, each = facts.whole.accuracy, facts.whole.usd_per_correct
    assert found is not None
    assert each is not None
    assert found.low <= right / answered <= found.high
    spent = sum(int(t.charged.sum()) for t in traffic) / 1e9
    assert each.low <= spent / right <= each.high
    assert facts.baseline == world.baseline
    assert isinstance(facts.savings, Savings)
    number = world.index(world.baseline)
    free = [~t.pinned & ~t.refused for t in traffic]
    would = sum(int(t.cost[f, number].sum()) for t, f in zip(traffic, free, strict=True)) / 1e9
    paid = sum(int(t.charged[f].sum()) for t, f in zip(traffic, free, strict=True)) / 1e9
    assert facts.savings.spent_usd == pytest.approx(paid)
    assert facts.savings.saved_usd.low <= would - paid <= facts.savings.saved_usd.high
    assert isinstance(facts.estimated_savings, Savings)
    assert not facts.estimated_savings.measured
    assert len(facts.frontier) > 2
    assert facts.forecast is not None
    assert not isinstance(facts.forecast, Refused)
    assert len(facts.forecast.daily) == 7


def test_a_change_closes_and_a_price_cut_is_told_apart(sqlite_ledger: Ledger) -> None:
    """From the days before the cut of prices to those after it, prices took money off."""
    world = replace(WORLD, days=8, requests_per_day=300)
    simulate(sqlite_ledger, world)
    cut = START + timedelta(days=world.days // 2)
    end = cut + timedelta(days=2)
    old, new = (START, cut), (cut, end)
    change = sqlite_ledger.read(lambda session: read_bridge(session, old, new, world.prices))
    spent = [
        sqlite_ledger.read(lambda session, p=p: totals(session, *p)).cost_nano_usd
        for p in (old, new)
    ]
    assert [change.before, change.after] == spent
    assert sum(change.parts.values()) == spent[1] - spent[0]
    assert change.prices is not None
    assert change.prices < 0
    unpriced = sqlite_ledger.read(lambda session: read_bridge(session, old, new))
    assert unpriced.prices is None
    assert unpriced.usage == change.usage + change.prices


def test_an_open_entry_has_no_cost_and_nothing_is_claimed_of_little(
    ledger: Ledger, opening: Callable[..., OpenEntry], call: Callable[[int], Call]
) -> None:
    """A cost that is not known is None, never 0; savings and accuracy are refused."""
    asked = Asked(START, END, forecast_to=END + timedelta(days=1))
    nothing = facts_of(ledger, asked)
    assert nothing.whole.cost_nano_usd is None
    assert nothing.to_dict()["whole"]["cost_nano_usd"] is None
    entry_id = ledger.open(opening("r1", 1000), START)
    waiting = facts_of(ledger, asked)
    assert (waiting.whole.n_open, waiting.whole.cost_nano_usd) == (1, None)
    ledger.settle(SettleEntry(entry_id, (call(700),), 0.1), START + timedelta(hours=1))
    settled = facts_of(ledger, asked)
    assert (settled.whole.n_open, settled.whole.cost_nano_usd) == (0, 700)
    assert settled.whole.accuracy is None
    assert settled.whole.usd_per_correct is None
    assert isinstance(settled.savings, Refused)
    assert isinstance(settled.forecast, Refused)
    assert settled.coverage.n_tagged == 0
    chosen = facts_of(ledger, replace(asked, baseline=Arm("small", "direct")))
    assert isinstance(chosen.savings, Refused)
    assert "30 are needed" in chosen.savings.reason


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    """So is a zone that nobody knows."""
    with pytest.raises(ValueError, match="ends after it begins"):
        Asked(END, START)
    with pytest.raises(ValueError, match="no time zone"):
        Asked(START, END, "Mars/Olympus")
