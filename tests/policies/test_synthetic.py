"""The made-up world is what it says: propensities, probabilities and potential outcomes hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from cost_models.money import to_nano_usd
from cost_models.types import Usage
from policies.synthetic import World
from policies.synthetic_traffic import FAILURES, day_of_traffic

WORLD = World(date(2026, 8, 3), days=30, requests_per_day=20_000, seed=4)
BANK = np.linspace(0.05, 0.95, 500)


def test_the_same_world_gives_the_same_day_and_another_seed_another() -> None:
    """A day follows from the world, the day and the bank alone."""
    small = replace(WORLD, requests_per_day=200)
    one, same = day_of_traffic(small, 3, BANK), day_of_traffic(small, 3, BANK)
    assert np.array_equal(one.charged, same.charged)
    assert np.array_equal(one.time_s, same.time_s)
    other = day_of_traffic(replace(small, seed=5), 3, BANK)
    assert len(other.arm) != len(one.arm) or not np.array_equal(one.charged, other.charged)


def test_what_is_charged_never_exceeds_what_is_held_also_on_the_bad_day() -> None:
    """No simulated request needs an overshoot."""
    for day in (0, WORLD.incident_day):
        traffic = day_of_traffic(WORLD, day, BANK)
        assert (traffic.charged <= traffic.hold).all()
        assert traffic.in_doubt.any() == (day == WORLD.incident_day)


def test_weighting_by_propensities_recovers_what_the_baseline_would_have_cost() -> None:
    """Mean of cost / propensity over picks of an arm is its mean over all, within 4 sigma."""
    traffic = day_of_traffic(WORLD, 1, BANK)
    free = ~traffic.pinned
    for known in WORLD.arms:
        number = WORLD.index(known.arm)
        would = traffic.cost[free, number].astype(float)
        picked = (traffic.arm[free] == number) / traffic.propensity[free]
        assert abs((picked * would).mean() - would.mean()) < 4 * (picked * would).std() / np.sqrt(
            free.sum()
        )


def test_answers_are_right_as_often_as_the_world_says() -> None:
    """The share of right answers of each arm is its mean probability, less its failures."""
    traffic = day_of_traffic(WORLD, 2, BANK)
    expected = WORLD.probability(traffic.difficulty).mean(axis=0) * (1.0 - FAILURES)
    assert np.abs(traffic.correct.mean(axis=0) - expected).max() < 4 * 0.5 / np.sqrt(
        len(traffic.arm)
    )


@pytest.mark.parametrize("day", [0, 15, 29])
def test_costs_are_those_of_the_price_book_of_the_day(day: int) -> None:
    """A request's cost is its tokens at the prices that the world's own book has for the date."""
    traffic = day_of_traffic(replace(WORLD, requests_per_day=300), day, BANK)
    for number, known in enumerate(WORLD.arms):
        if known.judged:
            continue
        price = WORLD.prices.price(known.arm.model, WORLD.date_of(day))
        for i in np.flatnonzero(~traffic.failed[:, number])[:3]:
            usage = Usage(
                n_calls=1,
                prompt_tokens=int(traffic.prompt[i]),
                cached_prompt_tokens=int(traffic.cached[i]),
                completion_tokens=int(traffic.completion[i, number]),
            )
            cost = known.samples * to_nano_usd(price.cost_usd(usage))
            assert cost == traffic.cost[i, number]


def test_a_world_without_days_or_exploration_is_refused() -> None:
    """What cannot be simulated or learnt from is an error."""
    with pytest.raises(ValueError, match="a day and a request"):
        replace(WORLD, days=0)
    with pytest.raises(ValueError, match="epsilon"):
        replace(WORLD, epsilon=0.0)
