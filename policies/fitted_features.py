"""What was learned of texts, ready to turn others into features; a single one without SciPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from policies.encoding import encode, encode_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy import sparse

    from policies.encoding import Encoded

MAX_Z = 4.0
MIN_SPREAD = 1e-9
CLUSTER_SCALE = 6.0
SHARPNESS = 12.0


class FittedFeatures:
    """Texts to dense features by what `policies.features.TextFeatures` learned; see there.

    The attributes that end in ``_`` are set by who fitted or read them.
    """

    n_buckets: int
    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    idf_: NDArray[np.float64]
    directions_: NDArray[np.float64]
    centre_: NDArray[np.float64]
    unit_: float
    clusters_: NDArray[np.float64]

    def __init__(self, n_buckets: int = 4096) -> None:
        self.n_buckets = n_buckets

    def transform(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Give the features of ``texts``, shape (n, n_features)."""
        self._check_is_fitted()
        return self.transform_encoded(encode(texts, self.n_buckets))

    def transform_encoded(self, encoded: Encoded) -> NDArray[np.float64]:
        """Give the features of encoded texts, shape (n, n_features)."""
        numeric = np.nan_to_num((encoded.numeric - self.mean_) / self.scale_)
        topics = self._weighted(encoded.counts) @ self.directions_ - self.centre_
        return np.hstack([numeric.clip(-MAX_Z, MAX_Z), topics, self._members(topics)])

    def transform_one(self, query: str) -> NDArray[np.float64]:
        """Give the features of one query, shape (1, n_features), as `transform` but for rounding.

        Without the sparse matrices of a batch, which cost more than the arithmetic.
        """
        self._check_is_fitted()
        pieces = encode_one(query, self.n_buckets)
        numeric = (pieces.numeric - self.mean_) / self.scale_
        numeric[np.isnan(numeric)] = 0.0
        values = (1.0 + np.log(pieces.counts)) * self.idf_[pieces.buckets]
        middle = int(np.searchsorted(pieces.buckets, self.n_buckets // 2))
        for half in (slice(middle), slice(middle, None)):
            values[half] /= max(float(np.sqrt(values[half] @ values[half])), MIN_SPREAD)
        topics = (values @ self.directions_[pieces.buckets] - self.centre_)[None, :]
        near = np.minimum(np.maximum(numeric, -MAX_Z), MAX_Z)[None, :]
        return np.concatenate([near, topics, self._members(topics)], axis=1)

    def _members(self, topics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Soft membership in each cluster, adding up to CLUSTER_SCALE."""
        if not len(self.clusters_):
            return np.zeros((len(topics), 0))
        weight = np.exp(SHARPNESS * (unit_rows(topics) @ self.clusters_.T - 1.0))
        return np.asarray(CLUSTER_SCALE * weight / weight.sum(axis=1, keepdims=True))

    def _weighted(self, counts: sparse.csr_array) -> sparse.csr_array:
        """Weigh counts by TF-IDF, logarithmic in the count, each half of a row to unit length."""
        half = self.n_buckets // 2
        values = (1.0 + np.log(counts.data)) * self.idf_[counts.indices]
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        part = 2 * rows + (counts.indices >= half)
        length = np.sqrt(np.bincount(part, weights=values**2, minlength=2 * counts.shape[0]))
        values = values / length[part]
        return type(counts)((values, counts.indices, counts.indptr), counts.shape)

    def _check_is_fitted(self) -> None:
        """Raise scikit-learn's NotFittedError before there is anything to go by."""
        if not hasattr(self, "clusters_"):
            from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - takes long to load

            msg = f"this {type(self).__name__} is not fitted yet; call `fit` first"
            raise NotFittedError(msg)


def unit_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to unit length; rows near zero stay there."""
    length = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    return np.asarray(points / np.maximum(length, MIN_SPREAD))
