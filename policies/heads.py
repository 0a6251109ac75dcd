"""What is predicted of an arm from features: success, calibrated, and amounts such as tokens.

Both heads are fitted out of fold first; what that shows (how far scores are overconfident, how
far a mean in logarithms is below the mean) corrects the final fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.families import fit_linear, fit_logistic, sigmoid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.families import Coefficients, Penalties

SLOPE_RANGE = (0.05, 3.0)
PRECISION = 5.0
CALIBRATION_SWEEPS = 25
SMEAR_PRIOR = 10.0
MAX_RESIDUAL = 3.0
ROOM = 0.7


@dataclass(frozen=True, slots=True)
class Fold:
    """One split: features fitted on the training rows alone, of those rows and of the rest.

    ``train`` and ``test`` are row numbers; the features have shape (n_train, d) and (n_test, d),
    first column ones.
    """

    train: NDArray[np.intp]
    test: NDArray[np.intp]
    x_train: NDArray[np.float64]
    x_test: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling by arm: P(right) = sigmoid(slope * score + shift).

    ``slope`` and ``shift`` are by ``str(arm)``; the key ``""`` is for arms that were not there.
    """

    slope: dict[str, float]
    shift: dict[str, float]

    def apply(self, score: NDArray[np.float64], arms: Sequence[Arm]) -> NDArray[np.float64]:
        """Turn scores of shape (n, n_arms) into probabilities."""
        slope, shift = self.of(arms)
        return sigmoid(score * slope + shift)

    def of(self, arms: Sequence[Arm]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Slopes and shifts of ``arms``, each of shape (n_arms,)."""
        slope = [self.slope.get(str(arm), self.slope[""]) for arm in arms]
        shift = [self.shift.get(str(arm), self.shift[""]) for arm in arms]
        return np.array(slope), np.array(shift)


def calibrate(
    score: NDArray[np.float64], target: NDArray[np.float64], arms: Sequence[Arm]
) -> Calibration:
    """Fit Platt scaling (Platt 1999) to out-of-fold scores; arms shrunk to what they share.

    The slope stretches each arm's scores about their mean: where texts tell nothing it is near 0.

    Parameters
    ----------
    score, target : ndarray of shape (n, n_arms)
        ``target`` in [0, 1], NaN where nobody looked.
    arms : sequence of Arm, length n_arms
    """
    seen = ~np.isnan(target)
    per_query = max(1.0, float(seen.sum() / max(1, seen.any(axis=1).sum())))
    centre = np.where(seen, score, 0.0).sum(axis=0) / np.maximum(1, seen.sum(axis=0))
    middle = np.broadcast_to(centre, score.shape)
    shared = _platt(
        (score - centre)[seen][:, None],
        middle[seen][:, None],
        target[seen][:, None],
        np.ones((1, 1)) / per_query,
        (1.0, 0.0),
    )
    prior = (float(shared[0][0]), float(shared[1][0]))
    own = _platt(score - centre, middle, np.where(seen, target, 0.0), seen * 1.0, prior)
    names = ["", *map(str, arms)]
    slope = np.concatenate([shared[0], own[0]])
    shift = np.concatenate([shared[1], own[1]])
    shift += (1.0 - slope) * np.concatenate([[centre.mean()], centre])
    return Calibration(
        dict(zip(names, slope.tolist(), strict=True)), dict(zip(names, shift.tolist(), strict=True))
    )


def _platt(
    deviation: NDArray[np.float64],
    centre: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    prior: tuple[float, float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit slope and shift of each column, pulled to ``prior``, by alternating Newton steps.

    P(right) = sigmoid(centre + slope * deviation + shift).
    """
    slope = np.full(deviation.shape[1], prior[0])
    shift = np.full(deviation.shape[1], prior[1])
    for _ in range(CALIBRATION_SWEEPS):
        p = sigmoid(centre + deviation * slope + shift)
        pull = ((target - p) * weight).sum(axis=0) - PRECISION * (shift - prior[1])
        shift += pull / ((p * (1.0 - p) * weight).sum(axis=0) + PRECISION)
        p = sigmoid(centre + deviation * slope + shift)
        pull = ((target - p) * weight * deviation).sum(axis=0) - PRECISION * (slope - prior[0])
        slope += pull / ((p * (1.0 - p) * weight * deviation**2).sum(axis=0) + PRECISION)
        slope = slope.clip(*SLOPE_RANGE)
    return slope, shift


@dataclass(frozen=True, slots=True)
class SuccessHead:
    """Probability that an arm's answer is right: shared coefficients, then calibration."""

    coefficients: Coefficients
    calibration: Calibration


def success_scores(
    folds: Sequence[Fold],
    quality: NDArray[np.float64],
    arms: Sequence[Arm],
    penalties: Penalties,
) -> NDArray[np.float64]:
    """Give out-of-fold scores (log odds, not yet calibrated), shape (n, n_arms)."""
    score = np.zeros(quality.shape)
    for fold in folds:
        fitted = fit_logistic(fold.x_train, quality[fold.train], arms, penalties)
        score[fold.test] = fold.x_test @ fitted.of(arms)
    return score


def cross_calibrated(
    folds: Sequence[Fold],
    score: NDArray[np.float64],
    quality: NDArray[np.float64],
    arms: Sequence[Arm],
) -> NDArray[np.float64]:
    """Give out-of-fold probabilities: each fold is calibrated on the scores of the others.

    Those scores come from models that saw the fold; two numbers an arm carry little of that over.
    """
    probability = np.zeros(score.shape)
    for fold in folds:
        calibration = calibrate(score[fold.train], quality[fold.train], arms)
        probability[fold.test] = calibration.apply(score[fold.test], arms)
    return probability


@dataclass(frozen=True, slots=True)
class AmountHead:
    """Expected size of a positive amount (tokens, USD), linear in logarithms.

    ``smear`` by ``str(arm)``, ``""`` for others, turns a median into a mean (Duan 1983).
    Logarithms are kept in [``low``, ``high``].
    """

    coefficients: Coefficients
    smear: dict[str, float]
    low: float
    high: float

    def compiled(self, arms: Sequence[Arm]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the weights (d, n_arms) and smearing factors (n_arms,) of ``arms``."""
        smear = [self.smear.get(str(arm), self.smear[""]) for arm in arms]
        return self.coefficients.of(arms), np.array(smear)

    def expect(
        self, x: NDArray[np.float64], weights: NDArray[np.float64], smear: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Give expected amounts of shape (n, n_arms), see `compiled`."""
        return np.asarray(np.exp((x @ weights).clip(self.low, self.high)) * smear)


def fit_amount(
    x: NDArray[np.float64],
    folds: Sequence[Fold],
    amount: NDArray[np.float64],
    arms: Sequence[Arm],
    penalties: Penalties,
) -> AmountHead:
    """Fit an amount head.

    Parameters
    ----------
    x : ndarray of shape (n, d), the first column ones
    folds : sequence of Fold over the same rows
    amount : ndarray of shape (n, n_arms)
        NaN where unknown, known at least once; zeros count as the least amount seen.
    arms : sequence of Arm, length n_arms
    penalties : Penalties
    """
    logged = _logged(amount)
    smear = cross_amount(folds, amount, arms, penalties)[1]
    middle = float(np.nanmean(logged))
    fitted = fit_linear(x, logged - middle, arms, penalties)
    fitted.shared[0] += middle
    return AmountHead(fitted, smear, *_range(logged))


def cross_amount(
    folds: Sequence[Fold],
    amount: NDArray[np.float64],
    arms: Sequence[Arm],
    penalties: Penalties,
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Give out-of-fold expected amounts (n, n_arms) and smearing factors, see `fit_amount`."""
    logged = _logged(amount)
    seen = ~np.isnan(logged)
    middle = float(np.nanmean(logged))
    score = np.zeros(amount.shape)
    for fold in folds:
        fitted = fit_linear(fold.x_train, logged[fold.train] - middle, arms, penalties)
        score[fold.test] = (fold.x_test @ fitted.of(arms) + middle).clip(*_range(logged))
    factor = np.exp((logged - score).clip(-MAX_RESIDUAL, MAX_RESIDUAL))
    typical = float(factor[seen].mean())
    total = np.where(seen, factor, 0.0).sum(axis=0) + SMEAR_PRIOR * typical
    smear = total / (seen.sum(axis=0) + SMEAR_PRIOR)
    by_arm = dict(zip(map(str, arms), smear.tolist(), strict=True))
    return np.exp(score) * smear, {"": typical, **by_arm}


def _logged(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = amount[amount > 0]
    least = float(positive.min()) if positive.size else 1.0
    return np.log(np.where(np.isnan(amount), np.nan, np.maximum(amount, least)))


def _range(logged: NDArray[np.float64]) -> tuple[float, float]:
    """Logarithms that a prediction is kept in: what was seen, and some room."""
    return float(np.nanmin(logged)) - ROOM, float(np.nanmax(logged)) + ROOM
