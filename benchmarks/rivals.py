"""Candidates for the estimator, for `benchmarks/candidates.py`: each learns P(right) of every arm.

Those that are not the shipped estimator get the same fair chance: features fitted on the training
queries, and Platt scaling on predictions out of fold (`policies.heads.calibrate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import normalize

from policies.difficulty import DifficultyEstimator, canonical_order, fold_numbers
from policies.encoding import encode
from policies.families import fit_logistic, sigmoid
from policies.features import TextFeatures
from policies.heads import Fold, SuccessHead, calibrate, success_scores
from policies.predictor import with_ones

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.encoding import Encoded

    Floats = NDArray[np.float64]

N_BUCKETS = 4096
INNER_FOLDS = 3
NEIGHBOURS = 50
PSEUDO_OUTCOMES = 10.0
INVERSE_PENALTY = 0.003
RIDGE_WORDS = 10.0
RIDGE_DENSE = 300.0
ABILITY_SWEEPS = 20
SIGNALS = 4
SIGNAL_SPREAD = 2.0
LEAST_SPREAD = 0.05
CLIP = 0.002


class Sample(NamedTuple):
    """What a candidate learns from: n texts with tasks, and quality (n, n_arms), NaN unseen."""

    texts: Sequence[str]
    tasks: Sequence[str]
    quality: Floats
    arms: Sequence[Arm]


class Inputs(NamedTuple):
    """Texts as numbers: the shipped dense features (n, d), and word TF-IDF (n, n_words)."""

    dense: Floats
    words: sparse.csr_array

    def take(self, rows: NDArray[np.intp]) -> Inputs:
        """Pick the texts at ``rows``."""
        return Inputs(self.dense[rows], self.words[rows])


if TYPE_CHECKING:
    Predict = Callable[[Sequence[str], Sequence[str]], Floats]
    Model = Callable[[Inputs], Floats]
    Learn = Callable[[Inputs, Floats], Model]


def arm_means(quality: Floats) -> Floats:
    """Mean quality of each arm, drawn to a half by one outcome; shape (n_arms,)."""
    seen = ~np.isnan(quality)
    return np.asarray((np.nansum(quality, axis=0) + 0.5) / (seen.sum(axis=0) + 1.0))


def constant(sample: Sample) -> Predict:
    """Say each arm's mean."""
    means = arm_means(sample.quality)
    return lambda texts, _: np.tile(means, (len(texts), 1))


def task_means(sample: Sample) -> Predict:
    """Say each arm's mean in the task, drawn to its overall mean by ten outcomes."""
    means = arm_means(sample.quality)
    tasks = np.array(sample.tasks)
    table = {task: _shrunk(sample.quality[tasks == task], means) for task in set(sample.tasks)}
    return lambda _, asked: np.array([table.get(task, means) for task in asked])


def _shrunk(quality: Floats, means: Floats) -> Floats:
    seen = (~np.isnan(quality)).sum(axis=0)
    total = np.nansum(quality, axis=0) + PSEUDO_OUTCOMES * means
    return np.asarray(total / (seen + PSEUDO_OUTCOMES))


def neighbours(train: Inputs, quality: Floats) -> Model:
    """Mean of the 50 nearest by cosine of the dense features, drawn to the arm's mean."""
    unit, means = normalize(train.dense), arm_means(quality)
    seen, known = ~np.isnan(quality), np.nan_to_num(quality)
    count = min(NEIGHBOURS, len(unit))

    def predict(asked: Inputs) -> Floats:
        nearest = np.argpartition(-normalize(asked.dense) @ unit.T, count - 1, axis=1)[:, :count]
        total = known[nearest].sum(axis=1) + PSEUDO_OUTCOMES * means
        return np.asarray(total / (seen[nearest].sum(axis=1) + PSEUDO_OUTCOMES))

    return predict


def _per_arm(train: Inputs, quality: Floats, make: Callable[[], object]) -> Model:
    """Fit one classifier an arm on what was seen of it; its mean where only one class was."""
    means = arm_means(quality)
    fitted = {}
    for arm, column in enumerate(quality.T):
        seen = ~np.isnan(column)
        label = column[seen] > 0.5
        if 0 < label.sum() < len(label):
            fitted[arm] = make().fit(train.dense[seen], label)

    def predict(asked: Inputs) -> Floats:
        found = np.tile(means, (len(asked.dense), 1))
        for arm, model in fitted.items():
            found[:, arm] = model.predict_proba(asked.dense)[:, 1]
        return found

    return predict


