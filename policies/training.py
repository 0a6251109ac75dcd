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
from policies.cross_validation import CrossValidation
from policies.difficulty import canonical_order, check_outcomes
from policies.evaluation import baselines, calibration, column_means, normal_mean, replay
from policies.group_relative import GroupSettings
from policies.matrix import OutcomeMatrix
from policies.recipes import propose
from policies.selection import Selected, select_policy
from policies.studies import StudyPlace
from policies.tuning import Goal, tune
from policies.types import PolicyKind
from policies.utility import Mixture, UtilityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.outcomes import OutcomeTable
    from policies.tuning import Tuned

N_PRICES = 16
LIBRARIES = ("numpy", "scikit-learn", "optuna")


@dataclass(frozen=True, slots=True)
class Training:
    """How to fit: ``trials`` >= 1 of the study, exploring ``epsilon`` in [0, 1] when serving.

    ``study`` is where the study is kept and resumed, by default in memory. With ``derived``,
    cascades and votes over recorded samples become arms too. Of more than ``max_tuned_arms`` only
    those are tuned and served that are among the best at some shadow price. No trial starts after
    ``max_tuning_s`` seconds. ``kind`` is the policy to fit beside the estimator, ``group`` how a
    group-relative one learns.
    """

    goal: Goal = field(default_factory=Goal)
    trials: int = 30
    seed: int = 0
    epsilon: float = 0.02
    study: StudyPlace = field(default_factory=StudyPlace)
    derived: bool = False
    max_tuned_arms: int = 20
    max_tuning_s: float = np.inf
    kind: PolicyKind = PolicyKind.UTILITY
    group: GroupSettings = field(default_factory=GroupSettings)


