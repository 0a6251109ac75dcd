"""Gates keep the error of cheap arms within what was allowed, in tests and in what serves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from planted import LARGE, SMALL, planted
from scipy import stats

from policies.artifacts import from_bytes, to_bytes
from policies.assessment import assess
from policies.base import Forecast, Limits
from policies.certificates import stricter
from policies.gates import CLOSED, score_gate
from policies.guarantee import train_certified
from policies.training import Training
from policies.utility import UtilityPolicy

DELTA = 0.1


def test_a_gate_keeps_its_bound_and_lets_the_easy_half_through() -> None:
    """Errors of 5 % where the score is high and 50 % where it is low, 20 % allowed."""
    rng = np.random.default_rng(2)
    broken, shares = 0, []
    for _ in range(200):
        score = rng.random(600)
        wrong = (rng.random(600) < np.where(score > 0.5, 0.05, 0.5)).astype(float)
        gate = score_gate(score, wrong, 0.2, DELTA)
        shares.append(gate.share)
        if not gate.given:
            continue
        low = max(0.0, 0.5 - gate.threshold)
        truth = (0.5 * 0.05 + low * 0.5) / (0.5 + low) if gate.threshold < 0.5 else 0.05
        broken += truth > 0.2
    assert broken / 200 <= DELTA + 2 * np.sqrt(DELTA * 0.9 / 200)
    assert 0.6 < np.mean(shares) < 0.75


@pytest.mark.parametrize(
    ("score", "wrong", "told"),
    [
        (np.linspace(0, 1, 100), np.ones(100), "would not help"),
        (np.array([0.5, 0.6, 0.7]), np.zeros(3), "more graded queries"),
        (np.zeros(0), np.zeros(0), "would not help"),
    ],
    ids=["all wrong", "too few", "none"],
)
def test_a_gate_is_closed_where_nothing_can_be_promised(
    score: np.ndarray[tuple[int], np.dtype[np.float64]],
    wrong: np.ndarray[tuple[int], np.dtype[np.float64]],
    told: str,
) -> None:
    """It lets nothing through, and says whether more queries would open it."""
    gate = score_gate(score, wrong, 0.05, DELTA)
    assert (gate.given, gate.threshold) == (False, CLOSED)
    assert told in str(gate)


def test_as_many_queries_as_it_says_open_a_gate() -> None:
    """Four errors in a hundred, five allowed: too few; as many as told, with as many errors, do."""
    few = np.zeros(100)
    few[::25] = 1.0
    n = score_gate(np.ones(100), few, 0.05, DELTA).needed_queries
    assert n is not None
    many = np.zeros(n)
    many[: int(0.04 * n)] = 1.0
    assert score_gate(np.ones(n), many, 0.05, DELTA).given


def test_a_policy_sends_nothing_but_the_safe_arm_what_its_gate_holds_back() -> None:
    """Below the gate the safe arm answers, also where a caller's target would take another."""
    forecast = Forecast(
        arms=(SMALL, LARGE),
        cost_usd=np.array([[0.001, 0.02]] * 3),
        quality=np.array([[0.7, 0.9], [0.5, 0.9], [0.95, 0.9]]),
    )
    policy = UtilityPolicy(1000.0, LARGE, epsilon=0.0)
    everything = forecast.feasible(Limits())
    assert policy.preferred(forecast, everything, Limits()).tolist() == [0, 0, 0]
    gated_policy = replace(policy, gate=0.6)
    assert gated_policy.preferred(forecast, everything, Limits()).tolist() == [0, 1, 0]
    assert gated_policy.preferred(forecast, everything, Limits(0.4)).tolist() == [0, 1, 0]
    closed = replace(policy, gate=CLOSED)
    assert closed.preferred(forecast, everything, Limits()).tolist() == [1, 1, 1]
    only_small = np.array([[True, False]] * 3)
    assert closed.preferred(forecast, only_small, Limits()).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="gate"):
        replace(policy, gate=-1.0)


def test_a_fit_with_an_error_allowance_keeps_it_where_it_serves_and_is_stored() -> None:
    """Planted: the small model is right on a third of the queries; the gate lets just those by."""
    table = planted(600, seed=5).of_arms([SMALL, LARGE])
    fitted = train_certified(
        table,
        Training(trials=1),
        None,
        cheap_error=0.2,
        created_at=datetime(2026, 7, 1, tzinfo=UTC),
    )
    again = from_bytes(to_bytes(fitted))
    assert again.policy.gate == fitted.policy.gate
    assert fitted.manifest["gate"]["given"], fitted.manifest["gate_text"]
    document = assess(again, planted(600, seed=6).of_arms([SMALL, LARGE]))
    assert 0.25 < document["cheap"]["share"] < 0.45
    assert document["cheap"]["error"] <= 0.2
    assert len(document["frontier"]) >= 40
    assert min(p["cost_usd_per_query"] for p in document["frontier"]) == pytest.approx(0.001)


def test_equal_scores_go_through_a_gate_together() -> None:
    """With one score for all there is one choice: everybody or nobody."""
    wrong = np.zeros(100)
    wrong[:10] = 1.0
    gate = score_gate(np.ones(100), wrong, 0.2, DELTA)
    assert gate.given
    assert gate.share == 1.0
    assert gate.error == pytest.approx(0.1)
    assert stats.binom.cdf(10, 100, 0.2) <= stricter(DELTA)
