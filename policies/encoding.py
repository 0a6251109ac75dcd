"""Queries to counts and numbers, without any fitted state: hashed n-grams and surface numbers.

Cheap enough for the request path. Long texts are read at both ends.
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

from policies.posing import COUNTS, PLAIN, parted
from policies.types import AnswerKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from scipy import sparse

    from policies.posing import Posing

HEAD_CHARS = 3000
TAIL_CHARS = 1000
CHAR_SIZES = (3, 4, 5)
ODD = np.uint32(2_654_435_761)  # Knuth's multiplicative hash, 2**32 / golden ratio
STEP = np.uint32(16_777_619)  # the FNV-1a prime
MAX_PARENTHESES = 32
MAX_NUMBER_LOG10 = 30.0
WORDS_KEPT = 50_000
MAX_KEPT_CHARS = 20

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
    from scipy import sparse  # noqa: PLC0415 - takes long to load, and one query needs none

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
    lists = LISTS.findall(shown) if shown.count(",") > 1 else ()
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
