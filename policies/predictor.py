"""Predictions of what was fitted, with numpy alone: what a server needs of an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from policies.families import sigmoid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.fitted_features import FittedFeatures
    from policies.heads import AmountHead, SuccessHead

MAX_COMPILED = 256


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


class Predictor:
    """A fitted `policies.difficulty.DifficultyEstimator`, whose attributes it has.

    ``parameters`` are those that the estimator was made with.
    """

    arms_: tuple[Arm, ...]
    observed_: tuple[Arm, ...]
    features_: FittedFeatures
    success_: SuccessHead
    tokens_: AmountHead | None
    cost_: AmountHead | None
    novelty_: Novelty

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = dict(parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - as scikit-learn
        """Give the parameters of the estimator."""
        return dict(self._parameters)

    def restore(  # noqa: PLR0913 - all that a fit learns
        self,
        *,
        arms: Sequence[Arm],
        observed: Sequence[Arm],
        features: FittedFeatures,
        success: SuccessHead,
        tokens: AmountHead | None,
        cost: AmountHead | None,
        novelty: Novelty,
    ) -> Self:
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
            from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - takes long to load

            msg = f"this {type(self).__name__} is not fitted yet; call `fit` first"
            raise NotFittedError(msg)
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
        right = quality
        if every is not now:
            right = sigmoid((x @ every.weights) * every.slope + every.shift)
        familiar, strange = familiarity_of(self.features_, x)
        return Prediction(
            arms=wanted,
            quality=quality,
            completion_tokens=tokens,
            cost_usd=cost,
            difficulty=(1.0 - right).mean(axis=1),
            in_distribution=(familiar >= self.novelty_.familiar)
            & (strange <= self.novelty_.strange),
            known=now.known,
            features=x,
        )

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


def with_ones(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put a column of ones before the features, for the intercepts."""
    return np.hstack([np.ones((len(features), 1)), features])


def familiarity_of(
    features: FittedFeatures, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give (familiar, strange) of each row of ``x``, each of shape (n,); see `Novelty`."""
    n_numeric = len(features.mean_)
    numeric = x[:, 1 : 1 + n_numeric]
    n_topics = len(features.centre_)
    topics = x[:, 1 + n_numeric : 1 + n_numeric + n_topics] + features.centre_
    explained = features.unit_**2 * (topics**2).sum(axis=1) / 2.0
    return explained, np.sqrt((numeric**2).mean(axis=1))
