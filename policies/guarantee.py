"""A fitted policy with a promise: tuned on one part of the queries, certified on another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.artifacts import assemble
from policies.assessment import forecast_of, served_matrix
from policies.base import Limits
from policies.certificates import certify
from policies.difficulty import fold_numbers
from policies.errors import OutcomeError
from policies.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from policies.artifacts import FittedPolicy
    from policies.outcomes import OutcomeTable
    from policies.training import Training

N_STEPS = 40
PARTS = 4
PRICE_LOW = 0.01
PRICE_HIGH = 2.0
LEAST_RATIO = 1e-6


def train_certified(  # noqa: PLR0913 - a fit with a promise has this many sides
    table: OutcomeTable,
    training: Training,
    delta: float,
    *,
    created_at: datetime,
    progress: Callable[[int, int, float], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> FittedPolicy:
    """Fit on three quarters of the queries, by a hash of their text, and certify on the last.

    ``training.goal`` has the accuracy target. The certificate is in the manifest under
    ``certificate``; where it is given, the policy serves at the cheapest certified shadow price.
    Raises OutcomeError where either part has nothing to work with.
    """
    number = fold_numbers(table.queries, PARTS, training.seed)
    ids = np.array(table.query_ids, dtype=object)
    learned = table.of_queries(ids[number > 0].tolist())
    held = table.of_queries(ids[number == 0].tolist())
    fitted = train(learned, training, created_at=created_at, progress=progress, extra=extra)
    target = training.goal.accuracy_target
    if target is None:
        msg = "a certificate is for an accuracy target"
        raise ValueError(msg)
    return certified(fitted, held, target, delta, training.seed)


def certified(
    fitted: FittedPolicy, held: OutcomeTable, accuracy_target: float, delta: float, seed: int = 0
) -> FittedPolicy:
    """Certify a policy on queries that it was not fitted on, and serve at what was certified.

    The policies walked are the utility rule at ascending shadow prices, exploration included: what
    each query's answer is worth is that of an arm drawn as in service.
    """
    data = served_matrix(fitted, held, seed=seed)
    if np.isnan(data.cost_usd).all():
        data = data.without_costs()
    data = data.rows(np.flatnonzero(data.recorded.any(axis=1)))
    if not len(data.texts):
        msg = "no query is left to certify on; bring more graded queries"
        raise OutcomeError(held.source, msg)
    forecast = forecast_of(fitted, data)
    uniform = np.random.default_rng(seed).random(len(data.texts))
    walked = []
    prices = _ascending(fitted, forecast.cost_usd[data.recorded])
    for price in prices:
        policy = replace(fitted.policy, shadow_price_per_usd=price, accuracy_target=None)
        probability = policy.probability(forecast, Limits())
        arm = (probability.cumsum(axis=1) < uniform[:, None] * (1.0 - 1e-12)).sum(axis=1)
        walked.append(data.quality[np.arange(len(arm)), arm])
    certificate = certify(walked, accuracy_target, delta)
    policy = fitted.policy
    if certificate.index is not None:
        price = prices[certificate.index]
        policy = replace(policy, shadow_price_per_usd=price, accuracy_target=None)
    manifest = {
        **{name: value for name, value in fitted.manifest.items() if name != "version"},
        "shadow_price_per_usd": policy.shadow_price_per_usd,
        "certificate": certificate.to_dict(),
        "certificate_text": str(certificate),
    }
    return assemble(fitted.estimator, policy, manifest, fitted.recipes)


def _ascending(
    fitted: FittedPolicy, cost_usd: np.ndarray[Any, np.dtype[np.float64]]
) -> list[float]:
    """Shadow prices from 0, the most accurate, to the cheapest; they depend on no outcome held."""
    high = float(cost_usd.max(initial=0.0))
    if high <= 0:
        return [0.0]
    low = max(float(cost_usd.min()), high * LEAST_RATIO)
    grid = np.geomspace(PRICE_LOW / high, PRICE_HIGH / low, N_STEPS).tolist()
    tuned = fitted.policy.shadow_price_per_usd
    return sorted({0.0, *grid, tuned})
