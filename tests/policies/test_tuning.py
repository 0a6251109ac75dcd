"""The study serves its goal, is seeded, resumes, and never loses to a fixed arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import optuna
import pytest
from planted import COST_USD, LARGE, P_RIGHT, SMALL, kind_of, planted
from scipy.optimize import linprog

from policies.base import Limits
from policies.cross_validation import CrossValidation, FrontierPoint, Parameters
from policies.errors import OutcomeError
from policies.studies import StudyPlace
from policies.tuning import Goal, select, tune
from policies.utility import UtilityPolicy

if TYPE_CHECKING:
    from cost_models.types import Arm

TABLE = planted(120)
DATA = CrossValidation(
    TABLE.queries, TABLE.quality_matrix(), TABLE.matrix("cost_usd"), TABLE.arms, seed=0
)


def points(*figures: tuple[float, float]) -> list[FrontierPoint]:
    """Frontier points with these (accuracy, cost), of 10 queries each."""
    return [
        FrontierPoint(
            float(i), (np.arange(10) < round(10 * right)).astype(float), np.full(10, cost)
        )
        for i, (right, cost) in enumerate(figures)
    ]


FRONTIER = points((0.9, 10.0), (0.8, 5.0), (0.5, 1.0))
PLAIN = points((0.8, 6.0))[0]


@pytest.mark.parametrize(
    ("goal", "picked"),
    [
        pytest.param(Goal(accuracy_target=0.7), 1, id="the cheapest that reaches a target"),
        pytest.param(Goal(accuracy_target=0.79), 0, id="a lower bound has to reach it"),
        pytest.param(Goal(accuracy_target=0.99), 0, id="a target out of reach: the best"),
        pytest.param(Goal(budget_usd_per_query=6), 1, id="the best within a budget"),
        pytest.param(Goal(budget_usd_per_query=0.5), 2, id="a budget out of reach: the cheapest"),
        pytest.param(Goal(shadow_price_per_usd=0.01), 0, id="a low shadow price"),
        pytest.param(Goal(shadow_price_per_usd=1), 2, id="a high shadow price"),
        pytest.param(Goal(), 1, id="balanced keeps the best fixed arm's accuracy"),
    ],
)
def test_the_goal_decides_which_point_is_best(goal: Goal, picked: int) -> None:
    """Three points worked by hand."""
    assert select(goal, FRONTIER, PLAIN)[0] == picked


@pytest.mark.parametrize(
    "goal",
    [
        {"accuracy_target": 0.5, "budget_usd_per_query": 1.0},
        {"accuracy_target": 1.5},
        {"accuracy_target": 0.0},
        {"budget_usd_per_query": 0.0},
        {"shadow_price_per_usd": -1.0},
        {"shadow_price_per_usd": float("inf")},
    ],
)
def test_a_goal_is_one_possible_thing(goal: dict[str, float]) -> None:
    """Two goals at once, or impossible ones, are refused."""
    with pytest.raises(ValueError, match="got"):
        Goal(**goal)


def test_predictions_are_out_of_fold() -> None:
    """Turning one query's outcomes around hardly moves its own prediction.

    Its outcomes reach it only through the calibration, by the models of the other folds.
    """
    quality = TABLE.quality_matrix()
    quality[0] = 1.0 - quality[0]
    turned = CrossValidation(TABLE.queries, quality, TABLE.matrix("cost_usd"), TABLE.arms)
    before, after = (data.predict(Parameters())[0] for data in (DATA, turned))
    np.testing.assert_allclose(before, after, atol=0.03)


def test_equal_seeds_give_equal_studies_and_progress_is_told() -> None:
    """Chance is an argument; the callback hears of every trial."""
    heard: list[tuple[int, int]] = []
    runs = [
        tune(DATA, Goal(), trials=4, seed=3, progress=lambda done, n, _: heard.append((done, n)))
        for _ in range(2)
    ]
    assert runs[0].parameters == runs[1].parameters
    assert runs[0].shadow_price_per_usd == runs[1].shadow_price_per_usd
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2


def test_a_stored_study_goes_on_where_it_was() -> None:
    """Two trials, then up to three: one more is run, in the same storage."""
    storage = optuna.storages.InMemoryStorage()
    heard: list[int] = []
    for trials in (2, 3):
        tune(
            DATA,
            Goal(),
            trials=trials,
            place=StudyPlace(storage, "s"),
            progress=lambda done, *_: heard.append(done),
        )
    assert heard == [1, 2, 3]
    assert len(optuna.load_study(study_name="s", storage=storage).trials) == 3


def test_a_dominated_arm_is_known() -> None:
    """Dearer and worse than another on average."""
    quality = np.array([[1, 0, 1], [0, 0, 1.0]])
    cost = np.array([[1, 2, 9], [1, 2, 9.0]])
    data = CrossValidation(["a", "b"], quality, cost, TABLE.arms)
    assert data.dominated() == {TABLE.arms[1]}
    assert data.best_fixed == 2


def test_where_nothing_can_be_learned_a_fixed_arm_is_kept() -> None:
    """One arm is always right and cheap: the others are left out."""
    quality = np.tile([1.0, 0.0, 0.0], (30, 1))
    cost = np.tile([1.0, 2.0, 3.0], (30, 1))
    data = CrossValidation([f"q{i}" for i in range(30)], quality, cost, TABLE.arms)
    tuned = tune(data, Goal(), trials=2)
    kept = set(TABLE.arms) - tuned.left_out
    assert kept == {TABLE.arms[0]}


@pytest.mark.parametrize("budget", [0.004, 0.008, 0.012])
def test_a_tuned_policy_does_not_lose_to_the_baselines_on_planted_truth(budget: float) -> None:
    """By the planted chances: near the LP that knows them, and not below bisection on the price.

    The bisection is on the predictions of the default parameters; the linear programme is allowed
    as much as the tuned policy spends.
    """
    tuned = tune(DATA, Goal(budget_usd_per_query=budget), trials=4, seed=1)
    truth = np.array(
        [[P_RIGHT[kind_of(text)][arm] for arm in TABLE.arms] for text in TABLE.queries]
    )
    cost = np.array([COST_USD[arm] for arm in TABLE.arms])

    def value(price: float, predicted: np.ndarray, left_out: frozenset[Arm]) -> tuple[float, float]:
        forecast = DATA.forecast(predicted)
        policy = UtilityPolicy(price, TABLE.arms[0], epsilon=0.0, left_out=left_out)
        arm = policy.preferred(forecast, forecast.feasible(Limits()), Limits())
        return float(truth[np.arange(len(arm)), arm].mean()), float(cost[arm].mean())

    low, high = 0.0, 1e5
    for _ in range(60):
        middle = (low + high) / 2
        within = value(middle, DATA.predict(Parameters()), frozenset())[1] <= budget
        low, high = (low, middle) if within else (middle, high)
    bisected = value(high, DATA.predict(Parameters()), frozenset())[0]
    right, spent = value(tuned.shadow_price_per_usd, tuned.predicted, tuned.left_out)
    n = len(truth)
    programme = linprog(
        -truth.ravel() / n,
        A_ub=np.tile(cost, n)[None, :] / n,
        b_ub=[spent],
        A_eq=np.kron(np.eye(n), np.ones((1, len(cost)))),
        b_eq=np.ones(n),
    )
    assert spent <= budget + 1e-12
    assert right >= bisected - 0.01
    assert right >= -programme.fun - 0.02


def test_a_planted_target_is_reached_at_less_than_the_large_arms_cost() -> None:
    """Accuracy 0.75 needs the large arm only for hard queries."""
    tuned = tune(DATA, Goal(accuracy_target=0.75), trials=3)
    chosen = [p for p in tuned.frontier if p.shadow_price_per_usd == tuned.shadow_price_per_usd]
    assert chosen[0].accuracy >= 0.75
    assert chosen[0].cost_usd < 0.012


def test_outcomes_without_any_cost_cannot_be_replayed() -> None:
    """The message says what to do."""
    cost = np.full(TABLE.quality_matrix().shape, np.nan)
    with pytest.raises(OutcomeError, match="price the arms"):
        CrossValidation(TABLE.queries, TABLE.quality_matrix(), cost, TABLE.arms)


def test_the_frontier_falls_in_cost_as_the_price_rises() -> None:
    """From the most accurate to the cheapest arm everywhere."""
    frontier = DATA.frontier(DATA.predict(Parameters()), DATA.prices())
    assert len(frontier) >= 40
    assert frontier[-1].cost_usd == pytest.approx(0.001)
    assert frontier[0].accuracy > frontier[-1].accuracy
    assert {SMALL, LARGE} <= set(DATA.arms)


def test_an_arm_tried_on_easy_queries_alone_is_not_the_best_fixed_arm() -> None:
    """Its mean is high because its queries were easy; on all queries another arm does better."""
    quality = TABLE.quality_matrix()
    easy = np.array([text.startswith("What is") for text in TABLE.queries])
    small, large = TABLE.arms.index(SMALL), TABLE.arms.index(LARGE)
    quality[~easy, small] = np.nan
    assert np.nanmean(quality[:, small]) > quality[:, large].mean()
    data = CrossValidation(TABLE.queries, quality, TABLE.matrix("cost_usd"), TABLE.arms, seed=0)
    assert data.arms[data.best_fixed] == LARGE
