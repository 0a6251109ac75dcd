"""Values from logs are right on average, and their intervals cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from planted import ARMS, P_RIGHT, planted

from policies.errors import OutcomeError
from policies.offpolicy import Log, doubly_robust, robust_difference, snips

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


def test_the_interval_of_a_difference_covers_it_and_is_narrower_than_two_intervals() -> None:
    """Two policies that agree on most queries are told apart by those on which they do not."""
    full = planted(300, seed=4)
    quality = full.quality_matrix()[:, [full.arms.index(arm) for arm in ARMS]]
    kinds = np.arange(300) % 3
    predicted = np.array([[p[arm] for arm in ARMS] for p in P_RIGHT.values()])[kinds]
    new, old = (np.full((300, 3), 0.02 / 3) for _ in range(2))
    new[np.arange(300), predicted.argmax(axis=1)] += 0.98
    old[np.arange(300), np.where(kinds == 2, 1, predicted.argmax(axis=1))] += 0.98
    truth = float(((new - old) * quality).sum(axis=1).mean())
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(N_LOGS):
        query, arm = rng.integers(0, 300, 400), rng.integers(0, 3, 400)
        log = Log(arm, np.full(400, 1 / 3), quality[query, arm])
        p = predicted[query, arm]
        args = (predicted[query], p * (1 - p), 0.0)
        gain = robust_difference(log, new[query], old[query], *args)
        covered += gain.low <= truth <= gain.high
        alone = [doubly_robust(log, which[query], args[0]) for which in (new, old)]
        assert gain.estimate == pytest.approx(alone[0].estimate - alone[1].estimate)
        assert gain.high - gain.low < sum(value.high - value.low for value in alone)
        assert gain.effective_n < min(value.effective_n for value in alone)
    assert covered / N_LOGS >= 0.93


def test_a_policy_against_the_log_itself_by_hand() -> None:
    """Before: the mean reward, 0.5. After: always arm 1, which is always right."""
    arm = np.array([0, 1] * 10)
    log = Log(arm, np.full(20, 0.5), arm.astype(float))
    new = np.tile([0.0, 1.0], (20, 1))
    nothing = np.zeros((20, 2))
    gain = robust_difference(log, new, None, nothing, np.zeros(20), 0.0)
    assert gain.estimate == pytest.approx(0.5)
    assert gain.low < 0.5 < gain.high


def test_policies_that_decide_alike_cannot_be_told_apart() -> None:
    """No decision speaks for either."""
    log = Log(np.array([0, 1] * 10), np.full(20, 0.5), np.ones(20))
    same = np.full((20, 2), 0.5)
    gain = robust_difference(log, same, same, same, np.zeros(20), 0.0)
    assert (gain.estimate, gain.low, gain.high) == (0.0, -np.inf, np.inf)


def test_a_move_to_arms_that_the_log_hardly_picked_is_not_taken_on_trust() -> None:
    """All hundred decisions are for arm 0, and nothing speaks against a prediction for arm 1."""
    log = Log(np.zeros(100, dtype=np.intp), np.full(100, 0.97), np.tile([0.0, 1.0], 50))
    new = np.tile([0.5, 0.5], (100, 1))
    predicted = np.tile([0.5, 0.9], (100, 1))
    trusting, wary = (
        robust_difference(log, new, None, predicted, np.full(100, 0.25), unseen)
        for unseen in (0.0, 0.25)
    )
    assert trusting.low > 0
    assert wary.low < 0
    assert trusting.estimate == wary.estimate


def test_a_difference_needs_choices() -> None:
    """Where an arm was certain the others are unknown for good."""
    log = Log(np.zeros(5, dtype=np.intp), np.ones(5), np.ones(5))
    half = np.full((5, 2), 0.5)
    with pytest.raises(OutcomeError, match="propensity 1 was none"):
        robust_difference(log, half, None, half, np.zeros(5), 0.25)