def logistic(train: Inputs, quality: Floats) -> Model:
    """One ridge-penalised logistic regression an arm; nothing is shared."""
    return _per_arm(train, quality, lambda: LogisticRegression(C=INVERSE_PENALTY, max_iter=300))


def boosting(train: Inputs, quality: Floats) -> Model:
    """One set of boosted trees an arm, small ones as there are few outcomes."""

    def make() -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=6, max_bins=32, min_samples_leaf=20, random_state=0
        )

    return _per_arm(train, quality, make)


def words_ridge(train: Inputs, quality: Floats) -> Model:
    """Linear in word TF-IDF, least squares with a ridge penalty (what was not seen: the mean)."""
    target = np.where(np.isnan(quality), arm_means(quality), quality)
    model = Ridge(alpha=RIDGE_WORDS, solver="sparse_cg").fit(train.words, target)
    return lambda asked: np.reshape(model.predict(asked.words), (-1, quality.shape[1]))


def item_response(train: Inputs, quality: Floats) -> Model:
    """Two-parameter item response: ease of each query, discrimination and ability of each arm.

    P(right) = sigmoid(a ease + b) (Birnbaum 1968), by alternating Newton steps under Gaussian
    priors; the ease of a new query is predicted from the dense features by a ridge.
    """
    seen, known = ~np.isnan(quality), np.nan_to_num(quality)
    means = arm_means(quality)
    ease, slope, level = np.zeros(len(quality)), np.ones(len(means)), np.log(means / (1 - means))
    for _ in range(ABILITY_SWEEPS):
        residual, weight = _newton(known, seen, ease, slope, level)
        ease += (residual @ slope - ease) / (weight @ slope**2 + 1.0)
        residual, weight = _newton(known, seen, ease, slope, level)
        slope += (ease @ residual - (slope - 1.0)) / (ease**2 @ weight + 1.0)
        residual, weight = _newton(known, seen, ease, slope, level)
        level += (residual.sum(axis=0) - 0.1 * level) / (weight.sum(axis=0) + 0.1)
    model = Ridge(alpha=RIDGE_DENSE).fit(train.dense, ease)
    return lambda asked: sigmoid(np.outer(model.predict(asked.dense), slope) + level)


def _newton(
    known: Floats, seen: NDArray[np.bool_], ease: Floats, slope: Floats, level: Floats
) -> tuple[Floats, Floats]:
    p = sigmoid(np.outer(ease, slope) + level)
    return (known - p) * seen, p * (1.0 - p) * seen


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A candidate on `Inputs`, Platt-scaled on predictions of inner folds."""

    learn: Learn

    def __call__(self, sample: Sample) -> Predict:
        """Fit features, inner folds, calibration and the whole."""
        encoded = encode(sample.texts, N_BUCKETS)
        features = TextFeatures(N_BUCKETS, 32).fit_encoded(encoded)
        vectors = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
        words = sparse.csr_array(vectors.fit_transform(sample.texts))
        inputs = Inputs(features.transform_encoded(encoded), words)
        number = fold_numbers(sample.texts, INNER_FOLDS, 1)
        score = np.zeros(sample.quality.shape)
        for fold in range(INNER_FOLDS):
            rest, test = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
            model = self.learn(inputs.take(rest), sample.quality[rest])
            score[test] = _log_odds(model(inputs.take(test)))
        calibration = calibrate(score, sample.quality, sample.arms)
        final = self.learn(inputs, sample.quality)

        def predict(texts: Sequence[str], _: Sequence[str]) -> Floats:
            if self.learn is words_ridge:
                asked = Inputs(np.zeros((len(texts), 0)), vectors.transform(texts))
            else:
                asked = Inputs(features.transform(texts), words[:0])
            return calibration.apply(_log_odds(final(asked)), sample.arms)

        return predict


def _log_odds(p: Floats) -> Floats:
    kept = p.clip(CLIP, 1.0 - CLIP)
    return np.asarray(np.log(kept / (1.0 - kept)))


class TopicFeatures(TextFeatures):
    """The shipped features without clusters of topics."""

    def fit_encoded(self, encoded: Encoded) -> TopicFeatures:
        """Learn, then forget the clusters."""
        super().fit_encoded(encoded)
        self.clusters_ = self.clusters_[:0]
        return self


class WithoutClusters(DifficultyEstimator):
    """The shipped estimator on `TopicFeatures`."""

    def new_features(self) -> TopicFeatures:
        """Make unfitted features without clusters."""
        return TopicFeatures(self.n_buckets, self.n_components, self.random_state)


def shipped(sample: Sample) -> Predict:
    """`DifficultyEstimator` with its default parameters."""
    fitted = DifficultyEstimator().fit(sample.texts, sample.quality, arms=sample.arms)
    return lambda texts, _: fitted.predict(texts).quality


def without_clusters(sample: Sample) -> Predict:
    """Fit the shipped estimator without clusters of topics."""
    fitted = WithoutClusters().fit(sample.texts, sample.quality, arms=sample.arms)
    return lambda texts, _: fitted.predict(texts).quality


@dataclass(frozen=True, slots=True)
class Stack:
    """Shipped features, and ridges of the outcomes' principal directions on all n-grams."""

    features: TextFeatures
    weights: TfidfTransformer
    signals: Floats

    @classmethod
    def fit(cls, encoded: Encoded, sample: Sample) -> tuple[Stack, Floats]:
        """Learn; gives also the features of the same texts, signals out of fold (stacking)."""
        features = TextFeatures(N_BUCKETS, 32).fit_encoded(encoded)
        tfidf = TfidfTransformer(sublinear_tf=True, norm=None).fit(encoded.counts)
        grams = _halves(tfidf, encoded)
        centred = np.nan_to_num(sample.quality - np.nanmean(sample.quality, axis=0))
        left, size, _ = np.linalg.svd(centred, full_matrices=False)
        target = left[:, size > 1e-6][:, :SIGNALS] * np.sqrt(len(left))
        number = fold_numbers(sample.texts, INNER_FOLDS, 2)
        crossed = np.zeros(target.shape)
        for fold in range(INNER_FOLDS):
            rest, test = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
            crossed[test] = grams[test] @ _ridge(grams[rest], target[rest])
        scale = SIGNAL_SPREAD / np.maximum(crossed.std(axis=0), LEAST_SPREAD)
        stack = cls(features, tfidf, _ridge(grams, target) * scale)
        return stack, with_ones(np.hstack([features.transform_encoded(encoded), crossed * scale]))

    def transform(self, encoded: Encoded) -> Floats:
        """Give a column of ones, the shipped features, and the signals."""
        told = _halves(self.weights, encoded) @ self.signals
        return with_ones(np.hstack([self.features.transform_encoded(encoded), told]))


