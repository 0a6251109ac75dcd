"""The estimator learns what is there, borrows where it knows little, and admits strangeness."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import ARMS, LARGE, ODD, P_RIGHT, SMALL, TEXTS, TOKENS, kind_of, planted
from sklearn.base import clone

from cost_models.types import Arm
from policies.difficulty import DifficultyEstimator, fold_numbers
from policies.errors import OutcomeError
from policies.evaluation import calibration

TABLE = planted(240)
FITTED = DifficultyEstimator().fit(
    TABLE.queries,
    TABLE.quality_matrix(),
    arms=TABLE.arms,
    completion_tokens=TABLE.matrix("completion_tokens"),
    cost_usd=TABLE.matrix("cost_usd"),
)
FRESH = planted(300, seed=1)


def test_probabilities_come_close_to_the_planted_ones() -> None:
    """Fresh queries of each kind get each arm's true probability within 0.15 on average."""
    predicted = FITTED.predict(FRESH.queries, ARMS).quality
    for kind in TEXTS:
        rows = [i for i, text in enumerate(FRESH.queries) if kind_of(text) == kind]
        truth = [P_RIGHT[kind][arm] for arm in ARMS]
        assert predicted[rows].mean(axis=0) == pytest.approx(truth, abs=0.15)


def test_it_beats_each_arms_mean_on_fresh_queries() -> None:
    """Log loss is well below that of always saying an arm's mean."""
    predicted = FITTED.predict(FRESH.queries)
    for i in range(len(ARMS)):
        report = calibration(predicted.quality[:, i], FRESH.quality_matrix()[:, i])
        assert report.log_loss < report.constant_log_loss - 0.1


def test_difficulty_rises_with_the_share_of_arms_that_fail() -> None:
    """Hard queries, where two of three arms fail, are harder than easy ones."""
    difficulty = FITTED.predict(FRESH.queries).difficulty
    kinds = np.array([kind_of(text) for text in FRESH.queries])
    assert difficulty[kinds == "hard"].mean() > difficulty[kinds == "easy"].mean() + 0.3
    assert (difficulty >= 0).all()
    assert (difficulty <= 1).all()


def test_expected_tokens_and_cost_are_those_recorded() -> None:
    """Constant amounts come back within a few percent."""
    predicted = FITTED.predict(FRESH.queries, ARMS)
    assert predicted.completion_tokens is not None
    expected = [TOKENS[arm] for arm in ARMS]
    assert predicted.completion_tokens.mean(axis=0) == pytest.approx(expected, rel=0.1)
    assert predicted.cost_usd is not None
    assert predicted.cost_usd.mean(axis=0) == pytest.approx([0.001, 0.02, 0.002], rel=0.1)


def test_a_query_unlike_anything_seen_is_flagged_and_familiar_ones_are_not() -> None:
    """Fresh queries of known kinds are in distribution, another world is not."""
    assert FITTED.predict(FRESH.queries).in_distribution.mean() > 0.98
    strange = ["SELECT name FROM users WHERE id IN (1, 2);" * 9, "\u4f60\u597d\uff0c\u4e16\u754c"]
    assert not FITTED.predict(strange).in_distribution.any()


def test_an_unknown_arm_borrows_from_its_family_and_says_so() -> None:
    """A new strategy of the large model is expected to do better on hard queries than small's."""
    new = (Arm("large", "cot"), Arm("small", "cot"), Arm("nobody", "knows"), SMALL)
    hard = [text for text in FRESH.queries if kind_of(text) == "hard"]
    predicted = FITTED.predict(hard, new)
    assert predicted.known.tolist() == [False, False, False, True]
    large, small, stranger, _ = predicted.quality.mean(axis=0)
    assert large > stranger > small


def test_offering_fewer_arms_changes_no_prediction() -> None:
    """An arm's figures, and the difficulty, do not depend on what else is offered."""
    every = FITTED.predict(FRESH.queries[:9], ARMS)
    one = FITTED.predict(FRESH.queries[:9], [LARGE])
    np.testing.assert_allclose(one.quality[:, 0], every.quality[:, ARMS.index(LARGE)])
    np.testing.assert_allclose(one.difficulty, every.difficulty)


def test_the_order_of_rows_and_arms_does_not_matter() -> None:
    """A shuffled table fits the same estimator."""
    rng = np.random.default_rng(5)
    rows, columns = rng.permutation(len(TABLE.queries)), [2, 0, 1]
    quality = TABLE.quality_matrix()[rows][:, columns]
    shuffled = DifficultyEstimator().fit(
        [TABLE.queries[i] for i in rows], quality, arms=[TABLE.arms[j] for j in columns]
    )
    one = FITTED.predict(FRESH.queries[:30], ARMS)
    two = shuffled.predict(FRESH.queries[:30], ARMS)
    np.testing.assert_allclose(one.quality, two.quality, atol=1e-6)
    np.testing.assert_array_equal(one.in_distribution, two.in_distribution)


