"""Scikit-learn's side of the features of texts: learning their weights, scales and topics.

A text is first encoded without any fitted state (`policies.encoding`); what is learned here weighs
and scales that, and turns texts into features (`policies.fitted_features`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.extmath import randomized_svd

from policies.encoding import POSED_NAMES, encode
from policies.fitted_features import MIN_SPREAD, FittedFeatures, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from policies.encoding import Encoded

MIN_UNIT = 0.05
TEXTS_PER_COMPONENT = 4
CLUSTERS_PER_4 = 3
TEXTS_PER_CLUSTER = 40
CLUSTER_ROUNDS = 10


def spherical_clusters(
    points: NDArray[np.float64], n_clusters: int, seed: int
) -> NDArray[np.float64]:
    """Give up to ``n_clusters`` centres of unit length, fewer where directions coincide."""
    directions = unit_rows(points)
    distinct = np.unique(directions.round(6), axis=0)
    rng = np.random.default_rng(seed)
    n_clusters = min(n_clusters, len(distinct))
    centres = distinct[np.sort(rng.permutation(len(distinct))[:n_clusters])]
    for _ in range(CLUSTER_ROUNDS if n_clusters else 0):
        nearest = (directions @ centres.T).argmax(axis=1)
        member = sparse.csr_array(
            (np.ones(len(nearest)), (nearest, np.arange(len(nearest)))),
            shape=(n_clusters, len(nearest)),
        )
        total = member @ directions
        kept = np.linalg.norm(total, axis=1, keepdims=True) > MIN_SPREAD
        centres = np.where(kept, unit_rows(total), centres)
    return np.asarray(centres.astype(np.float32).astype(np.float64))


def _mean_and_scale(numeric: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Mean and spread of each column where it is known; shapes (n_numeric,).

    A text's own number that never varied keeps its unit: it may tell an odd text. How queries are
    posed differs between a file and its users, so what never varied there tells nothing.
    """
    known = ~np.isnan(numeric)
    n_known = np.maximum(1, known.sum(axis=0))
    mean = np.nansum(numeric, axis=0) / n_known
    spread = np.sqrt(np.nansum((numeric - mean) ** 2, axis=0) / n_known)
    alike = np.ones(numeric.shape[1])
    alike[-len(POSED_NAMES) :] = np.inf
    return mean, np.where(spread > MIN_SPREAD, spread, alike)


class TextFeatures(TransformerMixin, BaseEstimator, FittedFeatures):
    """Scikit-learn transformer: texts to dense features, numbers first and then topics.

    Columns are ``NUMERIC_NAMES``, standardised, cut at +-4 and 0 where unknown, then
    ``n_components`` (or fewer, for few texts) principal directions of the TF-IDF weighted n-grams
    (latent semantic analysis, Deerwester et al. 1990), scaled so that the strongest has unit
    variance, then soft memberships
    in clusters of texts with alike directions (spherical k-means, Dhillon and Modha 2001), three
    clusters for four directions: queries of one subject share their outcomes.

    Parameters
    ----------
    n_buckets : int, a power of two, at least 4
        Size of the hashing table.
    n_components : int, at least 0
    random_state : int
        Seed of the randomised decomposition.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_numeric,)
    idf_ : ndarray of shape (n_buckets,)
        Inverse document frequency of each bucket.
    directions_ : ndarray of shape (n_buckets, n_directions)
    centre_ : ndarray of shape (n_directions,)
    unit_ : float
        Standard deviation of the strongest direction before scaling.
    clusters_ : ndarray of shape (n_clusters, n_directions)
        Centres of the clusters, of unit length.
    """

    def __init__(
        self, n_buckets: int = 4096, n_components: int = 64, random_state: int = 0
    ) -> None:
        self.n_buckets = n_buckets
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, texts: Sequence[str], y: object = None) -> TextFeatures:
        """Learn weights and scales from ``texts``, at least one; ``y`` is not used."""
        del y
        return self.fit_encoded(encode(texts, self.n_buckets))

    def fit_encoded(self, encoded: Encoded) -> TextFeatures:
        """Learn from encoded texts."""
        n_texts = encoded.numeric.shape[0]
        self.mean_, self.scale_ = _mean_and_scale(encoded.numeric)
        frequency = np.bincount(encoded.counts.indices, minlength=self.n_buckets)
        self.idf_ = np.log((1.0 + n_texts) / (1.0 + frequency)) + 1.0
        weighted = self._weighted(encoded.counts)
        rank = min(self.n_components, n_texts // TEXTS_PER_COMPONENT)
        right = np.zeros((0, self.n_buckets))
        if rank > 0:
            _, _, right = randomized_svd(weighted, rank, n_iter=3, random_state=self.random_state)
        scores = weighted @ right.T
        self.unit_ = max(float(scores.std(axis=0).max(initial=0.0)), MIN_UNIT)
        self.directions_ = (right.T / self.unit_).astype(np.float32).astype(np.float64)
        self.centre_ = scores.mean(axis=0) / self.unit_
        n_clusters = min(rank * CLUSTERS_PER_4 // 4, n_texts // TEXTS_PER_CLUSTER)
        self.clusters_ = spherical_clusters(
            scores / self.unit_ - self.centre_, n_clusters, self.random_state
        )
        return self