def _halves(tfidf: TfidfTransformer, encoded: Encoded) -> sparse.csr_array:
    """TF-IDF, words and characters each to unit length."""
    weighted = sparse.csr_array(tfidf.transform(encoded.counts))
    half = N_BUCKETS // 2
    return sparse.csr_array(
        sparse.hstack([normalize(weighted[:, :half]), normalize(weighted[:, half:])])
    )


def _ridge(grams: sparse.csr_array, target: Floats) -> Floats:
    model = Ridge(alpha=10.0, fit_intercept=False, solver="sparse_cg", tol=1e-3)
    return np.reshape(model.fit(grams, target).coef_, (target.shape[1], -1)).T


def with_signals(sample: Sample) -> Predict:
    """Add signals to the shipped features; heads and calibration as shipped."""
    order = canonical_order(sample.texts)
    texts, quality = [sample.texts[i] for i in order], sample.quality[order]
    encoded, penalties = encode(texts, N_BUCKETS), DifficultyEstimator().penalties
    number = fold_numbers(texts, INNER_FOLDS, 0)
    folds = []
    for fold in range(INNER_FOLDS):
        rest, test = np.flatnonzero(number != fold), np.flatnonzero(number == fold)
        part = Sample([texts[i] for i in rest], (), quality[rest], sample.arms)
        stack, x = Stack.fit(encoded.take(rest), part)
        folds.append(Fold(rest, test, x, stack.transform(encoded.take(test))))
    score = success_scores(folds, quality, sample.arms, penalties)
    stack, x = Stack.fit(encoded, Sample(texts, (), quality, sample.arms))
    coefficients = fit_logistic(x, quality, sample.arms, penalties)
    head = SuccessHead(coefficients, calibrate(score, quality, sample.arms))
    weights = head.coefficients.of(sample.arms)

    def predict(asked: Sequence[str], _: Sequence[str]) -> Floats:
        x = stack.transform(encode(asked, N_BUCKETS))
        return head.calibration.apply(x @ weights, sample.arms)

    return predict


CANDIDATES: dict[str, Callable[[Sample], Predict]] = {
    "shipped": shipped,
    "shipped, no clusters": without_clusters,
    "shipped, with signals": with_signals,
    "constant": constant,
    "task means (not live)": task_means,
    "kNN": Calibrated(neighbours),
    "logistic": Calibrated(logistic),
    "boosting": Calibrated(boosting),
    "item response": Calibrated(item_response),
    "word TF-IDF, ridge": Calibrated(words_ridge),
}
"""The shipped estimator first: the others are compared with it."""
