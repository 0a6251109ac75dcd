"""How hard is a query: P(right) and expected tokens of every arm, and one readable number.

Features of the text feed two heads whose coefficients the arms share (`policies.families`), so that
an arm with few outcomes, or none, borrows from its model and its strategy.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator

from policies.encoding import encode
from policies.errors import OutcomeError
from policies.families import Penalties, fit_logistic
from policies.features import TextFeatures
from policies.heads import (
    Fold,
    SuccessHead,
    calibrate,
    fit_amount,
    success_scores,
)
from policies.predictor import Novelty, Predictor, familiarity_of, with_ones

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.encoding import Encoded
    from policies.heads import AmountHead

FAMILIAR_QUANTILE = 0.01
FAMILIAR_SHARE = 0.5
STRANGE_QUANTILE = 0.99
STRANGE_TIMES = 1.5
SOURCE = "outcomes"


class DifficultyEstimator(BaseEstimator, Predictor):
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


def _bounds(familiarity: NDArray[np.float64]) -> Novelty:
    familiar, strange = familiarity.T
    return Novelty(
        familiar=FAMILIAR_SHARE * float(np.quantile(familiar, FAMILIAR_QUANTILE)),
        strange=STRANGE_TIMES * float(np.quantile(strange, STRANGE_QUANTILE)),
    )