def train(  # noqa: PLR0913 - a fit has this many sides
    table: OutcomeTable,
    training: Training,
    *,
    created_at: datetime,
    cost_of: NDArray[np.float64] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    extra: Mapping[str, Any] | None = None,
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
    extra : mapping, or None
        Further facts for the manifest, plain JSON.

    Raises
    ------
    OutcomeError
        If nothing was graded, or some answers have a cost but no graded one. Where no answer has
        a cost and the goal asks for none, the policy picks the most accurate arm.
    """
    with threadpool_limits(limits=1):
        return _train(table, training, created_at, cost_of, progress, extra or {})


def _train(  # noqa: PLR0913, PLR0917 - what `train` was given
    table: OutcomeTable,
    training: Training,
    created_at: datetime,
    cost_of: NDArray[np.float64] | None,
    progress: Callable[[int, int, float], None] | None,
    extra: Mapping[str, Any],
) -> FittedPolicy:
    check_outcomes(table.queries, table.quality_matrix(), table.arms)
    recipes = propose(table, training.seed) if training.derived else ()
    whole = OutcomeMatrix.of(table, recipes, cost_of, training.seed)
    data_hash = _data_hash(table, whole)
    free = training.goal.budget_usd_per_query is training.goal.shadow_price_per_usd is None
    accuracy_only = free and bool(np.isnan(whole.cost_usd).all())
    if accuracy_only:
        whole = whole.without_costs()
    whole = whole.rows(canonical_order(whole.texts))
    verified = {recipe.arm for recipe in recipes if recipe.verified}
    kept = screen(whole.of_arms(set(whole.arms) - verified), training.max_tuned_arms)
    tuning = whole.of_arms(kept)
    data = CrossValidation(
        tuning.texts,
        tuning.quality,
        tuning.cost_usd,
        tuning.arms,
        training.seed,
        n_recorded=tuning.n_recorded,
    )
    tuned = tune(
        data,
        training.goal,
        trials=training.trials,
        seed=training.seed,
        place=training.study,
        progress=progress,
        max_seconds=training.max_tuning_s,
    )
    estimator = tuned.parameters.estimator(training.seed).fit(
        whole.texts,
        whole.quality,
        arms=whole.arms,
        completion_tokens=whole.completion_tokens,
        cost_usd=None if accuracy_only else whole.cost_usd,
    )
    screened_out = frozenset(whole.arms) - kept - verified
    utility = UtilityPolicy(
        shadow_price_per_usd=tuned.shadow_price_per_usd,
        safe_arm=tuning.arms[data.best_fixed],
        epsilon=training.epsilon,
        left_out=tuned.left_out | screened_out,
        mixture=budget_mixture(training.goal, tuned),
    )
    selected = select_policy(
        training.kind,
        data=data,
        goal=training.goal,
        tuned=tuned,
        utility=utility,
        features=lambda: estimator.predict(whole.texts).features,
        never=screened_out,
        settings=training.group,
        seed=training.seed,
    )
    policy = selected.policy
    manifest = {
        **extra,
        "created_at": created_at.isoformat(),
        "source": table.source,
        "data_hash": data_hash,
        "n_queries": len(whole.texts),
        "n_rows": len(table),
        "arms": [str(arm) for arm in table.arms],
        "derived_arms": [str(recipe.arm) for recipe in recipes],
        "accuracy_only": accuracy_only,
        "unpriced_arms": [
            str(arm)
            for arm, n_priced in zip(whole.arms, whole.recorded.sum(axis=0).tolist(), strict=True)
            if accuracy_only or not n_priced
        ],
        "goal": str(training.goal),
        "policy_kind": str(selected.kind),
        **({} if selected.contest is None else {"contest": selected.contest.to_dict()}),
        "trials": training.trials,
        "seed": training.seed,
        "shadow_price_per_usd": policy.shadow_price_per_usd,
        "mixture": None if policy.mixture is None else policy.mixture.to_dict(),
        "safe_arm": str(policy.safe_arm),
        "left_out": sorted(map(str, policy.left_out)),
        "screened_out": sorted(map(str, screened_out)),
        "epsilon": training.epsilon,
        "parameters": estimator.get_params(),
        "metrics": _metrics(data, tuned, selected, training.seed),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    }
    return assemble(estimator, policy, manifest, recipes)


def screen(matrix: OutcomeMatrix, most: int) -> frozenset[Arm]:
    """Give the arms worth tuning: all, or the ``most`` >= 1 that are among the best somewhere.

    Arms are ranked by mean utility at each of a range of shadow prices, and taken rank by rank. The
    most accurate recorded arm is always among them; unpriced arms are kept only where all are.
    """
    if len(matrix.arms) <= most:
        return frozenset(matrix.arms)
    seen = matrix.recorded
    priced = np.asarray(seen.any(axis=0))
    right = np.where(priced, column_means(matrix.quality, seen), -np.inf)
    spent = column_means(matrix.cost_usd, seen)
    recorded = np.arange(len(matrix.arms)) < matrix.n_recorded
    taken = [int(np.where(recorded, right, -np.inf).argmax())]
    positive = spent[priced & (spent > 0)]
    prices = [0.0]
    if positive.size:
        prices += np.geomspace(0.02 / positive.max(), 2.0 / positive.min(), N_PRICES).tolist()
    ranked = [np.argsort(price * spent - right, kind="stable") for price in prices]
    for rank in range(len(matrix.arms)):
        for order in ranked:
            arm = int(order[rank])
            if arm not in taken and len(taken) < most and priced[arm]:
                taken.append(arm)
    return frozenset(matrix.arms[i] for i in taken)


def budget_mixture(goal: Goal, tuned: Tuned) -> Mixture | None:
    """Mix in the next lower price as far as the budget goes, where that buys right answers.

    Costs and accuracies are cross-validated. None without a budget, or where the tuned price
    leaves nothing of it.
    """
    budget = goal.budget_usd_per_query
    ordered = sorted(tuned.frontier, key=lambda point: point.shadow_price_per_usd)
    prices = [point.shadow_price_per_usd for point in ordered]
    if budget is None or tuned.shadow_price_per_usd not in prices:
        return None
    at = prices.index(tuned.shadow_price_per_usd)
    point = ordered[at]
    dearer = next((other for other in reversed(ordered[:at]) if other.cost_usd > budget), None)
    if dearer is None or point.cost_usd >= budget or dearer.accuracy <= point.accuracy:
        return None
    share = (budget - point.cost_usd) / (dearer.cost_usd - point.cost_usd)
    return Mixture(dearer.shadow_price_per_usd, share)


def _metrics(data: CrossValidation, tuned: Tuned, selected: Selected, seed: int) -> dict[str, Any]:
    """Cross-validated value and calibration, as plain JSON."""
    quality, cost_usd = data.quality[data.rows], data.cost_usd[data.rows]
    recorded = slice(0, data.n_recorded)
    rivals = baselines(quality[:, recorded], cost_usd[:, recorded], data.arms[recorded], seed)
    return {
        "policy": replay(selected.probability, quality, cost_usd, data.arms, seed).to_dict(),
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
                "accuracy_interval": list(normal_mean(point.right)),
                "cost_usd_per_query": point.cost_usd,
            }
            for point in selected.frontier
        ],
    }


def _data_hash(table: OutcomeTable, whole: OutcomeMatrix) -> str:
    """SHA-256 of queries, arms, qualities and costs, whatever their order."""
    arms = [str(arm) for arm in whole.arms]
    lines = sorted(
        json.dumps([query_id, text, arms, *np.vstack([right, spent]).astype(str).tolist()])
        for query_id, text, right, spent in zip(
            table.query_ids, table.queries, whole.quality, whole.cost_usd, strict=True
        )
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
