"""Queries to features, cheap enough for the request path: hashed n-grams and plain numbers.

A text is first *encoded* without any fitted state (counts of hashed n-grams, surface numbers);
`TextFeatures` then weighs and scales what it learned to expect. Long texts are read at both ends.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import log1p
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.extmath import randomized_svd
from sklearn.utils.validation import check_is_fitted

from policies.posing import COUNTS, PLAIN, parted
from policies.types import AnswerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from policies.posing import Posing

HEAD_CHARS = 3000
TAIL_CHARS = 1000
CHAR_SIZES = (3, 4, 5)
ODD = np.uint32(2_654_435_761)  # Knuth's multiplicative hash, 2**32 / golden ratio
STEP = np.uint32(16_777_619)  # the FNV-1a prime
MAX_PARENTHESES = 32
MAX_NUMBER_LOG10 = 30.0
MAX_Z = 4.0
WORDS_KEPT = 50_000
MAX_KEPT_CHARS = 20
MIN_SPREAD = 1e-9
MIN_UNIT = 0.05
TEXTS_PER_COMPONENT = 4
CLUSTERS_PER_4 = 3
TEXTS_PER_CLUSTER = 40
CLUSTER_ROUNDS = 10
CLUSTER_SCALE = 6.0
SHARPNESS = 12.0

WORDS = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
NUMBERS = re.compile(r"\d[\d,]*(?:\.\d+)?")
OPTIONS = re.compile(r"(?:^|\s)\(?[A-Ja-j1-9][).:]\s", re.MULTILINE)
ITEMS = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s", re.MULTILINE)
LISTS = re.compile(r"(?:[\w.'\"-]+,\s*){2,}(?:(?:and|or)\s+)?[\w.'\"-]+")
CODE = re.compile(r"```|\bdef \w+\(|\breturn\b|\bimport \w|[{};]\s*$|=>|==|\w\(\w*\)", re.MULTILINE)
CODE_BYTES, CODE_WORDS = b"`(={};", ("return", "import")
"""Without any of these a text has nothing that `CODE` finds, and need not be searched."""

WORD_GROUPS: dict[str, frozenset[str]] = {
    "asks_how": frozenset({"how"}),
    "asks_much_many": frozenset({"much", "many"}),
    "asks_what": frozenset({"what"}),
    "asks_which": frozenset({"which"}),
    "asks_why": frozenset({"why", "explain", "because"}),
    "asks_who_when_where": frozenset({"who", "whom", "whose", "when", "where"}),
    "asks_yes_no": frozenset({"is", "are", "does", "do", "can", "could", "will", "would"}),
    "asks_proof": frozenset({"prove", "proof", "show", "derive", "verify"}),
    "asks_writing": frozenset({"write", "rewrite", "summarize", "translate", "describe", "list"}),
    "conditionals": frozenset({"if", "then", "unless", "when", "assume", "suppose", "given"}),
    "negations": frozenset({"not", "no", "never", "none", "neither", "nor", "without", "except"}),
    "quantifiers": frozenset({"all", "every", "each", "some", "any", "exactly", "only", "least"}),
    "comparisons": frozenset(
        {"more", "less", "fewer", "than", "greater", "smaller", "larger", "twice", "times", "half"}
    ),
    "rates": frozenset({"per", "percent", "ratio", "rate", "average", "total", "fraction"}),
    "loops": frozenset({"for", "while", "lambda", "range"}),
    "pronouns": frozenset({"he", "she", "they", "it", "his", "her", "their", "its"}),
}
BYTE_GROUPS: dict[str, bytes] = {
    "lines": b"\n",
    "question_marks": b"?",
    "sentence_ends": b".!",
    "commas": b",",
    "colons": b":;",
    "plus_minus": b"+-",
    "times_divide": b"*/^%",
    "equals_compare": b"=<>",
    "brackets": b"([{",
    "backslashes": b"\\",
    "dollars": b"$",
    "quotes": b"\"'`",
}
MEASURES = (
    "chars",
    "words",
    "numbers",
    "largest_number_log10",
    "most_digits",
    "decimals",
    "options",
    "list_items",
    "longest_list",
    "code_marks",
    "parentheses_depth",
    "mean_word_length",
    "digit_share",
    "upper_share",
    "non_ascii_share",
    "distinct_word_share",
)
KINDS = tuple(kind for kind in AnswerKind if kind is not AnswerKind.TEXT)
POSED_NAMES: tuple[str, ...] = (*(f"asked_for_{kind}" for kind in KINDS), *COUNTS)
NUMERIC_NAMES: tuple[str, ...] = (*MEASURES, *BYTE_GROUPS, *WORD_GROUPS, *POSED_NAMES)
"""Names of the numbers, in the order of their columns. Counts are log(1 + count)."""

_CODE_BYTES = np.frombuffer(CODE_BYTES, dtype=np.uint8)
_GROUP_OF_BYTE = np.full(256, len(BYTE_GROUPS), dtype=np.intp)
for _index, _members in enumerate(BYTE_GROUPS.values()):
    _GROUP_OF_BYTE[list(_members)] = _index
_GROUPS_OF_WORD: dict[str, list[int]] = {}
for _index, _words in enumerate(WORD_GROUPS.values()):
    for _word in _words:
        _GROUPS_OF_WORD.setdefault(_word, []).append(_index)


class Encoded(NamedTuple):
    """Texts before anything fitted.

    ``numeric`` has shape (n, n_numeric), columns named by NUMERIC_NAMES; ``counts`` is sparse of
    shape (n, n_buckets): words in the lower half of the buckets, character n-grams in the upper.
    """

    numeric: NDArray[np.float64]
    counts: sparse.csr_array

    def take(self, rows: NDArray[np.intp]) -> Encoded:
        """Pick the texts at ``rows``, in that order."""
        return Encoded(self.numeric[rows], self.counts[rows])


@dataclass(frozen=True, slots=True)
class Pieces:
    """One text before anything fitted: surface numbers, and the counts of its buckets, sorted."""

    numeric: NDArray[np.float64]
    buckets: NDArray[np.intp]
    counts: NDArray[np.float64]


def encode(texts: Iterable[str], n_buckets: int) -> Encoded:
    """Encode texts one after the other; ``n_buckets`` is a power of two, at least 4."""
    pieces = [encode_one(text, n_buckets) for text in texts]
    numeric = np.array([piece.numeric for piece in pieces]).reshape(-1, len(NUMERIC_NAMES))
    ends = np.cumsum([0, *(len(piece.buckets) for piece in pieces)])
    buckets = np.concatenate([np.zeros(0, np.intp), *(piece.buckets for piece in pieces)])
    counts = np.concatenate([np.zeros(0), *(piece.counts for piece in pieces)])
    return Encoded(numeric, sparse.csr_array((counts, buckets, ends), (len(pieces), n_buckets)))


def encode_one(query: str, n_buckets: int) -> Pieces:
    """Encode one query; the same one gives the same pieces in every process."""
    text, posing = parted(query)
    shown = text
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        shown = text[:HEAD_CHARS] + "\n" + text[-TAIL_CHARS:]
    lower = shown.lower()
    words = WORDS.findall(lower)
    numeric = np.concatenate([_numeric(text, shown, words), _posed(posing)])
    hashed = np.concatenate([_word_hashes(words), _char_hashes(lower)])
    half = n_buckets // 2
    n_words = 2 * len(words) - 1 if words else 0
    low = _buckets(hashed[:n_words], half)
    high = _buckets(hashed[n_words:], half) + half
    counted = np.bincount(np.concatenate([low, high]), minlength=n_buckets)
    buckets = np.flatnonzero(counted)
    return Pieces(numeric, buckets, counted[buckets].astype(np.float64))


def _buckets(hashes: NDArray[np.uint32], half: int) -> NDArray[np.intp]:
    shift = np.uint32(32 - (half.bit_length() - 1))
    return ((hashes * ODD) >> shift).astype(np.intp)


def _word_hashes(words: Sequence[str]) -> NDArray[np.uint32]:
    """Hash every word and every pair of neighbours; a number counts by its number of digits."""
    hashed = _word_hash if max(map(len, words), default=0) > MAX_KEPT_CHARS else _kept_hash
    single = np.array([hashed(word) for word in words], dtype=np.uint32)
    return np.concatenate([single, single[:-1] * STEP ^ single[1:]])


def _word_hash(word: str) -> int:
    return _kept_hash(word) if len(word) <= MAX_KEPT_CHARS else _new_hash(word)


def _new_hash(word: str) -> int:
    return zlib.crc32((word if not word.isdigit() else "0" * len(word)).encode(errors="replace"))


_kept_hash = lru_cache(maxsize=WORDS_KEPT)(_new_hash)


def _char_hashes(lower: str) -> NDArray[np.uint32]:
    """Hash every run of 3, 4 and 5 bytes; all digits are the same."""
    data = _bytes(f" {lower} ").astype(np.uint32)
    data[(data >= ord("0")) & (data <= ord("9"))] = ord("0")
    rolling = data.copy()
    found = []
    for size in range(2, max(CHAR_SIZES) + 1):
        rolling = rolling[: len(data) - size + 1] * STEP ^ data[size - 1 :]
        if size in CHAR_SIZES:
            found.append(rolling)
    return np.concatenate(found)


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(errors="replace"), dtype=np.uint8)


def _numeric(text: str, shown: str, words: Sequence[str]) -> NDArray[np.float64]:
    data = _bytes(shown)
    by_byte = np.bincount(data, minlength=256)
    by_group = np.bincount(_GROUP_OF_BYTE, weights=by_byte, minlength=len(BYTE_GROUPS) + 1)
    by_group[0] = text.count("\n")
    times = Counter(words)
    by_word = [0] * len(WORD_GROUPS)
    for word in times.keys() & _GROUPS_OF_WORD.keys():
        for group in _GROUPS_OF_WORD[word]:
            by_word[group] += times[word]
    numbers = [number.replace(",", "") for number in NUMBERS.findall(shown)]
    whole = [number.split(".")[0] for number in numbers]
    n_bytes = max(1, len(data))
    n_words = max(1, len(words))
    lists = LISTS.findall(shown) if "," in shown else ()
    may_be_code = by_byte[_CODE_BYTES].any() or any(word in times for word in CODE_WORDS)
    measures = [
        log1p(len(text)),
        log1p(len(words) * len(text) / max(1, len(shown))),
        log1p(len(numbers)),
        max((_log10(number) for number in numbers), default=0.0),
        max((len(number) for number in whole), default=0),
        log1p(sum("." in number for number in numbers)),
        log1p(len(OPTIONS.findall(shown))),
        log1p(len(ITEMS.findall(shown))),
        log1p(max((run.count(",") + 1 for run in lists), default=0)),
        log1p(len(CODE.findall(shown)) if may_be_code else 0),
        _depth(data) if by_byte[ord("(")] else 0.0,
        sum(map(len, words)) / n_words,
        by_byte[48:58].sum() / n_bytes,
        by_byte[65:91].sum() / n_bytes,
        by_byte[128:].sum() / n_bytes,
        len(times) / n_words,
    ]
    return np.concatenate([measures, np.log1p(by_group[:-1]), np.log1p(by_word)])


def _posed(posing: Posing) -> NDArray[np.float64]:
    """Give the numbers named by POSED_NAMES; those of the kind are NaN where none was declared."""
    if posing is PLAIN:
        return _PLAINLY
    kinds = [np.nan if posing.kind is None else float(kind == posing.kind) for kind in KINDS]
    return np.array([*kinds, *(log1p(getattr(posing, name)) for name in COUNTS)])


_PLAINLY = np.array([np.nan] * len(KINDS) + [0.0] * len(COUNTS))


def _log10(number: str) -> float:
    return min(MAX_NUMBER_LOG10, float(np.log10(1.0 + min(float(number), 1e30))))


def _depth(data: NDArray[np.uint8]) -> float:
    """Deepest nesting of round brackets, at most MAX_PARENTHESES."""
    steps = (data == ord("(")).astype(np.int64) - (data == ord(")"))
    return float(min(MAX_PARENTHESES, max(0, steps.cumsum().max(initial=0))))


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


def unit_rows(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows to unit length; rows near zero stay there."""
    length = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    return np.asarray(points / np.maximum(length, MIN_SPREAD))


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


class TextFeatures(TransformerMixin, BaseEstimator):
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

    def transform(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Give the features of ``texts``, shape (n, n_features)."""
        check_is_fitted(self)
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
        if not hasattr(self, "clusters_"):
            check_is_fitted(self)
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
        return sparse.csr_array((values, counts.indices, counts.indptr), counts.shape)
