"""A simulated history of some weeks, with known truth: for tests, notebooks and load figures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from policies.synthetic_traffic import day_of_traffic
from router.questions.registry import generate
from storage.simulated_rows import Bank
from storage.simulation import Simulation, begin_simulation, end_simulation, write_traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from policies.synthetic import World
    from storage.store import Ledger

N_QUESTIONS = 1500


def question_bank(seed: int) -> Bank:
    """Make questions of known difficulty, the easiest first."""
    asked = sorted(generate(N_QUESTIONS, seed), key=lambda q: (q.difficulty, q.question_id))
    return Bank(
        texts=tuple(question.text for question in asked),
        kinds=tuple(question.kind.value for question in asked),
        difficulties=tuple(question.difficulty for question in asked),
    )


def simulate(
    ledger: Ledger,
    world: World,
    progress: Callable[[int, Simulation], object] = lambda _day, _done: None,
) -> Simulation:
    """Write the world's history into an empty ledger, a day to a transaction.

    ``progress`` is told of each day that is done. SimulationError where the ledger has entries.
    """
    bank = question_bank(world.seed)
    difficulties = np.array(bank.difficulties)
    budgets = ledger.write(lambda session: begin_simulation(session, world))
    done = Simulation()
    for day in range(world.days):
        traffic = day_of_traffic(world, day, difficulties)
        done += ledger.write(
            partial(write_traffic, world=world, traffic=traffic, bank=bank, budgets=budgets)
        )
        progress(day, done)
    ledger.write(lambda session: end_simulation(session, budgets))
    return done
