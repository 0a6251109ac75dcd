"""Sets of samples of one query, and what can be told of the answers in one without a model.

Samples with the same answer are a cluster; its features are relative to its set.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import OutcomeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable

VOTE_SHARE = "vote_share"
FEATURES = (
    VOTE_SHARE,
    "lead_over_best_other",
    "is_first_answer",
    "share_of_distinct",
    "tokens_z",
    "answer_chars_z",
    "logprob_z",
    "score_z",
    "best_score_lead",
    "mean_score",
    "step_score_z",
)
"""Facts of one cluster. ``_z`` are in standard deviations of the set; what is not known is 0."""

N_FOLDS = 5
MIN_SETS = 20


@dataclass(frozen=True, slots=True)
class Drawn:
    """One sample: its canonical answer, None if unreadable, and what is known beside it.

    ``score`` is a verifier's and ``step_score`` that of its steps, on any scale; ``logprob`` is
    the mean of its tokens.
    """

    answer: str | None
    n_tokens: float | None = None
    logprob: float | None = None
    score: float | None = None
    step_score: float | None = None


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples of one query; ``correct`` has one entry for each, ``fold`` keeps a query together."""

    query_id: str
    samples: tuple[Drawn, ...]
    correct: tuple[bool, ...] = ()
    fold: int = 0


def clusters(samples: Sequence[Drawn]) -> tuple[tuple[int, ...], ...]:
    """Group positions by answer, by first appearance; unreadable samples are in none."""
    groups: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        if sample.answer is not None:
            groups.setdefault(sample.answer.strip().casefold(), []).append(i)
    return tuple(map(tuple, groups.values()))


def majority(samples: Sequence[Drawn]) -> int | None:
    """Give the cluster with the most votes, the earlier of equals; None without any."""
    groups = clusters(samples)
    return max(range(len(groups)), key=lambda i: len(groups[i])) if groups else None


def features(samples: Sequence[Drawn]) -> NDArray[np.float64]:
    """Describe each cluster; shape (n_clusters, n_features)."""
    groups = clusters(samples)
    readable = sum(map(len, groups))
    columns = {
        name: _known([getattr(sample, name) for sample in samples])
        for name in ("n_tokens", "logprob", "score", "step_score")
    }
    chars = _known([len(s.answer) if s.answer is not None else None for s in samples])
    best = [_top(columns["score"], group) for group in groups]
    rows = []
    for i, group in enumerate(groups):
        share = len(group) / readable
        others = [len(other) / readable for j, other in enumerate(groups) if j != i]
        rival = max((top for j, top in enumerate(best) if j != i), default=best[i])
        rows.append(
            (
                share,
                share - max(others, default=0.0),
                float(0 in group),
                len(groups) / readable,
                _z(columns["n_tokens"], group),
                _z(chars, group),
                _z(columns["logprob"], group),
                _z(columns["score"], group),
                best[i] - rival,
                _mean(columns["score"], group),
                _z(columns["step_score"], group),
            )
        )
    return np.array(rows, dtype=np.float64).reshape(len(groups), len(FEATURES))


def sets_of(table: OutcomeTable, set_size: int, *, with_score: bool = False) -> list[SampleSet]:
    """Cut the recorded samples of every query and arm into sets of ``set_size``, in their order.

    A rest smaller than that is left out. ``with_score`` takes the column ``score`` as a verifier's
    that is known before grading; it must not be a grade. Raises OutcomeError where no query has
    that many graded samples.
    """
    cells: dict[tuple[str, str, str], list[int]] = {}
    for i, key in enumerate(
        zip(table.texts["query_id"], table.texts["model"], table.texts["strategy"], strict=True)
    ):
        if not np.isnan(table.numbers["correct"][i]):
            cells.setdefault(tuple(map(str, key)), []).append(i)  # type: ignore[arg-type]
    order = np.nan_to_num(table.numbers["sample_index"])
    number = {query_id: i for i, query_id in enumerate(table.query_ids)}
    found = []
    for (query_id, _, _), rows in cells.items():
        rows.sort(key=lambda i: order[i])
        fold = table.numbers["fold"][rows[0]]
        whole = int(fold) if not np.isnan(fold) else number[query_id] % N_FOLDS
        for start in range(0, len(rows) - set_size + 1, set_size):
            part = rows[start : start + set_size]
            samples = tuple(_drawn(table, i, with_score=with_score) for i in part)
            graded = tuple(bool(table.numbers["correct"][i] >= 0.5) for i in part)  # noqa: PLR2004 - a grade rounds
            found.append(SampleSet(query_id, samples, graded, whole))
    if len(found) < MIN_SETS:
        msg = (
            f"holds {len(found)} sets of {set_size} graded samples; at least {MIN_SETS} are needed"
        )
        raise OutcomeError(table.source, msg)
    return found


def _drawn(table: OutcomeTable, i: int, *, with_score: bool) -> Drawn:
    tokens, score = table.numbers["completion_tokens"][i], table.numbers["score"][i]
    made = Drawn(table.texts["answer"][i] or None, None if np.isnan(tokens) else float(tokens))
    return replace(made, score=float(score)) if with_score and not np.isnan(score) else made


def _known(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: NDArray[np.float64], group: Sequence[int]) -> float:
    held = values[list(group)]
    held = held[~np.isnan(held)]
    return float(held.mean()) if len(held) else 0.0


def _top(values: NDArray[np.float64], group: Sequence[int]) -> float:
    held = values[list(group)]
    held = held[~np.isnan(held)]
    return float(held.max()) if len(held) else 0.0


def _z(values: NDArray[np.float64], group: Sequence[int]) -> float:
    """Mean of a cluster in standard deviations of its set; 0 where nothing is known or differs."""
    known = values[~np.isnan(values)]
    if not len(known) or known.std() < 1e-9 or np.isnan(values[list(group)]).all():  # noqa: PLR2004 - rounding noise
        return 0.0
    return float((_mean(values, group) - known.mean()) / known.std())
