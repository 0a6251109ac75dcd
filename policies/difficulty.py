"""How hard is a query: P(right) and expected tokens of every arm, and one readable number.

Features of the text feed two heads whose coefficients the arms share (`policies.families`), so that
an arm with few outcomes, or none, borrows from its model and its strategy.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from policies.errors import OutcomeError
from policies.families import Penalties, fit_logistic, sigmoid
from policies.features import TextFeatures, encode
from policies.heads import (
    Fold,
    SuccessHead,
    calibrate,
    fit_amount,
    success_scores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.features import Encoded
    from policies.heads import AmountHead

FAMILIAR_QUANTILE = 0.01
FAMILIAR_SHARE = 0.5
STRANGE_QUANTILE = 0.99
STRANGE_TIMES = 1.5
MAX_COMPILED = 256
SOURCE = "outcomes"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of ``arms`` on n queries.

    Attributes
    ----------
    arms : tuple of Arm, length n_arms
    quality : ndarray of shape (n, n_arms)
        Calibrated probability that the answer is right.
    completion_tokens, cost_usd : ndarray of shape (n, n_arms), or None
        Expected amounts; None when the estimator was fitted without them.
    difficulty : ndarray of shape (n,)
        In [0, 1]: the share of the fitted arms that is expected to fail.
    in_distribution : ndarray of bool, shape (n,)
        False for a query unlike anything seen in fitting.
    known : ndarray of bool, shape (n_arms,)
        False for an arm without outcomes, whose predictions are its family's.
    features : ndarray of shape (n, 1 + n_features)
        Of the queries, first column ones.
    """

    arms: tuple[Arm, ...]
    quality: NDArray[np.float64]
    completion_tokens: NDArray[np.float64] | None
    cost_usd: NDArray[np.float64] | None
    difficulty: NDArray[np.float64]
    in_distribution: NDArray[np.bool_]
    known: NDArray[np.bool_]
    features: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Novelty:
    """Bounds beyond which a query is unlike anything seen.

    ``familiar`` is the least share of a text's n-grams that the topics explain; ``strange`` the
    most root mean square of its standardised numbers.
    """

    familiar: float
    strange: float


@dataclass(frozen=True, slots=True)
class _Compiled:
    """Everything that a prediction for certain arms needs, as plain matrices."""

    weights: NDArray[np.float64]
    slope: NDArray[np.float64]
    shift: NDArray[np.float64]
    tokens: tuple[NDArray[np.float64], NDArray[np.float64]]
    cost: tuple[NDArray[np.float64], NDArray[np.float64]]
    known: NDArray[np.bool_]


_NOTHING = (np.zeros((0, 0)), np.zeros(0))


