"""A fitted policy with a promise: tuned on one part of the queries, certified on another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.types import Arm
from policies.artifacts import assemble
from policies.assessment import forecast_of, served_matrix
from policies.base import Limits
from policies.certificates import certify
from policies.difficulty import fold_numbers
from policies.errors import OutcomeError
from policies.gates import CLOSED, cheap_gate, cheap_routed
from policies.training import train
from policies.tuning import Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from policies.artifacts import FittedPolicy
    from policies.base import Forecast
    from policies.matrix import OutcomeMatrix
    from policies.outcomes import OutcomeTable
    from policies.training import Training
    from policies.utility import UtilityPolicy

DELTA = 0.1
N_STEPS = 40
PARTS = 4
PRICE_LOW = 0.01
PRICE_HIGH = 2.0
LEAST_RATIO = 1e-6


def train_certified(  # noqa: PLR0913 - a fit with a promise has this many sides
    table: OutcomeTable,
    training: Training,
    delta: float | None,
    *,
    cheap_error: float | None = None,
    created_at: datetime,
    progress: Callable[[int, int, float], None] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> FittedPolicy:
    """Fit on part of the queries, by a hash of their text, and promise on quarters held out.

    Without ``cheap_error`` the accuracy target of ``training.goal`` is certified. The certificate
    is in the manifest under ``certificate``; where it is given, the policy serves at the cheapest
    certified shadow price. With ``cheap_error``, the error that is allowed among queries sent to
    arms other than the safe one, half of the queries set the gate (see `gated`), or a quarter where
    there is a ``delta`` and an accuracy target: that is then certified, with the gate, on another
    quarter. The gate of a ``delta`` of None is for 0.1. Raises OutcomeError where a part has
    nothing to work with.
    """
    number = fold_numbers(table.queries, PARTS, training.seed)
    ids = np.array(table.query_ids, dtype=object)
    target = None if delta is None else training.goal.accuracy_target
    if target is cheap_error is None:
        msg = "a certificate is for an accuracy target or for the error of cheap arms"
        raise ValueError(msg)
    held = number == 0
    gating = np.zeros(len(number), dtype=bool)
    if cheap_error is not None:
        gating = number == 1 if target is not None else number < PARTS // 2
        held &= target is not None
    learned = table.of_queries(ids[~(held | gating)].tolist())
    fitted = train(learned, training, created_at=created_at, progress=progress, extra=extra)
    if cheap_error is not None:
        part = table.of_queries(ids[gating].tolist())
        free = training.goal == Goal()
        fitted = gated(fitted, part, cheap_error, delta or DELTA, free=free)
    if target is None or delta is None:
        return fitted
    return certified(fitted, table.of_queries(ids[held].tolist()), target, delta, training.seed)


def certified(
    fitted: FittedPolicy, held: OutcomeTable, accuracy_target: float, delta: float, seed: int = 0
) -> FittedPolicy:
    """Certify a policy on queries that it was not fitted on, and serve at what was certified.

    The policies walked are the utility rule at ascending shadow prices, exploration included: what
    each query's answer is worth is that of an arm drawn as in service.
    """
    data, forecast = _replayable(fitted, held, seed)
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
    facts = {"certificate": certificate.to_dict(), "certificate_text": str(certificate)}
    return _with(fitted, policy, facts)


def gated(
    fitted: FittedPolicy,
    held: OutcomeTable,
    allowance: float,
    delta: float,
    *,
    free: bool = False,
) -> FittedPolicy:
    """Give a policy the widest gate that bounds the error among what it sends to cheap arms.

    Cheap is every arm but the safe one. The gate of the manifest, and ``gate_text``, say what was
    promised of the rule; what exploration picks is left out. With ``free``, nothing else being
    asked of the policy, the cheapest arm that passes is picked.

    Raises OutcomeError if nothing is left to test on.
    """
    data, forecast = _replayable(fitted, held, 0)
    price, left_out = fitted.policy.shadow_price_per_usd, fitted.policy.left_out
    if free:
        left_out = frozenset(map(Arm.parse, fitted.manifest.get("screened_out", ())))
    if free and len(prices := _ascending(fitted, forecast.cost_usd[data.recorded])) > 1:
        price = prices[-1]
    policy = replace(fitted.policy, shadow_price_per_usd=price, left_out=left_out)
    score = _cheap_score(policy, forecast)
    found = cheap_gate(_routed(policy, forecast, data), score, allowance, delta)
    policy = replace(policy, gate=found.threshold if found.given else CLOSED)
    return _with(fitted, policy, {"gate": found.to_dict(), "gate_text": str(found)})


def _cheap_score(policy: UtilityPolicy, forecast: Forecast) -> NDArray[np.float64]:
    """Give the highest predicted quality of a cheap arm, shape (n,); -1 where there is none."""
    cheap = np.array([name != policy.safe_arm for name in forecast.arms], dtype=bool)
    among = forecast.feasible(Limits()) & cheap
    quality = np.full(among.shape, -1.0) if forecast.quality is None else forecast.quality
    return np.asarray(np.where(among, quality, -1.0).max(axis=1))


def _routed(
    policy: UtilityPolicy, forecast: Forecast, data: OutcomeMatrix
) -> Callable[[float], tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    return lambda gate: cheap_routed(replace(policy, gate=gate), forecast, data)


def _replayable(
    fitted: FittedPolicy, held: OutcomeTable, seed: int
) -> tuple[OutcomeMatrix, Forecast]:
    data = served_matrix(fitted, held, seed=seed)
    if np.isnan(data.cost_usd).all():
        data = data.without_costs()
    data = data.rows(np.flatnonzero(data.recorded.any(axis=1)))
    if not len(data.texts):
        msg = "no query is left to certify on; bring more graded queries"
        raise OutcomeError(held.source, msg)
    return data, forecast_of(fitted, data)


def _with(fitted: FittedPolicy, policy: UtilityPolicy, facts: Mapping[str, Any]) -> FittedPolicy:
    manifest = {
        **{name: value for name, value in fitted.manifest.items() if name != "version"},
        "shadow_price_per_usd": policy.shadow_price_per_usd,
        **facts,
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
