"""The document of an assessment: whole, honest about what is missing, the same in any order."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from planted import ARMS, BEST, COST_USD, P_RIGHT, SMALL, planted

from policies.artifacts import from_bytes, to_bytes
from policies.assessment import Offer, assess, cheapest_reaching, most_accurate_within
from policies.errors import OutcomeError
from policies.guarantee import train_certified
from policies.outcomes import OutcomeTable
from policies.training import Training, screen, train
from policies.tuning import Goal

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TABLE = planted(150)
TRAINING = Training(Goal(shadow_price_per_usd=5.0), trials=2)
FITTED = train(TABLE, TRAINING, created_at=NOW)
FRESH = planted(120, seed=8)
DOCUMENT = assess(FITTED, FRESH)


def rows_of(table: OutcomeTable) -> list[dict[str, Any]]:
    """Give the rows as mappings that a test may change."""
    return [dict(row) for row in table.rows()]


def test_the_document_has_all_that_was_promised() -> None:
    """Plain JSON with every key, and at least 40 points from the cheapest arm to the best."""
    document = json.loads(json.dumps(DOCUMENT, allow_nan=False))
    assert document["n_queries"] == 120
    assert set(document["baselines"]) == {
        "cheapest",
        "largest",
        "best_fixed",
        "random_mix",
        "oracle",
    }
    assert set(document["calibration"]) == set(map(str, ARMS))
    assert {"brier", "ece", "auc"} <= set(document["calibration"][str(SMALL)])
    frontier = document["frontier"]
    assert len(frontier) >= 40
    costs = [point["cost_usd_per_query"] for point in frontier]
    assert min(costs) == pytest.approx(document["baselines"]["cheapest"]["cost_usd_per_query"])
    best = document["baselines"]["best_fixed"]["accuracy"]
    assert max(point["accuracy"] for point in frontier) > best
    assert document["apgr"] is None
    assert not document["accuracy_only"]


def test_far_neighbours_of_the_frontier_are_mixed() -> None:
    """Each mixture lies on the line between the two points that it mixes, share by share."""
    points = DOCUMENT["frontier"]
    pure = {point["shadow_price"]: point for point in points if "mixture" not in point}
    mixed = [point for point in points if "mixture" in point]
    assert mixed
    for point in mixed:
        one = pure[point["shadow_price"]]
        other = pure[point["mixture"]["shadow_price_per_usd"]]
        share = point["mixture"]["share"]
        for name in ("accuracy", "cost_usd_per_query"):
            assert point[name] == pytest.approx((1 - share) * one[name] + share * other[name])
    costs = sorted(point["cost_usd_per_query"] for point in points)
    assert np.diff(costs).max() <= 0.05 * (costs[-1] - costs[0])


def test_the_planted_policy_is_valued_at_what_it_is_worth() -> None:
    """Who knows the kinds answers .933 of them; within four standard errors."""
    truth = np.mean([P_RIGHT[kind][arm] for kind, arm in BEST.items()])
    assert DOCUMENT["policy"]["accuracy"] == pytest.approx(truth, abs=4 * 0.023)
    spent = np.mean([COST_USD[arm] for arm in BEST.values()])
    assert DOCUMENT["policy"]["cost_usd_per_query"] == pytest.approx(spent, rel=0.15)
    assert DOCUMENT["iso_quality_saving"] > 0.5
    best = DOCUMENT["baselines"]["best_fixed"]
    saved = cheapest_reaching(DOCUMENT, best["accuracy"])
    assert saved is not None
    assert DOCUMENT["iso_quality_saving"] == pytest.approx(1 - saved / best["cost_usd_per_query"])
    assert most_accurate_within(DOCUMENT, 0.0) is None


def test_neither_the_order_of_rows_nor_of_arms_matters() -> None:
    """Shuffled rows, and arms renamed so that they sort the other way, give the same figures."""
    rows = rows_of(FRESH)
    shuffled = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    other = assess(FITTED, OutcomeTable.from_rows(shuffled))
    assert other["policy"]["accuracy"] == pytest.approx(DOCUMENT["policy"]["accuracy"])
    assert other["aiq"] == pytest.approx(DOCUMENT["aiq"])

    def renamed(table: OutcomeTable) -> OutcomeTable:
        names = {"small": "z-small", "large": "a-large"}
        return OutcomeTable.from_rows([{**r, "model": names[r["model"]]} for r in rows_of(table)])

    again = assess(train(renamed(TABLE), TRAINING, created_at=NOW), renamed(FRESH))
    for key in ("accuracy", "cost_usd_per_query"):
        assert again["policy"][key] == pytest.approx(DOCUMENT["policy"][key], abs=1e-9)


def test_two_arms_have_a_gap_to_recover() -> None:
    """Only with exactly two arms on offer; the planted kinds are told apart nearly perfectly."""
    document = assess(FITTED, FRESH, Offer(arms=ARMS[:2]))
    assert document["apgr"] > 0.65
    assert 0 < document["cpt50"] < document["cpt80"] < 0.6


def test_without_any_cost_accuracy_alone_is_judged() -> None:
    """Fit and judge work, no cost is claimed, and two arms have a frontier of shares."""
    rows = [{k: v for k, v in r.items() if k != "cost_usd"} for r in rows_of(TABLE)]
    table = OutcomeTable.from_rows(rows).of_arms(ARMS[:2])
    fitted = train(table, Training(trials=1), created_at=NOW)
    assert fitted.manifest["accuracy_only"]
    document = assess(fitted, table)
    assert document["accuracy_only"]
    assert document["policy"]["cost_usd_per_query"] is None
    assert document["apgr"] > 0.5
    assert len(document["frontier"]) >= 40
    shares = [point["strong_share"] for point in document["frontier"]]
    assert (max(shares), min(shares) < 0.1) == (1.0, True)
    assert document["iso_quality_saving"] is None
    json.dumps(document, allow_nan=False)


def test_an_arm_without_cost_among_priced_ones_is_named_and_left_out() -> None:
    """Its calibration is still told."""
    rows = rows_of(FRESH)
    for row in rows:
        if row["model"] == "large":
            del row["cost_usd"]
    document = assess(FITTED, OutcomeTable.from_rows(rows))
    assert document["unpriced_arms"] == ["large|direct"]
    assert "large|direct" not in document["policy"]["arm_shares"]
    assert "large|direct" in document["calibration"]


def few(n: int, arms: int = 3, **changed: object) -> OutcomeTable:
    """Make degenerate outcomes: the first queries and arms, with some values changed."""
    table = planted(n).of_arms(ARMS[:arms])
    return OutcomeTable.from_rows([{**row, **changed} for row in rows_of(table)])


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(few(30, arms=1), id="one arm"),
        pytest.param(few(30, correct=1), id="one class"),
        pytest.param(few(30, correct=0), id="all wrong"),
        pytest.param(few(3), id="three queries"),
        pytest.param(few(30, cost_usd=0.01), id="one cost for all"),
        pytest.param(few(30, cost_usd=0.0), id="no cost at all"),
    ],
)
def test_degenerate_outcomes_are_fitted_and_judged(table: OutcomeTable) -> None:
    """Nothing fails, and every figure is finite or null."""
    fitted = train(table, Training(trials=1, derived=True), created_at=NOW)
    document = assess(fitted, table)
    json.dumps(document, allow_nan=False)
    assert 0 <= document["policy"]["accuracy"] <= 1


def test_arms_that_nobody_recorded_are_an_error() -> None:
    """An offer without outcomes is refused."""
    with pytest.raises(OutcomeError, match="on offer"):
        assess(FITTED, FRESH, Offer(arms=()))


def test_screening_keeps_the_best_at_any_price() -> None:
    """Of 30 arms on a line, three that are better than it and the dearest survive."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(30):
        cost = 0.001 * 1.2**i
        good = {0: 0.5, 12: 0.9, 29: 0.99}.get(i, 0.3)
        rows += [
            {
                "query_id": f"q{j}",
                "query": f"q{j}",
                "model": f"m{i:02}",
                "strategy": "s",
                "correct": int(rng.random() < good),
                "cost_usd": cost,
            }
            for j in range(100)
        ]
    from policies.matrix import OutcomeMatrix  # noqa: PLC0415 - this test alone

    kept = screen(OutcomeMatrix.of(OutcomeTable.from_rows(rows)), 8)
    assert len(kept) == 8
    assert {"m00", "m12", "m29"} <= {arm.model for arm in kept}


def test_a_certified_policy_carries_its_certificate_through_its_bytes() -> None:
    """Given where it can be, on queries used for nothing else; refused with what is missing."""
    table = planted(400, seed=2)
    training = Training(Goal(accuracy_target=0.8), trials=1)
    fitted = from_bytes(to_bytes(train_certified(table, training, 0.1, created_at=NOW)))
    certificate = fitted.manifest["certificate"]
    assert certificate["given"]
    assert certificate["n_queries"] == 100
    assert fitted.manifest["n_queries"] == 300
    served = assess(fitted, planted(900, seed=7))["policy"]
    assert served["accuracy"] >= 0.8 - 2 * 0.013
    free = OutcomeTable.from_rows([{**row, "cost_usd": None} for row in rows_of(table)])
    unpriced = train_certified(
        free, Training(Goal(accuracy_target=0.5), trials=1), 0.1, created_at=NOW
    )
    assert unpriced.manifest["certificate"]["given"]
    refused = train_certified(
        table, Training(Goal(accuracy_target=0.97), trials=1), 0.1, created_at=NOW
    )
    assert not refused.manifest["certificate"]["given"]
    assert refused.manifest["certificate_text"].startswith("not certified")
