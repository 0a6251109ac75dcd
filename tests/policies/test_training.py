"""A policy fitted on planted outcomes comes close to the one who knows the truth."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from planted import ARMS, BEST, COST_USD, LARGE, P_RIGHT, kind_of, planted

from cost_models.types import Arm, PricedArm
from policies.artifacts import assemble, from_bytes, to_bytes
from policies.base import Forecast, Limits
from policies.cross_validation import CrossValidation, FrontierPoint, Parameters
from policies.evaluation import calibration
from policies.outcomes import OutcomeTable, read_outcomes
from policies.training import Training, budget_mixture, train
from policies.tuning import Goal, Tuned
from policies.utility import Mixture

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PRICE = 5.0
TABLE = planted(180)
FITTED = train(TABLE, Training(Goal(shadow_price_per_usd=PRICE), trials=6), created_at=NOW)
FRESH = planted(150, seed=9)
PRICED = [PricedArm(arm, COST_USD[arm], 0) for arm in ARMS]
RECORDED = Path(os.environ.get("RHEOSTAT_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_fresh_queries_go_to_the_planted_best_arm() -> None:
    """Greedy choices on fresh queries agree with the truth at least 95 times in 100."""
    prediction = FITTED.estimator.predict(FRESH.queries, ARMS)
    costs = np.tile([COST_USD[arm] for arm in ARMS], (len(FRESH.queries), 1))
    forecast = Forecast(ARMS, costs, prediction.quality)
    probability = FITTED.policy.probability(forecast, Limits())
    agreed = [
        ARMS[row.argmax()] == BEST[kind_of(text)]
        for row, text in zip(probability, FRESH.queries, strict=True)
    ]
    assert np.mean(agreed) >= 0.95
    utility = np.array(
        [[P_RIGHT[kind_of(t)][a] - PRICE * COST_USD[a] for a in ARMS] for t in FRESH.queries]
    )
    best_possible = utility.max(axis=1).mean()
    assert (probability * utility).sum(axis=1).mean() > best_possible - 0.03


def test_one_request_is_served_from_text_to_decision() -> None:
    """The three steps of the request path, with an arm that was never fitted on offer."""
    text = FRESH.queries[0]
    offered = [*PRICED, PricedArm(Arm("large", "cot"), 0.03, 0)]
    prediction = FITTED.estimator.predict([text], [priced.arm for priced in offered])
    decision = FITTED.policy.choose(
        Forecast.of(offered, prediction), Limits(), np.random.default_rng(0)
    )
    assert decision.arm == BEST[kind_of(text)]
    assert decision.policy_version == FITTED.version
    assert decision.propensity > 0.9
    assert decision.difficulty is not None


def test_the_manifest_tells_how_the_policy_came_about() -> None:
    """Plain JSON: data, seed, goal, cross-validated figures against every baseline."""
    manifest = json.loads(json.dumps(FITTED.manifest))
    assert manifest["created_at"] == NOW.isoformat()
    assert manifest["goal"] == "shadow_price_per_usd=5"
    assert (manifest["n_queries"], manifest["seed"], manifest["trials"]) == (180, 0, 6)
    metrics = manifest["metrics"]
    assert set(metrics["baselines"]) == {
        "cheapest",
        "largest",
        "best_fixed",
        "random_mix",
        "oracle",
    }
    assert metrics["policy"]["accuracy"] > metrics["baselines"]["best_fixed"]["accuracy"]
    assert metrics["policy"]["cost_usd_per_query"] < 0.02
    assert set(metrics["calibration_by_arm"]) == set(map(str, ARMS))
    assert metrics["calibration"]["log_loss"] < metrics["calibration"]["constant_log_loss"]


def test_equal_tables_and_seeds_give_the_same_policy_whatever_the_row_order() -> None:
    """The data hash and every prediction are the same for shuffled rows."""
    rows = list(planted(60).rows())
    order = np.random.default_rng(1).permutation(len(rows))
    shuffled = OutcomeTable.from_rows([rows[i] for i in order], "planted")
    one, again, two = (
        train(t, Training(trials=2), created_at=NOW) for t in (planted(60), planted(60), shuffled)
    )
    assert one.version == again.version
    assert one.manifest["data_hash"] == two.manifest["data_hash"]
    assert one.policy.shadow_price_per_usd == pytest.approx(two.policy.shadow_price_per_usd)
    predicted = [f.estimator.predict(FRESH.queries[:9], ARMS).quality for f in (one, two)]
    np.testing.assert_allclose(*predicted, atol=1e-6)


def test_an_arm_without_cost_is_fitted_but_not_replayed() -> None:
    """It is listed, never safe, and has predictions all the same."""
    rows = [
        {k: v for k, v in row.items() if k != "cost_usd" or row["model"] == "small"}
        for row in planted(60).rows()
    ]
    fitted = train(OutcomeTable.from_rows(rows), Training(trials=1), created_at=NOW)
    assert fitted.manifest["unpriced_arms"] == [str(LARGE)]
    assert fitted.policy.safe_arm != LARGE
    assert fitted.estimator.predict(["x"], [LARGE]).known.all()


def test_given_costs_replace_the_recorded_ones() -> None:
    """With all arms at one price the most accurate is picked at any shadow price."""
    table = planted(60)
    cost = np.full((60, 3), 0.5)
    fitted = train(table, Training(trials=1), created_at=NOW, cost_of=cost)
    assert fitted.manifest["metrics"]["policy"]["cost_usd_per_query"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(1, 1), (0, 1), (1, 1)], id="three queries"),
        pytest.param([(0, 0)] * 12, id="all wrong"),
        pytest.param([(1,)] * 12, id="one arm, all right"),
        pytest.param([(1, 0)], id="one query"),
    ],
)
def test_degenerate_tables_still_give_a_policy(rows: list[tuple[int, ...]]) -> None:
    """Little or single-class data, at a constant cost of zero: a policy that chooses."""
    table = OutcomeTable.from_rows(
        {
            "query_id": str(i),
            "query": f"question {i}",
            "model": f"m{j}",
            "strategy": "direct",
            "correct": right,
            "cost_usd": 0,
        }
        for i, row in enumerate(rows)
        for j, right in enumerate(row)
    )
    fitted = train(table, Training(trials=2), created_at=NOW)
    priced = [PricedArm(arm, 0.0, 0) for arm in table.arms]
    prediction = fitted.estimator.predict(["question 0"], table.arms)
    decision = fitted.policy.choose(
        Forecast.of(priced, prediction), Limits(), np.random.default_rng(0)
    )
    assert decision.arm in table.arms


@pytest.mark.skipif(not RECORDED.is_dir(), reason="recorded outcomes are not here")
def test_on_recorded_outcomes_predictions_beat_constants() -> None:
    """Mixtral and GPT-4 on GSM8K: cross-validated log loss below the arms' own constants."""
    table = read_outcomes(RECORDED / "routellm.parquet", ["gsm8k"])
    quality = table.quality_matrix()
    data = CrossValidation(table.queries, quality, table.matrix("cost_usd"), table.arms)
    predicted = data.predict(Parameters())
    reports = [calibration(predicted[:, i], quality[:, i]) for i in range(len(table.arms))]
    gained = [report.constant_log_loss - report.log_loss for report in reports]
    assert np.mean(gained) > 0.005
    assert max(report.ece for report in reports) < 0.06


