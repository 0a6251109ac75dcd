"""Budgets to accuracies, and a budget over teams, worked by hand and against a linear program."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from cost_models.allocation import Demand, Shortfall, allocate
from cost_models.curves import BudgetCurve, Point

CURVE = BudgetCurve.of(
    [
        Point(0.01, 0.5, 0.4),
        Point(0.03, 0.55),
        Point(0.02, 0.7, 0.6),
        Point(0.04, 0.8, 0.7),
        Point(0.05, 0.6),
    ]
)
POINTS = st.lists(
    st.builds(
        Point,
        st.integers(1, 1000).map(lambda mill: mill / 1000),
        st.integers(0, 100).map(lambda percent: percent / 100),
    ),
    min_size=1,
    max_size=8,
)


def test_a_curve_keeps_the_corners_of_its_envelope() -> None:
    """What another way, or a mixture of two, does better is no corner."""
    assert [corner.cost_usd for corner in CURVE.corners] == [0.01, 0.02, 0.04]
    assert [step.usd_per_right for step in CURVE.steps] == pytest.approx([0.05, 0.2])


def test_between_corners_lies_their_mixture() -> None:
    """With its bound; below the cheapest way lies nothing, beyond the best one nothing more."""
    half = CURVE.at(0.03)
    assert half is not None
    assert (half.accuracy, half.bound) == (pytest.approx(0.75), pytest.approx(0.65))
    assert CURVE.at(0.009) is None
    assert CURVE.at(9.0) == CURVE.corners[-1]
    assert CURVE.cost_of(0.75) == pytest.approx(0.03)
    assert CURVE.cost_of(0.1) == 0.01
    assert CURVE.cost_of(0.9) is None
    assert CURVE.usd_per_right_at(0.03) == pytest.approx(0.2)
    assert CURVE.usd_per_right_at(0.04) is None


def test_prices_that_halve_halve_what_an_accuracy_costs() -> None:
    """Accuracies stay."""
    assert CURVE.repriced(0.5).cost_of(0.75) == pytest.approx(0.015)


@given(POINTS)
def test_an_envelope_is_concave_and_above_every_point(points: list[Point]) -> None:
    """Each step is dearer per right answer than the one before."""
    curve = BudgetCurve.of(points)
    prices = [step.usd_per_right for step in curve.steps]
    assert prices == sorted(prices)
    for point in points:
        reached = curve.at(point.cost_usd)
        assert reached is not None
        assert reached.accuracy >= point.accuracy - 1e-9


def test_no_point_is_no_curve() -> None:
    """A clear error."""
    with pytest.raises(ValueError, match="at least one point"):
        BudgetCurve.of([])


def test_a_budget_goes_first_where_a_right_answer_is_cheapest() -> None:
    """Both teams get the cheap step, then the rest goes on at one marginal price."""
    steep = BudgetCurve.of([Point(0.01, 0.2), Point(0.02, 0.9)])
    shares = allocate(6.0, {"a": Demand(100, CURVE), "b": Demand(100, steep)})
    assert (shares["a"].usd, shares["b"].usd) == (pytest.approx(4.0), pytest.approx(2.0))
    assert shares["a"].accuracy == pytest.approx(0.8)
    assert shares["b"].n_right == pytest.approx(90)
    less = allocate(4.5, {"a": Demand(100, CURVE), "b": Demand(100, steep)})
    assert (less["a"].usd, less["b"].usd) == (pytest.approx(2.5), pytest.approx(2.0))
    assert less["a"].usd_per_right == pytest.approx(0.2)
    assert less["b"].usd_per_right is None


def test_what_nobody_can_use_is_left() -> None:
    """A budget beyond the ends of all curves."""
    shares = allocate(100.0, {"a": Demand(100, CURVE)})
    assert shares["a"].usd == pytest.approx(4.0)


def test_an_accuracy_that_is_owed_comes_first() -> None:
    """And is refused, with what it would take, where the budget does not pay for it."""
    steep = BudgetCurve.of([Point(0.01, 0.2), Point(0.02, 0.9)])
    owed = {"a": Demand(100, CURVE, 0.8), "b": Demand(100, steep)}
    assert allocate(5.0, owed)["a"].accuracy == pytest.approx(0.8)
    with pytest.raises(Shortfall) as caught:
        allocate(4.9, owed)
    assert caught.value.needed_usd == pytest.approx(5.0)
    with pytest.raises(Shortfall) as caught:
        allocate(5.0, {"a": Demand(100, CURVE, 0.95)})
    assert caught.value.team == "a"


@given(POINTS, POINTS, st.integers(0, 150).map(lambda cents: cents / 100))
def test_no_linear_program_shares_out_better(
    ones: list[Point], others: list[Point], extra: float
) -> None:
    """Mixtures of the recorded points under one budget, solved by HiGHS."""
    demands = {"a": Demand(3, BudgetCurve.of(ones)), "b": Demand(5, BudgetCurve.of(others))}
    least = sum(d.n_queries * d.curve.least_usd for d in demands.values())
    budget = least + extra
    reached = sum(share.n_right for share in allocate(budget, demands).values())
    n = [3.0] * len(ones) + [5.0] * len(others)
    points = [*ones, *others]
    solved = linprog(
        [-k * p.accuracy for k, p in zip(n, points, strict=True)],
        A_ub=[[k * p.cost_usd for k, p in zip(n, points, strict=True)]],
        b_ub=[budget],
        A_eq=[
            [1.0] * len(ones) + [0.0] * len(others),
            [0.0] * len(ones) + [1.0] * len(others),
        ],
        b_eq=[1.0, 1.0],
    )
    assert solved.success
    assert reached == pytest.approx(-solved.fun, abs=1e-6)
    assert np.isfinite(reached)
