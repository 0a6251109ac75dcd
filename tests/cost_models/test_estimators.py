"""Every 95 % interval covers what is true in at least 91 % of 300 seeded runs."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from cost_models.accuracy import GradeSums, Standing, accuracy, against_target, lower_bound
from cost_models.errors import NotEnoughDataError
from cost_models.forecast import MIN_DAYS, forecast
from cost_models.savings import SavingsSums, savings
from cost_models.unit_costs import (
    FrontierPoint,
    cost_per_correct,
    fieller,
    frontier,
    marginal_costs,
)

RUNS = 300
FLOOR = 0.91


def sampled(rng: np.random.Generator, n: int) -> tuple[GradeSums, float]:
    """Grade a sample in which hard answers are likelier to be; give its sums and the true mean."""
    hard = rng.uniform(size=n)
    correct = rng.uniform(size=n) < 1.0 - 0.7 * hard
    prob = 0.03 + 0.12 * hard
    picked = rng.uniform(size=n) < prob
    return GradeSums.of(correct[picked], prob[picked]), float(correct.mean())


def test_accuracy_and_cost_per_correct_cover_though_the_sample_is_skewed() -> None:
    """Two-sided intervals hold, and the one-sided bound holds but not always."""
    covered = cost = bounded = 0
    for seed in range(RUNS):
        sums, truth = sampled(np.random.default_rng(seed), 6000)
        found = accuracy(sums)
        each = cost_per_correct(6_000_000_000, 6000, sums)
        assert found is not None
        assert each is not None
        covered += found.low <= truth <= found.high
        cost += each.low <= 0.001 / truth <= each.high
        bounded += lower_bound(sums) <= truth
    assert min(covered, cost) >= FLOOR * RUNS
    assert bounded >= FLOOR * RUNS
    assert bounded < RUNS


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.98])
def test_accuracy_covers_near_its_ends(rate: float) -> None:
    """With few grades of which nearly all are alike the interval still holds."""
    covered = 0
    for seed in range(RUNS):
        rng = np.random.default_rng([7, seed])
        sums = GradeSums.of(rng.uniform(size=60) < rate, rng.uniform(0.2, 1.0, 60))
        found = accuracy(sums)
        assert found is not None
        covered += found.low <= rate <= found.high
    assert covered >= FLOOR * RUNS


def test_a_standing_is_decided_by_one_sided_bounds_and_refused_below_thirty() -> None:
    """Data that do not decide say watch; 29 grades say nothing."""
    right = GradeSums.of(np.r_[np.ones(90), np.zeros(10)], np.ones(100))
    assert against_target(right, 0.8) is Standing.ON_TRACK
    assert against_target(right, 0.9) is Standing.WATCH
    assert against_target(right, 0.97) is Standing.BREACH
    few = GradeSums.of(np.ones(29), np.ones(29))
    assert against_target(few, 0.1) is Standing.NOT_ENOUGH_DATA
    assert accuracy(few) is None
    assert cost_per_correct(10**9, 29, few) is None


def test_sums_add_and_an_all_wrong_sample_has_no_cost_per_correct() -> None:
    """Two halves are the whole; nothing right costs nothing that can be said."""
    q, p = np.array([1.0, 0.0, 0.5]), np.array([0.5, 1.0, 0.1])
    halves = GradeSums.of(q[:1], p[:1]) + GradeSums.of(q[1:], p[1:])
    assert astuple(halves) == pytest.approx(astuple(GradeSums.of(q, p)))
    assert cost_per_correct(10**9, 40, GradeSums.of(np.zeros(40), np.ones(40))) is None


def test_fieller_covers_a_ratio_of_two_uncertain_means() -> None:
    """Also where the lower mean is only three errors from nought."""
    covered = 0
    for seed in range(RUNS):
        rng = np.random.default_rng([11, seed])
        over = rng.normal(0.004, 0.0008)
        under = rng.normal(0.06, 0.02)
        found = fieller(over, under, 0.0008**2, 0.02**2, 0.0, 100)
        covered += found.low <= 0.004 / 0.06 <= found.high
    assert covered >= FLOOR * RUNS


def test_the_frontier_drops_what_is_dominated_and_merges_what_is_not_told_apart() -> None:
    """A dearer action that is no better is no step; two that overlap are one."""

    def point(name: str, cost: float, right: float) -> FrontierPoint:
        return FrontierPoint(name, cost, cost / 100, right, 0.01, 400)

    points = [
        point("small", 0.001, 0.50),
        point("bad", 0.002, 0.45),
        point("near", 0.0011, 0.505),
        point("large", 0.01, 0.80),
    ]
    assert [p.name for p in frontier(points)] == ["small", "near", "large"]
    (step,) = marginal_costs(points)
    assert (step.start, step.end) == ("small", "large")
    assert step.usd_per_correct.value == pytest.approx(0.009 / 0.3)
    assert step.usd_per_correct.low < 0.03 < step.usd_per_correct.high


def traffic(rng: np.random.Generator, clusters: int, bins: int = 3) -> tuple[SavingsSums, float]:
    """Draw decisions in clusters that share a cost; give their sums and the true saving in USD."""
    n = clusters * 40
    cluster = np.repeat(np.arange(clusters), 40)
    bin_of = rng.integers(0, bins, n)
    shared = rng.lognormal(0.0, 0.25, clusters)[cluster]
    base = shared * (1.0 + bin_of) * 1e6 * rng.lognormal(0.0, 0.3, n)
    served = base * rng.uniform(0.3, 1.1, n)
    likely = np.where(bin_of == bins - 1, 0.5, 0.05)
    picked = rng.uniform(size=n) < likely
    cost = np.where(picked, base, served)
    right = rng.uniform(size=n) < 0.8 - 0.15 * bin_of
    graded = rng.uniform(size=n) < 0.5

    def sums(values: np.ndarray) -> np.ndarray:
        out = np.zeros((clusters, bins))
        np.add.at(out, (cluster, bin_of), values)
        return out

    weight = graded / 0.5
    inverse = picked / likely
    return SavingsSums(
        n=sums(np.ones(n)),
        cost=sums(cost),
        weight=sums(weight),
        quality=sums(weight * right),
        picks=sums(picked.astype(float)),
        inverse=sums(inverse),
        inverse_cost=sums(inverse * base),
        inverse_weight=sums(inverse * weight),
        inverse_quality=sums(inverse * weight * right),
        n_graded=int(graded.sum()),
        n_baseline_graded=int((graded & picked).sum()),
    ), float(base.sum() - cost.sum()) / 1e9


def test_savings_and_the_difference_in_accuracy_cover() -> None:
    """Quality does not depend on the arm here, so the true difference is nought."""
    saved = level = 0
    for seed in range(RUNS):
        rng = np.random.default_rng([13, seed])
        sums, truth = traffic(rng, 60)
        found = savings(sums, rng)
        saved += found.saved_usd.low <= truth <= found.saved_usd.high
        assert found.accuracy_difference is not None
        assert found.saved_usd.value <= found.counterfactual_usd.value
        assert found.saved_usd.value == pytest.approx(
            found.counterfactual_usd.value - found.spent_usd
        )
        level += found.accuracy_difference.low <= 0.0 <= found.accuracy_difference.high
    assert saved >= FLOOR * RUNS
    assert level >= FLOOR * RUNS


def test_savings_are_refused_without_enough_picks_or_hours() -> None:
    """A handful of picks is no measurement."""
    rng = np.random.default_rng(1)
    sums, _ = traffic(rng, 8)
    with pytest.raises(NotEnoughDataError, match="hours"):
        savings(sums, rng)
    with pytest.raises(NotEnoughDataError, match="picks"):
        savings(replace(sums, picks=sums.picks / 10), rng)


def spend(rng: np.random.Generator, days: int, drift: float) -> np.ndarray:
    """Draw daily spend: weekends are half, the level wanders, days scatter."""
    level = np.cumsum(rng.normal(0.0, drift, days))
    week = np.where(np.arange(days) % 7 >= 5, 0.5, 1.0)
    return 100.0 * week * np.exp(level + rng.normal(0.0, 0.1, days))


@pytest.mark.parametrize(("days", "drift"), [(21, 0.0), (75, 0.0), (75, 0.03)])
def test_a_forecast_covers_what_is_spent(days: int, drift: float) -> None:
    """Ten days ahead, from three weeks and from eleven, steady and wandering."""
    covered = 0
    for seed in range(RUNS):
        rng = np.random.default_rng([17, seed])
        daily = spend(rng, days + 10, drift)
        found = forecast(daily[:days], 0, 10, rng)
        covered += found.total_usd.low <= daily[days:].sum() <= found.total_usd.high
    assert covered >= FLOOR * RUNS


def test_a_forecast_tells_when_the_money_ends_and_how_wrong_it_was() -> None:
    """With 100 a day and 750 left it ends on the eighth day, surely within ten."""
    rng = np.random.default_rng(3)
    found = forecast(
        np.full(40, 100.0) + rng.normal(0, 1, 40), 0, 10, rng, spent_usd=250.0, limit_usd=1000.0
    )
    assert found.days_left == 8
    assert found.over == 1.0
    assert found.total_usd.value == pytest.approx(1250.0, rel=0.02)
    assert found.backtest_error == pytest.approx(0.0, abs=0.02)
    assert found.backtest_days == 10


def test_a_forecast_is_refused_below_fourteen_days() -> None:
    """The refusal says how many days there are and are needed."""
    with pytest.raises(NotEnoughDataError, match="13 so far, 14") as refused:
        forecast(np.ones(MIN_DAYS - 1), 0, 5, np.random.default_rng(1))
    assert refused.value.need == MIN_DAYS
