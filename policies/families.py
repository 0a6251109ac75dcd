"""Coefficients that arms share: everybody's, their model's, their strategy's, and their own.

The linear score of arm a on features x is ``x . (shared + model[a] + strategy[a] + own[a])``, every
part shrunk to zero by a ridge penalty. An arm with many outcomes gets coefficients of its own; one
with few keeps those of its family; a new one starts with them. The parts are a Gaussian prior of
a random-effects model (Gelman and Hill 2007, ch. 12), fitted to its mode by block-wise Newton
steps. A column of ones in x makes the intercepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm

MAX_SWEEPS = 30
MAX_STEP = 4.0
TOLERANCE = 1e-3
RENEWED_AT = frozenset({0, 1, 2, 4, 8, 16})
"""Sweeps that compute the curvature again; the others take the last one, gradients being exact."""
BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Penalties:
    """Ridge penalties per observed query, by level; ``*_intercept`` those of the ones column.

    ``family`` is for models and strategies, ``own`` for single arms; all > 0.
    """

    shared: float = 10.0
    family: float = 30.0
    own: float = 60.0
    shared_intercept: float = 0.1
    family_intercept: float = 0.5
    own_intercept: float = 1.0


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Fitted coefficients: ``shared`` (d,), the others (n_members, d) in the order of names."""

    shared: NDArray[np.float64]
    models: dict[str, NDArray[np.float64]]
    strategies: dict[str, NDArray[np.float64]]
    own: dict[str, NDArray[np.float64]]

    def of(self, arms: Sequence[Arm]) -> NDArray[np.float64]:
        """Sum the parts that are known of each arm; shape (d, n_arms)."""
        nothing = np.zeros_like(self.shared)
        columns = [
            self.shared
            + self.models.get(arm.model, nothing)
            + self.strategies.get(arm.strategy, nothing)
            + self.own.get(str(arm), nothing)
            for arm in arms
        ]
        return np.array(columns).reshape(len(arms), -1).T


def fit_logistic(
    x: NDArray[np.float64],
    target: NDArray[np.float64],
    arms: Sequence[Arm],
    penalties: Penalties,
) -> Coefficients:
    """Fit P(right) = 1 / (1 + exp(-score)) to outcomes in [0, 1].

    Parameters
    ----------
    x : ndarray of shape (n, d), the first column ones
    target : ndarray of shape (n, n_arms), NaN where nobody looked
    arms : sequence of Arm, length n_arms
    penalties : Penalties
    """
    return _Fit(x, target, arms, penalties).run(logistic=True)


def fit_linear(
    x: NDArray[np.float64],
    target: NDArray[np.float64],
    arms: Sequence[Arm],
    penalties: Penalties,
) -> Coefficients:
    """Fit score = target by penalised least squares; arguments as for `fit_logistic`."""
    return _Fit(x, target, arms, penalties).run(logistic=False)


def sigmoid(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-score)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * score)))


class _Fit:
    """Block-wise Newton: shared, models, strategies, arms; again until nothing moves."""

    def __init__(
        self,
        x: NDArray[np.float64],
        target: NDArray[np.float64],
        arms: Sequence[Arm],
        penalties: Penalties,
    ) -> None:
        self._x = x
        self._seen = ~np.isnan(target)
        self._target = np.where(self._seen, target, 0.0)
        self._arms = [str(arm) for arm in arms]
        models = [arm.model for arm in arms]
        strategies = [arm.strategy for arm in arms]
        p = penalties
        self._levels = [
            _Level.of(["" for _ in arms], p.shared, p.shared_intercept),
            _Level.of(models, p.family, p.family_intercept),
            _Level.of(strategies, p.family, p.family_intercept),
            _Level.of(self._arms, p.own, p.own_intercept),
        ]

    def run(self, *, logistic: bool) -> Coefficients:
        n_features = self._x.shape[1]
        parts = [np.zeros((len(level.names), n_features)) for level in self._levels]
        ridges = [level.ridge(self._seen, n_features) for level in self._levels]
        inverses: list[NDArray[np.float64]] = [np.empty(0)] * len(self._levels)
        score = np.zeros(self._target.shape)
        for sweep in range(MAX_SWEEPS):
            moved = 0.0
            renewed = sweep in RENEWED_AT if logistic else sweep == 0
            for n, (level, part, ridge) in enumerate(zip(self._levels, parts, ridges, strict=True)):
                expected = sigmoid(score) if logistic else score
                if renewed:
                    slope = expected * (1.0 - expected) if logistic else 1.0
                    inverses[n] = self._inverses(slope * self._seen @ level.member, ridge)
                residual = (self._target - expected) * self._seen
                gradient = (residual @ level.member).T @ self._x - ridge * part
                step = np.einsum("gij,gj->gi", inverses[n], gradient)
                change = self._x @ step.T
                if logistic:
                    largest = np.abs(change).max(axis=0, initial=0.0)
                    damp = np.minimum(1.0, MAX_STEP / np.maximum(largest, MAX_STEP))
                    step *= damp[:, None]
                    change *= damp
                part[...] += step
                score += change @ level.member.T
                moved = max(moved, float(np.abs(change).max(initial=0.0)))
            if moved < TOLERANCE:
                break
        shared, models, strategies, own = (
            dict(zip(level.names, part, strict=True))
            for level, part in zip(self._levels, parts, strict=True)
        )
        return Coefficients(shared[""], models, strategies, own)

    def _inverses(
        self, weight: NDArray[np.float64], ridge: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Invert the curvature of each group of a level; shape (n_groups, d, d).

        ``weight`` is (n, n_groups). Groups of the same weights, such as all arms of a full table
        in least squares, share the products of features; rows are taken a block at a time.
        """
        distinct, which = np.unique(weight, axis=1, return_inverse=True)
        n, n_features = self._x.shape
        products = np.zeros((distinct.shape[1], n_features, n_features))
        for start in range(0, n, BLOCK_ROWS):
            x = self._x[start : start + BLOCK_ROWS]
            for group, column in enumerate(distinct[start : start + BLOCK_ROWS].T):
                products[group] += (x * column[:, None]).T @ x
        curvature = products[np.reshape(which, -1)]
        diagonal = np.arange(n_features)
        curvature[:, diagonal, diagonal] += ridge
        return np.asarray(np.linalg.inv(curvature))


@dataclass(frozen=True, slots=True)
class _Level:
    """One way of grouping arms; ``member`` is (n_arms, n_groups), 1 where an arm belongs."""

    names: list[str]
    member: NDArray[np.float64]
    penalty: float
    intercept: float

    @classmethod
    def of(cls, labels: Sequence[str], penalty: float, intercept: float) -> _Level:
        names = sorted(set(labels))
        member = np.array([[label == name for name in names] for label in labels], dtype=float)
        return cls(names, member, penalty, intercept)

    def ridge(self, seen: NDArray[np.bool_], n_features: int) -> NDArray[np.float64]:
        """Penalty of each group and column; a group seen k times a query counts k-fold.

        The outcomes of one query are not independent: k arms on n queries tell about as much
        about what the arms share as n outcomes, not n * k.
        """
        per_query = seen @ self.member
        asked = np.maximum(1, (per_query > 0).sum(axis=0))
        times = np.maximum(1.0, per_query.sum(axis=0) / asked)
        base = np.full(n_features, self.penalty)
        base[0] = self.intercept
        return np.asarray(times[:, None] * base)