class DifficultyEstimator(BaseEstimator):
    """Scikit-learn estimator: queries and outcomes in, `Prediction` out.

    Parameters
    ----------
    n_buckets, n_components : int
        Size of the text features, see `TextFeatures`.
    shared_penalty, family_penalty, own_penalty : float, > 0
        Ridge penalties of what all arms share, of models and strategies, and of single arms.
    n_folds : int, at least 2
        Folds of the cross-fitting behind the calibration.
    random_state : int

    Attributes
    ----------
    arms_, observed_ : tuple of Arm
        All arms of the fit, and those of them with an outcome.
    features_ : TextFeatures
    success_ : SuccessHead
    tokens_, cost_ : AmountHead or None
    novelty_ : Novelty
    """

    def __init__(  # noqa: PLR0913 - scikit-learn: every parameter is an argument
        self,
        *,
        n_buckets: int = 4096,
        n_components: int = 32,
        shared_penalty: float = 80.0,
        family_penalty: float = 160.0,
        own_penalty: float = 320.0,
        n_folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.n_buckets = n_buckets
        self.n_components = n_components
        self.shared_penalty = shared_penalty
        self.family_penalty = family_penalty
        self.own_penalty = own_penalty
        self.n_folds = n_folds
        self.random_state = random_state

    @property
    def penalties(self) -> Penalties:
        """The ridge penalties as one value."""
        return Penalties(self.shared_penalty, self.family_penalty, self.own_penalty)

    def fit(
        self,
        texts: Sequence[str],
        quality: NDArray[np.float64],
        *,
        arms: Sequence[Arm],
        completion_tokens: NDArray[np.float64] | None = None,
        cost_usd: NDArray[np.float64] | None = None,
    ) -> DifficultyEstimator:
        """Learn from outcomes; the order of queries and arms does not matter.

        Parameters
        ----------
        texts : sequence of str, length n >= 1
        quality : ndarray of shape (n, n_arms)
            In [0, 1]; NaN where an arm was not tried.
        arms : sequence of Arm, length n_arms, all different
        completion_tokens, cost_usd : ndarray of shape (n, n_arms), or None
            At least 0; NaN where unknown.

        Raises
        ------
        OutcomeError
            If shapes disagree, a quality is outside [0, 1], or nothing was observed.
        """
        check_outcomes(texts, quality, arms)
        order = canonical_order(texts)
        texts = [texts[i] for i in order]
        quality = quality[order]
        encoded = encode(texts, self.n_buckets)
        folds, familiarity = self.split(texts, encoded)
        features = self.new_features().fit_encoded(encoded)
        x = with_ones(features.transform_encoded(encoded))
        score = success_scores(folds, quality, arms, self.penalties)
        success = SuccessHead(
            fit_logistic(x, quality, arms, self.penalties), calibrate(score, quality, arms)
        )
        tried = np.count_nonzero(~np.isnan(quality), axis=0).tolist()
        return self.restore(
            arms=arms,
            observed=[arm for arm, n_outcomes in zip(arms, tried, strict=True) if n_outcomes],
            features=features,
            success=success,
            tokens=self._amount(x, folds, completion_tokens, order, arms),
            cost=self._amount(x, folds, cost_usd, order, arms),
            novelty=_bounds(familiarity),
        )

    def restore(  # noqa: PLR0913 - all that a fit learns
        self,
        *,
        arms: Sequence[Arm],
        observed: Sequence[Arm],
        features: TextFeatures,
        success: SuccessHead,
        tokens: AmountHead | None,
        cost: AmountHead | None,
        novelty: Novelty,
    ) -> DifficultyEstimator:
        """Take over what a fit learned, see the attributes."""
        self.arms_ = tuple(arms)
        self.observed_ = tuple(observed)
        self.features_ = features
        self.success_ = success
        self.tokens_ = tokens
        self.cost_ = cost
        self.novelty_ = novelty
        self._compiled: dict[tuple[Arm, ...], _Compiled] = {}
        return self

    def predict(self, texts: Sequence[str], arms: Sequence[Arm] | None = None) -> Prediction:
        """Predict ``arms`` (those of the fit if None, others borrow) on ``texts``."""
        if not hasattr(self, "features_"):
            check_is_fitted(self)
        wanted = self.arms_ if arms is None else tuple(arms)
        alone = len(texts) == 1
        x = with_ones(
            self.features_.transform_one(texts[0]) if alone else self.features_.transform(texts)
        )
        now = self._compile(wanted)
        quality = sigmoid((x @ now.weights) * now.slope + now.shift)
        tokens = None if self.tokens_ is None else self.tokens_.expect(x, *now.tokens)
        cost = None if self.cost_ is None else self.cost_.expect(x, *now.cost)
        every = self._compile(self.observed_)
        failing = 1.0 - sigmoid((x @ every.weights) * every.slope + every.shift)
        familiar, strange = familiarity_of(self.features_, x)
        return Prediction(
            arms=wanted,
            quality=quality,
            completion_tokens=tokens,
            cost_usd=cost,
            difficulty=failing.mean(axis=1),
            in_distribution=(familiar >= self.novelty_.familiar)
            & (strange <= self.novelty_.strange),
            known=now.known,
            features=x,
        )

    def new_features(self) -> TextFeatures:
        """Make the unfitted text features that this estimator would use."""
        return TextFeatures(self.n_buckets, self.n_components, self.random_state)

    def split(
        self, texts: Sequence[str], encoded: Encoded
    ) -> tuple[tuple[Fold, ...], NDArray[np.float64]]:
        """Cut queries into folds, features fitted inside each; equal texts stay together.

        Also gives (familiar, strange) of each query out of fold, shape (n, 2), see `Novelty`.
        """
        number = fold_numbers(texts, self.n_folds, self.random_state)
        familiarity = np.zeros((len(texts), 2))
        folds = []
        for k in np.unique(number):
            test = np.flatnonzero(number == k)
            rest = np.flatnonzero(number != k)
            train = rest if len(rest) else test
            features = self.new_features().fit_encoded(encoded.take(train))
            x_train = with_ones(features.transform_encoded(encoded.take(train)))
            x_test = with_ones(features.transform_encoded(encoded.take(test)))
            familiarity[test] = np.stack(familiarity_of(features, x_test), axis=1)
            folds.append(Fold(train, test, x_train, x_test))
        return tuple(folds), familiarity

    def _amount(
        self,
        x: NDArray[np.float64],
        folds: Sequence[Fold],
        amount: NDArray[np.float64] | None,
        order: NDArray[np.intp],
        arms: Sequence[Arm],
    ) -> AmountHead | None:
        if amount is None or np.isnan(amount).all():
            return None
        return fit_amount(x, folds, amount[order], arms, self.penalties)

    def _compile(self, arms: tuple[Arm, ...]) -> _Compiled:
        found = self._compiled.get(arms)
        if found is None:
            slope, shift = self.success_.calibration.of(arms)
            found = _Compiled(
                weights=self.success_.coefficients.of(arms),
                slope=slope,
                shift=shift,
                tokens=_NOTHING if self.tokens_ is None else self.tokens_.compiled(arms),
                cost=_NOTHING if self.cost_ is None else self.cost_.compiled(arms),
                known=np.array([arm in self.observed_ for arm in arms], dtype=bool),
            )
            if len(self._compiled) >= MAX_COMPILED:
                self._compiled.clear()
            self._compiled[arms] = found
        return found


def check_outcomes(texts: Sequence[str], quality: NDArray[np.float64], arms: Sequence[Arm]) -> None:
    """Raise OutcomeError unless ``quality`` is (n, n_arms) in [0, 1] with something observed."""
    if quality.shape != (len(texts), len(arms)) or not len(texts):
        msg = f"quality of shape {quality.shape} for {len(texts)} queries and {len(arms)} arms"
        raise OutcomeError(SOURCE, msg)
    if len(set(arms)) < len(arms):
        raise OutcomeError(SOURCE, "an arm is named twice")
    seen = quality[~np.isnan(quality)]
    if not seen.size:
        raise OutcomeError(SOURCE, "no outcome has a quality; grade some answers first")
    if seen.min() < 0 or seen.max() > 1:
        msg = f"quality must be in [0, 1], got {seen.min()} to {seen.max()}"
        raise OutcomeError(SOURCE, msg)


def canonical_order(texts: Sequence[str]) -> NDArray[np.intp]:
    """Sort rows by text, so that a fit does not depend on the order they came in."""
    return np.array(sorted(range(len(texts)), key=texts.__getitem__), dtype=np.intp)


def fold_numbers(texts: Sequence[str], n_folds: int, seed: int) -> NDArray[np.intp]:
    """Give the fold of each text: in [0, n_folds), nearly equal in size; equal texts share one."""
    distinct = sorted(
        set(texts), key=lambda text: (zlib.crc32(text.encode(errors="replace"), seed), text)
    )
    fold = {text: i % n_folds for i, text in enumerate(distinct)}
    return np.array([fold[text] for text in texts], dtype=np.intp)


def with_ones(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put a column of ones before the features, for the intercepts."""
    return np.hstack([np.ones((len(features), 1)), features])


def familiarity_of(
    features: TextFeatures, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give (familiar, strange) of each row of ``x``, each of shape (n,); see `Novelty`."""
    n_numeric = len(features.mean_)
    numeric = x[:, 1 : 1 + n_numeric]
    n_topics = len(features.centre_)
    topics = x[:, 1 + n_numeric : 1 + n_numeric + n_topics] + features.centre_
    explained = features.unit_**2 * (topics**2).sum(axis=1) / 2.0
    return explained, np.sqrt((numeric**2).mean(axis=1))


def _bounds(familiarity: NDArray[np.float64]) -> Novelty:
    familiar, strange = familiarity.T
    return Novelty(
        familiar=FAMILIAR_SHARE * float(np.quantile(familiar, FAMILIAR_QUANTILE)),
        strange=STRANGE_TIMES * float(np.quantile(strange, STRANGE_QUANTILE)),
    )
