"""Which policy serves: measured on queries that neither was fitted on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from planted import ARMS, LARGE, SMALL, planted

from policies.assessment import assess
from policies.cross_validation import CrossValidation, Parameters
from policies.group_relative import GroupRelativePolicy
from policies.outcomes import OutcomeTable
from policies.selection import Contest, CrossFitted, compete
from policies.training import Training, train
from policies.tuning import Goal
from policies.types import PolicyKind
from policies.utility import UtilityPolicy

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TABLE = planted(90)
GOAL = Goal(shadow_price_per_usd=5.0)
RULE = UtilityPolicy(5.0, LARGE, epsilon=0.0)


def trained(kind: PolicyKind, table: OutcomeTable = TABLE, goal: Goal = GOAL) -> Any:  # noqa: ANN401 - a fitted policy
    """Fit in one trial."""
    return train(table, Training(goal, trials=1, kind=kind), created_at=NOW)


@cache
def group_relative() -> Any:  # noqa: ANN401 - a fitted policy
    """Fit the group-relative policy once."""
    return trained(PolicyKind.GROUP_RELATIVE)


def cross_validation(table: OutcomeTable) -> CrossValidation:
    """Cut outcomes into folds."""
    return CrossValidation(
        table.queries, table.quality_matrix(), table.matrix("cost_usd"), table.arms
    )


def test_a_group_relative_policy_is_fitted_judged_and_told() -> None:
    """It keeps up with the utility policy on fresh queries, which is as good as can be here."""
    fitted, plain = group_relative(), trained(PolicyKind.UTILITY)
    assert isinstance(fitted.policy, GroupRelativePolicy)
    assert (fitted.manifest["policy_kind"], plain.manifest["policy_kind"]) == (
        "group-relative",
        "utility",
    )
    assert fitted.manifest["shadow_price_per_usd"] == 5.0
    fresh = planted(120, seed=8)
    found, before = assess(fitted, fresh), assess(plain, fresh)
    assert found["policy"]["accuracy"] == pytest.approx(before["policy"]["accuracy"], abs=0.03)
    assert found["aiq"] == pytest.approx(before["aiq"], abs=0.03)
    costs = [point["cost_usd_per_query"] for point in found["frontier"]]
    assert len(costs) >= 40
    assert min(costs) == pytest.approx(found["baselines"]["cheapest"]["cost_usd_per_query"])
    assert max(costs) > 5 * min(costs)
    shares = fitted.manifest["metrics"]["policy"]["arm_shares"]
    assert min(shares.values()) > 0.2


def test_row_order_does_not_matter_and_seeds_repeat() -> None:
    """The same outcomes in another order give the same policy."""
    turned = OutcomeTable.from_rows(list(TABLE.rows())[::-1], TABLE.source)
    found = trained(PolicyKind.GROUP_RELATIVE, turned)
    weights = [fitted.policy.correction.weights for fitted in (found, group_relative())]
    places = [list(fitted.policy.correction.arms) for fitted in (found, group_relative())]
    order = [places[0].index(arm) for arm in places[1]]
    np.testing.assert_allclose(weights[0][:, :, order], weights[1], atol=1e-8)


def test_out_of_fold_nothing_is_known_of_a_query() -> None:
    """What is learned for a fold does not change with the outcomes of its own queries.

    They reach it only through the predictions of other folds, by which it starts.
    """
    data = cross_validation(TABLE)
    fold = data.folds(Parameters())[0]
    turned = data.quality.copy()
    turned[fold.test] = 1.0 - turned[fold.test]
    other = CrossValidation(data.texts, turned, data.cost_usd, data.arms)
    weights = []
    for cut in (data, other):
        cut.predict(Parameters())[:] = 0.5
        weights.append(CrossFitted.of(cut, Parameters(), RULE).parts[0][2].weights)
    np.testing.assert_array_equal(weights[0], weights[1])


def contest(utility: UtilityPolicy) -> Contest:
    """Let both policies compete on the planted outcomes."""
    found = compete(cross_validation(TABLE), Parameters(), utility, RULE, 5.0)
    assert found is not None
    return found


def test_the_higher_score_wins() -> None:
    """The utility rule by itself is as good; kept from two arms, it loses what they are worth."""
    fair = contest(RULE)
    assert fair.n_queries == 90
    assert abs(fair.gain) < 0.05
    assert fair.gain == pytest.approx(fair.group_relative - fair.utility)
    unfair = contest(replace(RULE, left_out=frozenset(ARMS) - {SMALL}))
    assert unfair.winner is PolicyKind.GROUP_RELATIVE
    assert unfair.group_relative == fair.group_relative
    assert unfair.gain > 4 * unfair.gain_error > 0


def test_best_takes_the_winner_and_says_why() -> None:
    """The manifest has both scores; the policy is the one that scored higher."""
    fitted = trained(PolicyKind.BEST)
    told = fitted.manifest["contest"]
    won = told["gain"] > 0
    assert told["n_queries"] == 90
    assert told["shadow_price_per_usd"] == 5.0
    assert isinstance(fitted.policy, GroupRelativePolicy) == won
    assert fitted.manifest["policy_kind"] == ("group-relative" if won else "utility")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"query": "the same"}, id="one query"),
        pytest.param({"model": "one", "strategy": "arm"}, id="one arm"),
        pytest.param({"correct": 0}, id="all wrong"),
        pytest.param({"cost_usd": None}, id="no costs"),
        pytest.param({"cost_usd": 0.5}, id="a constant cost"),
    ],
)
def test_what_tells_nothing_can_be_fitted(changed: dict[str, Any]) -> None:
    """Both are learned and compared; a policy comes out that assesses and adds up."""
    rows = [{**row, **changed} for row in planted(6).rows()]
    distinct = {(row["query"], row["model"], row["strategy"]): row for row in rows}
    table = OutcomeTable.from_rows(list(distinct.values()), "degenerate")
    fitted = trained(PolicyKind.BEST, table, Goal())
    assert sum(assess(fitted, table)["policy"]["arm_shares"].values()) == pytest.approx(1.0)