def point(price: float, right: float, cost: float) -> FrontierPoint:
    """Four queries, all alike."""
    return FrontierPoint(price, np.full(4, right), np.full(4, cost))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        pytest.param(2.0, Mixture(0.0, 0.5), id="half way to the dearer point"),
        pytest.param(1.0, None, id="nothing is left"),
        pytest.param(5.0, None, id="nothing dearer"),
        pytest.param(None, None, id="no budget"),
    ],
)
def test_a_budget_between_two_prices_is_used_by_a_mixture(
    budget: float | None, expected: Mixture | None
) -> None:
    """A point of $1 at price 2, one of $3 at price 0: shares by hand."""
    points = (point(0.0, 0.9, 3.0), point(2.0, 0.5, 1.0), point(9.0, 0.1, 0.0))
    tuned = Tuned(
        Parameters(), 0.0 if budget == 5.0 else 2.0, frozenset(), np.zeros((4, 1)), points
    )
    goal = Goal(shadow_price_per_usd=1.0) if budget is None else Goal(None, budget, None)
    assert budget_mixture(goal, tuned) == expected


def test_a_dearer_point_that_is_no_better_is_not_mixed_in() -> None:
    """What the money would buy is nothing."""
    points = (point(0.0, 0.5, 3.0), point(2.0, 0.5, 1.0))
    tuned = Tuned(Parameters(), 2.0, frozenset(), np.zeros((4, 1)), points)
    assert budget_mixture(Goal(None, 2.0, None), tuned) is None


def test_a_mixture_is_kept_with_its_policy() -> None:
    """Through bytes and back."""
    policy = replace(FITTED.policy, mixture=Mixture(0.5, 0.25))
    again = from_bytes(to_bytes(assemble(FITTED.estimator, policy, FITTED.manifest)))
    assert again.policy.mixture == Mixture(0.5, 0.25)
