"""A trained aggregator: out of a set of samples, the answer that is most likely right.

Samples with the same answer are a cluster. A logistic regression over facts of each cluster (its
share of the votes, the lead, lengths, log-probabilities, a verifier's scores, all relative to its
set) gives the probability that the cluster is right, and the likeliest one is the answer. Majority
voting is the special case that looks at the share alone (Wang et al. 2022, arXiv:2203.11171); a
learned reader of sample sets is Qi et al. (2025), arXiv:2506.09014.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from policies.errors import OutcomeError, PolicyNotReadyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable

FORMAT = 1
FEATURES = (
    "vote_share",
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
MAX_LOGIT = 30.0
"""Beyond it a probability is no longer told from 0 or 1."""


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


@dataclass(frozen=True, slots=True)
class Aggregator:
    """A fitted aggregator: plain numbers, written as JSON.

    Attributes
    ----------
    mean, scale, weights : ndarray of shape (n_features,)
    intercept : float
    manifest : mapping
        On what it was fitted and what it reached; plain JSON.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float
    manifest: Mapping[str, Any]

    def probabilities(self, samples: Sequence[Drawn]) -> NDArray[np.float64]:
        """Give the probability of each cluster to be right, in (0, 1); shape (n_clusters,)."""
        logits = np.clip(self._logits(samples), -MAX_LOGIT, MAX_LOGIT)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))

    def choose(self, samples: Sequence[Drawn]) -> int | None:
        """Give the likeliest cluster, the earlier of equals; None where no answer is readable."""
        found = self._logits(samples)
        return int(np.argmax(found)) if len(found) else None

    def _logits(self, samples: Sequence[Drawn]) -> NDArray[np.float64]:
        described = (features(samples) - self.mean) / self.scale
        return np.asarray(described @ self.weights + self.intercept)

    def write(self, path: Path) -> None:
        """Write everything as one JSON object."""
        held = {
            "format": FORMAT,
            "features": list(FEATURES),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "weights": self.weights.tolist(),
            "intercept": self.intercept,
            "manifest": dict(self.manifest),
        }
        path.write_text(json.dumps(held, indent=2) + "\n", "utf-8")


def read_aggregator(path: Path) -> Aggregator:
    """Read a written aggregator; raise PolicyNotReadyError for anything else."""
    try:
        held = json.loads(path.read_text("utf-8"))
        if held["format"] != FORMAT or tuple(held["features"]) != FEATURES:
            msg = f"{path}: was fitted with other features; fit it again"
            raise PolicyNotReadyError(msg)
        mean, scale, weights = (
            np.array(held[name], dtype=np.float64) for name in ("mean", "scale", "weights")
        )
        made = Aggregator(mean, scale, weights, float(held["intercept"]), dict(held["manifest"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path}: is no aggregator: {type(error).__name__} {error}"
        raise PolicyNotReadyError(msg) from error
    shapes = {array.shape for array in (mean, scale, weights)}
    if shapes != {(len(FEATURES),)} or not np.all(np.isfinite([*mean, *scale, *weights])):
        msg = f"{path}: is no aggregator: its numbers are not finite or of another length"
        raise PolicyNotReadyError(msg)
    return made


def fit_aggregator(
    sets: Sequence[SampleSet], *, strength: float = 1.0, manifest: Mapping[str, Any] | None = None
) -> Aggregator:
    """Fit on graded sets; every set weighs the same. ``strength`` > 0 is the inverse penalty.

    Raises ValueError where no set has both a right and a wrong cluster: nothing can be learned.
    """
    rows, right, weight = [], [], []
    for one in sets:
        groups = clusters(one.samples)
        graded = [any(one.correct[i] for i in group) for group in groups]
        if len(set(graded)) < 2:  # noqa: PLR2004 - a right and a wrong one
            continue
        rows.append(features(one.samples))
        right += graded
        weight += [1.0 / len(groups)] * len(groups)
    if not rows:
        msg = "no set of samples has a right and a wrong answer; there is nothing to learn from"
        raise ValueError(msg)
    described = np.concatenate(rows)
    mean, deviation = described.mean(axis=0), described.std(axis=0)
    scale = np.where(deviation > 1e-9, deviation, 1.0)  # noqa: PLR2004 - rounding noise
    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit((described - mean) / scale, np.array(right), sample_weight=np.array(weight))
    return Aggregator(
        mean, scale, model.coef_[0].astype(np.float64), float(model.intercept_[0]), manifest or {}
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What each way of choosing gets right on held-out sets, shares in [0, 1].

    ``single`` is a sample at random, ``vote`` the majority, ``best_score`` the sample with the
    highest score (None without scores), ``oracle`` any right sample. ``low`` and ``high`` bound
    ``trained - vote`` with 95 %, by bootstrap over queries.
    """

    n_sets: int
    n_queries: int
    single: float
    vote: float
    best_score: float | None
    trained: float
    oracle: float
    low: float
    high: float

    @property
    def gap_closed(self) -> float | None:
        """Share of the way from vote to oracle; None where there is no gap."""
        gap = self.oracle - self.vote
        return (self.trained - self.vote) / gap if gap > 0 else None


def cross_validate(sets: Sequence[SampleSet], *, strength: float = 1.0, seed: int = 0) -> Standing:
    """Fit on all folds but one, choose on that one, for each fold in turn."""
    folds = sorted({one.fold for one in sets})
    rows: list[tuple[str, float, float, float, float, float]] = []
    for fold in folds:
        fitted = fit_aggregator([s for s in sets if s.fold != fold], strength=strength)
        rows += [_graded(one, fitted) for one in sets if one.fold == fold]
    figures = np.array([row[1:] for row in rows], dtype=np.float64)
    single, vote, scored, trained, oracle = figures.mean(axis=0)
    low, high = _interval([row[0] for row in rows], figures[:, 3] - figures[:, 1], seed)
    return Standing(
        n_sets=len(rows),
        n_queries=len({row[0] for row in rows}),
        single=float(single),
        vote=float(vote),
        best_score=None if np.isnan(scored) else float(scored),
        trained=float(trained),
        oracle=float(oracle),
        low=low,
        high=high,
    )


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


def _graded(one: SampleSet, fitted: Aggregator) -> tuple[str, float, float, float, float, float]:
    """Grade each way of choosing on one set; a cluster is right when one of its samples is."""
    groups = clusters(one.samples)
    right = [float(any(one.correct[i] for i in group)) for group in groups]
    voted, chosen = majority(one.samples), fitted.choose(one.samples)
    scores = [(s.score, -i) for i, s in enumerate(one.samples) if s.score is not None]
    best = -max(scores)[1] if scores else None
    return (
        one.query_id,
        sum(one.correct) / len(one.correct),
        0.0 if voted is None else right[voted],
        float("nan") if best is None else float(one.correct[best]),
        0.0 if chosen is None else right[chosen],
        float(any(one.correct)),
    )


def _interval(
    query_ids: Sequence[str], differences: NDArray[np.float64], seed: int
) -> tuple[float, float]:
    """Bootstrap the mean difference over queries, whose sets stay together; 95 %."""
    names = {query_id: i for i, query_id in enumerate(dict.fromkeys(query_ids))}
    at = np.array([names[query_id] for query_id in query_ids])
    total = np.bincount(at, weights=differences)
    count = np.bincount(at)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(names), size=(2000, len(names)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


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
