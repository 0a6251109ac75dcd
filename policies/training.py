"""From an outcome table to a fitted policy, with a manifest of how it came about."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships no types

from policies.artifacts import FittedPolicy, assemble
from policies.base import Limits
from policies.difficulty import canonical_order, check_outcomes
from policies.evaluation import baselines, calibration, replay
from policies.tuning import CrossValidation, Goal, tune
from policies.utility import UtilityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable
    from policies.tuning import Tuned

LIBRARIES = ("numpy", "scikit-learn", "optuna")


@dataclass(frozen=True, slots=True)
class Training:
    """How to fit: ``trials`` >= 1 of the study, exploring ``epsilon`` in [0, 1] when serving.

    ``storage`` is a database URL in which the study is kept and resumed, None for memory.
    """

    goal: Goal = field(default_factory=Goal)
    trials: int = 30
    seed: int = 0
    epsilon: float = 0.02
    storage: str | None = None


def train(
    table: OutcomeTable,
    training: Training,
    *,
    created_at: datetime,
    cost_of: NDArray[np.float64] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> FittedPolicy:
    """Tune and fit a policy; the order of rows does not matter, equal seeds give equal policies.

    Arms without any cost are fitted, but never replayed and never the safe arm; the manifest
    lists them. Its ``metrics`` are cross-validated: no query is judged by what it was fitted on,
    though the shadow price was chosen on the same replay.

    Parameters
    ----------
    table : OutcomeTable
    training : Training
    created_at : datetime, aware
        For the manifest.
    cost_of : ndarray of shape (n_queries, n_arms), or None
        Recorded USD of each query and arm, in the order of ``table.query_ids`` and ``table.arms``,
        NaN where unknown; None takes the table's ``cost_usd``.
    progress : callable, or None
        Told (trials done, trials in all, best loss) after each trial.

    Raises
    ------
    OutcomeError
        If nothing was graded, or no graded answer has a cost.
    """
    with threadpool_limits(limits=1):
        return _train(table, training, created_at, cost_of, progress)


def _train(
    table: OutcomeTable,
    training: Training,
    created_at: datetime,
    cost_of: NDArray[np.float64] | None,
    progress: Callable[[int, int, float], None] | None,
) -> FittedPolicy:
    order = canonical_order(table.queries)
    texts = [table.queries[i] for i in order]
    quality = table.quality_matrix()
    cost_usd = table.matrix("cost_usd") if cost_of is None else cost_of
    check_outcomes(table.queries, quality, table.arms)
    data_hash = _data_hash(table, quality, cost_usd)
    quality, cost_usd = quality[order], cost_usd[order]
    data = CrossValidation(texts, quality, cost_usd, table.arms, training.seed)
    tuned = tune(
        data,
        training.goal,
        trials=training.trials,
        seed=training.seed,
        storage=training.storage,
        study_name=f"{training.goal} {data_hash[:12]} seed={training.seed}",
        progress=progress,
    )
    estimator = tuned.parameters.estimator(training.seed).fit(
        texts,
        quality,
        arms=table.arms,
        completion_tokens=table.matrix("completion_tokens")[order],
        cost_usd=cost_usd,
    )
    policy = UtilityPolicy(
        shadow_price_per_usd=tuned.shadow_price_per_usd,
        safe_arm=table.arms[data.best_fixed],
        epsilon=training.epsilon,
        left_out=tuned.left_out,
    )
    manifest = {
        "created_at": created_at.isoformat(),
        "source": table.source,
        "data_hash": data_hash,
        "n_queries": len(texts),
        "n_rows": len(table),
        "arms": [str(arm) for arm in table.arms],
        "unpriced_arms": [
            str(arm)
            for arm, n_priced in zip(table.arms, data.recorded.sum(axis=0).tolist(), strict=True)
            if not n_priced
        ],
        "goal": str(training.goal),
        "trials": training.trials,
        "seed": training.seed,
        "shadow_price_per_usd": tuned.shadow_price_per_usd,
        "safe_arm": str(policy.safe_arm),
        "left_out": sorted(map(str, policy.left_out)),
        "epsilon": training.epsilon,
        "parameters": estimator.get_params(),
        "metrics": _metrics(data, tuned, policy, training.seed),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    }
    return assemble(estimator, policy, manifest)


def _metrics(
    data: CrossValidation, tuned: Tuned, policy: UtilityPolicy, seed: int
) -> dict[str, Any]:
    """Cross-validated value and calibration, as plain JSON."""
    quality, cost_usd = data.quality[data.rows], data.cost_usd[data.rows]
    probability = policy.probability(data.forecast(tuned.predicted), Limits())
    rivals = baselines(quality, cost_usd, data.arms, seed)
    return {
        "policy": replay(probability, quality, cost_usd, data.arms, seed).to_dict(),
        "baselines": {name: rival.to_dict() for name, rival in rivals.items()},
        "calibration": calibration(tuned.predicted, data.quality).to_dict(),
        "calibration_by_arm": {
            str(arm): calibration(tuned.predicted[:, i], data.quality[:, i]).to_dict()
            for i, arm in enumerate(data.arms)
        },
        "frontier": [
            {
                "shadow_price": point.shadow_price_per_usd,
                "accuracy": point.accuracy,
                "cost_usd_per_query": point.cost_usd,
            }
            for point in tuned.frontier
        ],
    }


def _data_hash(
    table: OutcomeTable, quality: NDArray[np.float64], cost_usd: NDArray[np.float64]
) -> str:
    """SHA-256 of queries, arms, qualities and costs, whatever their order."""
    arms = [str(arm) for arm in table.arms]
    lines = sorted(
        json.dumps([query_id, text, arms, *np.vstack([right, spent]).astype(str).tolist()])
        for query_id, text, right, spent in zip(
            table.query_ids, table.queries, quality, cost_usd, strict=True
        )
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
