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

from policies.errors import PolicyNotReadyError
from policies.sample_sets import (
    FEATURES,
    N_FOLDS,
    VOTE_SHARE,
    Drawn,
    SampleSet,
    clusters,
    features,
    majority,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMAT = 1
LEAST_WEIGHT = 1e-6
"""Weight of the votes where they tell nothing, so that the vote is still the vote."""
MAX_LOGIT = 30.0
"""Beyond it a probability is no longer told from 0 or 1."""


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

    What was learned has to beat the vote on held-out folds of the same sets: else it is the vote,
    with the probability that its share of the votes gives; ``is_vote`` of the manifest tells.
    Raises ValueError where no set has both a right and a wrong cluster: nothing can be learned.
    """
    is_vote = held_out_gain(sets, strength) <= 0.0
    used = [FEATURES.index(VOTE_SHARE)] if is_vote else list(range(len(FEATURES)))
    made = _learned(sets, strength, used)
    return replace(made, manifest={**(manifest or {}), "is_vote": is_vote})


def held_out_gain(sets: Sequence[SampleSet], strength: float) -> float:
    """Give the mean of trained less vote over held-out folds; 0 where none can be held out."""
    every = list(range(len(FEATURES)))
    fold_of = {one.query_id: one.fold for one in sets}
    if len(set(fold_of.values())) == 1:
        fold_of = {query_id: i % N_FOLDS for i, query_id in enumerate(fold_of)}
    gains: list[float] = []
    for fold in sorted(set(fold_of.values())):
        try:
            fitted = _learned([s for s in sets if fold_of[s.query_id] != fold], strength, every)
        except ValueError:
            return 0.0
        graded = (_graded(one, fitted) for one in sets if fold_of[one.query_id] == fold)
        gains += [trained - voted for _, _, voted, _, trained, _ in graded]
    return float(np.mean(gains))


def _learned(sets: Sequence[SampleSet], strength: float, used: Sequence[int]) -> Aggregator:
    """Fit the weights of the ``used`` features; the others stay 0."""
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
    model.fit(((described - mean) / scale)[:, used], np.array(right), sample_weight=weight)
    weights = np.zeros(len(FEATURES))
    weights[used] = model.coef_[0]
    if len(used) == 1:
        weights = np.maximum(weights, LEAST_WEIGHT * (np.arange(len(weights)) == used[0]))
    return Aggregator(mean, scale, weights, float(model.intercept_[0]), {})


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
