"""Values from logs are right on average, and their intervals cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from planted import ARMS, P_RIGHT, planted

from policies.errors import OutcomeError
from policies.offpolicy import Log, doubly_robust, snips

N_LOGS = 300


def test_two_decisions_by_hand() -> None:
    """Weights 2 and .5 on rewards 1 and 0: SNIPS 2 / 2.5; effective size 2.5**2 / 4.25."""
    log = Log(np.array([0, 1]), np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    probability = np.array([[1.0, 0.0], [0.75, 0.25]])
    value = snips(log, probability)
    assert value.estimate == pytest.approx(0.8)
    assert value.effective_n == pytest.approx(2.5**2 / 4.25)
    assert (value.low, value.high) == (-np.inf, np.inf)
    predicted = np.array([[0.6, 0.1], [0.4, 0.2]])
    robust = doubly_robust(log, probability, predicted)
    direct = [0.6, 0.75 * 0.4 + 0.25 * 0.2]
    assert robust.estimate == pytest.approx(
        ((direct[0] + 2 * (1 - 0.6)) + (direct[1] + 0.5 * (0 - 0.2))) / 2
    )


def test_the_logging_policy_itself_is_valued_by_the_plain_mean() -> None:
    """Equal weights: the mean reward, and all of the log counts."""
    rng = np.random.default_rng(0)
    probability = rng.dirichlet([1.0, 2.0, 3.0], size=500)
    arm = np.array([rng.choice(3, p=p) for p in probability])
    reward = rng.random(500)
    log = Log(arm, probability[np.arange(500), arm], reward)
    value = snips(log, probability)
    assert value.estimate == pytest.approx(reward.mean())
    assert value.effective_n == pytest.approx(500)
    error = reward.std(ddof=1) / np.sqrt(500)
    assert value.high - value.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_a_constant_prediction_error_cancels_in_the_doubly_robust_value() -> None:
    """With perfect predictions there is nothing left to weigh: no spread but that of queries."""
    probability = np.tile([0.2, 0.8], (100, 1))
    predicted = np.tile([0.3, 0.7], (100, 1))
    arm = np.arange(100) % 2
    log = Log(arm, np.full(100, 0.5), predicted[np.arange(100), arm])
    value = doubly_robust(log, probability, predicted)
    assert value.estimate == pytest.approx(0.2 * 0.3 + 0.8 * 0.7)
    assert value.high - value.low == pytest.approx(0.0, abs=1e-12)


def test_intervals_cover_the_truth_in_simulated_logs() -> None:
    """300 logs of a full matrix of outcomes, epsilon-greedy: at least 93 % are covered by both.

    Queries are drawn from the matrix, so that the truth is the mean over all of it.
    """
    full = planted(300, seed=4)
    quality = full.quality_matrix()[:, [full.arms.index(arm) for arm in ARMS]]
    kinds = np.arange(300) % 3
    predicted = np.array([[p[arm] for arm in ARMS] for p in P_RIGHT.values()])[kinds]
    greedy = predicted.argmax(axis=1)
    target = np.full((300, 3), 0.02 / 3)
    target[np.arange(300), greedy] += 0.98
    logging = np.full((300, 3), 0.3 / 3)
    logging[:, 1] += 0.7
    truth = float((target * quality).sum(axis=1).mean())
    rng = np.random.default_rng(5)
    covered = {"snips": 0, "robust": 0}
    estimates = []
    for _ in range(N_LOGS):
        query = rng.integers(0, 300, 400)
        arm = (logging[query].cumsum(axis=1) < rng.random((400, 1))).sum(axis=1)
        log = Log(arm, logging[query, arm], quality[query, arm])
        plain = snips(log, target[query])
        robust = doubly_robust(log, target[query], predicted[query])
        covered["snips"] += plain.low <= truth <= plain.high
        covered["robust"] += robust.low <= truth <= robust.high
        estimates.append(robust.estimate)
        assert plain.effective_n < 400
        assert plain.high - plain.low < 0.3
    assert covered["snips"] / N_LOGS >= 0.93
    assert covered["robust"] / N_LOGS >= 0.93
    assert np.mean(estimates) == pytest.approx(truth, abs=0.01)


def test_a_policy_that_the_log_never_followed_has_no_value() -> None:
    """Nothing is known, and said so."""
    log = Log(np.zeros(5, dtype=np.intp), np.ones(5), np.ones(5))
    value = snips(log, np.tile([0.0, 1.0], (5, 1)))
    assert np.isnan(value.estimate)
    assert (value.low, value.high, value.effective_n) == (-np.inf, np.inf, 0.0)


@pytest.mark.parametrize(
    ("propensity", "reward", "problem"),
    [
        pytest.param([0.0, 0.5], [1.0, 1.0], "propensity", id="no propensity"),
        pytest.param([0.5, 1.5], [1.0, 1.0], "propensity", id="above one"),
        pytest.param([0.5, 0.5], [1.0, np.nan], "reward", id="nobody graded"),
        pytest.param([], [], "no graded decision", id="empty"),
    ],
)
def test_logs_that_cannot_be_used_are_refused(
    propensity: list[float], reward: list[float], problem: str
) -> None:
    """The message says what is wrong."""
    with pytest.raises(OutcomeError, match=problem):
        Log(np.zeros(len(reward), dtype=np.intp), np.array(propensity), np.array(reward))


def test_probabilities_must_add_up() -> None:
    """A policy that leaves some queries out cannot be valued on them."""
    log = Log(np.array([0]), np.array([1.0]), np.array([1.0]))
    with pytest.raises(OutcomeError, match="add up to 1"):
        snips(log, np.array([[0.5, 0.4]]))