@pytest.mark.parametrize(
    "quality",
    [
        pytest.param(np.zeros((3, 2)), id="three queries, all wrong"),
        pytest.param(np.ones((40, 2)), id="all right"),
        pytest.param(np.eye(1), id="one query, one arm"),
        pytest.param(np.tile([[1.0], [0.0]], (10, 1)), id="one arm"),
        pytest.param(np.full((9, 2), 0.5), id="fractions"),
        pytest.param(np.where(np.eye(8, 3) > 0, 1.0, np.nan), id="mostly unseen"),
        pytest.param(np.tile([1.0, np.nan], (8, 1)), id="an arm never tried"),
    ],
)
def test_degenerate_outcomes_still_give_probabilities(quality: np.ndarray) -> None:
    """Few, single-class or missing outcomes: finite probabilities strictly inside (0, 1)."""
    arms = [Arm(f"m{i}", "direct") for i in range(quality.shape[1])]
    texts = [f"What is {i} plus {i}?" for i in range(len(quality))]
    amounts = np.where(np.isnan(quality), np.nan, 5.0)
    fitted = DifficultyEstimator().fit(texts, quality, arms=arms, completion_tokens=amounts)
    predicted = fitted.predict([*texts, "something else entirely"])
    assert ((predicted.quality > 0) & (predicted.quality < 1)).all()
    assert np.isfinite(predicted.difficulty).all()
    assert predicted.completion_tokens is not None
    assert predicted.completion_tokens[:-1] == pytest.approx(5.0, rel=0.5)


def test_a_hundred_and_fifty_queries_of_noise_stay_near_the_arms_means() -> None:
    """Where texts say nothing, the estimator does not pretend that they do."""
    rng = np.random.default_rng(2)
    texts = [f"Question about {w}" for w in rng.permutation(300)]
    arms = [Arm(f"m{i}", "direct") for i in range(6)]
    quality = (rng.random((300, 6)) < np.linspace(0.2, 0.9, 6)).astype(float)
    fitted = DifficultyEstimator().fit(texts[:150], quality[:150], arms=arms)
    report = calibration(fitted.predict(texts[150:]).quality, quality[150:])
    means = np.tile(quality[:150].mean(axis=0), (150, 1))
    assert report.log_loss < calibration(means, quality[150:]).log_loss + 0.01


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        pytest.param(np.zeros((2, 3)), "shape", id="wrong shape"),
        pytest.param(np.full((2, 2), np.nan), "no outcome", id="nothing observed"),
        pytest.param(np.full((2, 2), 1.5), r"\[0, 1\]", id="out of range"),
    ],
)
def test_unusable_outcomes_are_refused(quality: np.ndarray, said: str) -> None:
    """The message says what is wrong with the outcomes."""
    with pytest.raises(OutcomeError, match=said):
        DifficultyEstimator().fit(["a", "b"], quality, arms=[SMALL, ODD])


def test_an_arm_named_twice_is_refused() -> None:
    """Two columns of one arm would each get half of its outcomes."""
    with pytest.raises(OutcomeError, match="twice"):
        DifficultyEstimator().fit(["a"], np.ones((1, 2)), arms=[SMALL, SMALL])


def test_a_clone_has_the_same_parameters_and_is_unfitted() -> None:
    """Scikit-learn's contract: the constructor only stores."""
    estimator = DifficultyEstimator(n_components=7, own_penalty=3.0)
    copy = clone(estimator).set_params(n_folds=3)
    assert copy.get_params() == {**estimator.get_params(), "n_folds": 3}
    assert not hasattr(clone(FITTED), "arms_")


def test_folds_are_even_and_equal_texts_share_one() -> None:
    """No query is judged by a copy of itself."""
    texts = [f"t{i % 23}" for i in range(100)]
    folds = fold_numbers(texts, 5, seed=0)
    assert len({(text, fold) for text, fold in zip(texts, folds, strict=True)}) == 23
    assert sorted(np.bincount(folds[:23])) == [4, 4, 5, 5, 5]


def test_expected_amounts_are_means_not_medians() -> None:
    """Skewed token counts: the prediction matches the mean (about 1.65), not the median 1."""
    rng = np.random.default_rng(3)
    tokens = 100 * np.exp(rng.normal(size=(400, 1)))
    texts = [f"q {i}" for i in range(400)]
    fitted = DifficultyEstimator().fit(
        texts, np.ones((400, 1)), arms=[SMALL], completion_tokens=tokens
    )
    predicted = fitted.predict(texts).completion_tokens
    assert predicted is not None
    assert predicted.mean() == pytest.approx(100 * math.exp(0.5), rel=0.2)
