"""A simulated ledger is one that a gateway could have left, and says that it is made up."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from policies.synthetic import World
from policies.synthetic_traffic import day_of_traffic
from router.cli.main import app
from router.jobs.simulate import question_bank, simulate
from router.strategies.registry import parse_strategy
from storage.errors import SimulationError
from storage.models import EntryRow, OutcomeRow, RollupChangeRow
from storage.outcomes import read_episodes
from storage.reports import totals, totals_by_arm
from storage.simulation import simulated_facts

if TYPE_CHECKING:
    from pathlib import Path

    from storage.store import Ledger

WORLD = World(date(2026, 7, 30), days=4, requests_per_day=200, seed=3)


def test_it_passes_the_doctor_and_is_the_truth_to_the_nano_usd(ledger: Ledger) -> None:
    """Counters, costs and rollups hold, across a month's end; sums are those of the traffic."""
    done = simulate(ledger, WORLD)
    assert ledger.examine() == []
    bank = np.array(question_bank(WORLD.seed).difficulties)
    days = [day_of_traffic(WORLD, day, bank) for day in range(WORLD.days)]
    whole = ledger.read(totals)
    assert whole.cost_nano_usd == done.cost_nano_usd == sum(int(d.charged.sum()) for d in days)
    assert whole.n_requests == done.n_requests == sum(len(d.arm) for d in days)
    assert whole.n_refused == sum(int(d.refused.sum()) for d in days)
    assert whole.n_in_doubt == sum(int((d.in_doubt | d.lost)[~d.refused].sum()) for d in days) > 0
    for total in ledger.read(totals_by_arm):
        number = WORLD.index(total.arm)
        picked = [(d.arm == number) & ~d.refused for d in days]
        assert total.n_entries == sum(int(p.sum()) for p in picked)
        assert total.cost_nano_usd == sum(
            int(d.charged[p].sum()) for d, p in zip(days, picked, strict=True)
        )
    assert ledger.read(lambda s: s.scalar(select(func.count(OutcomeRow.id)))) == sum(
        int(d.graded.sum()) for d in days
    )
    assert ledger.read(lambda s: s.scalar(select(func.count(RollupChangeRow.id)))) == 0


def test_it_is_marked_and_never_mixed_with_anything(sqlite_ledger: Ledger) -> None:
    """The ledger says what was simulated, its episodes can be learnt from, and once is enough."""
    small = World(date(2026, 8, 3), days=1, requests_per_day=30)
    assert sqlite_ledger.read(simulated_facts) is None
    simulate(sqlite_ledger, small)
    facts = sqlite_ledger.read(simulated_facts)
    assert facts == {"start": "2026-08-03", "days": 1, "requests_per_day": 30, "seed": 0}
    assert sqlite_ledger.read(lambda s: set(s.scalars(select(EntryRow.replica_id).distinct()))) == {
        "simulated"
    }
    episodes = sqlite_ledger.read(lambda s: list(read_episodes(s)))
    assert episodes
    assert all(episode.query.text for episode in episodes)
    with pytest.raises(SimulationError, match="a ledger of its own"):
        simulate(sqlite_ledger, small)


def test_its_arms_are_ones_that_a_gateway_has() -> None:
    """Each strategy is the canonical text of a registered one."""
    for known in WORLD.arms:
        assert str(parse_strategy(known.arm.strategy)) == known.arm.strategy


def test_the_command_writes_it_and_refuses_a_second_time(tmp_path: Path) -> None:
    """``rheostat simulate`` needs no configuration when it is given a ledger."""
    typed = ["simulate", "--days", "2", "--requests-per-day", "20", "--end", "2026-08-05"]
    typed += ["--ledger", f"sqlite:///{tmp_path / 'made.db'}"]
    first = CliRunner().invoke(app, typed)
    assert first.exit_code == 0, first.output
    assert "SIMULATED" in first.output
    second = CliRunner().invoke(app, typed)
    assert second.exit_code == 1
    assert "this ledger has entries" in second.output
