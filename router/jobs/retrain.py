"""Learn from the ledger again, and say whether what was learned is better than what serves.

A quarter of the questions, by a hash of their text, is held out. The policy is fitted on the
others, and its logged decisions there are used to value it and its rival off-policy: the policy in
service, or before there is one whoever made the log. Only a lower bound above zero promotes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.artifacts import assemble
from policies.base import Limits
from policies.difficulty import fold_numbers
from policies.errors import OutcomeError
from policies.guarantee import certified
from policies.matrix import OutcomeMatrix
from policies.training import train
from router.jobs.valuation import Logged, compare
from router.routing.chooser import ChooserSettings
from storage.policies import policy_in_service, promote_policy, save_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from cost_models.types import Arm
    from policies.artifacts import FittedPolicy
    from policies.outcomes import OutcomeTable
    from policies.training import Training
    from policies.tuning import Goal
    from policies.types import Offered
    from router.jobs.valuation import Verdict

PARTS = 4
N_PRICES = 24
PRICE_LOW = 0.003
PRICE_HIGH = 3.0
LEAST_RATIO = 1e-6
FULL = 0.5
"""From this share of questions with every arm's outcome on, replay tells what a price is worth."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How to retrain: at least ``min_rows`` graded answers; ``settings`` are the operator's.

    ``offered`` says by query what the logged decisions were made among; of others, every arm.
    With ``delta`` in (0, 1) the accuracy target of ``training.goal`` is certified, and a policy
    without a certificate is not promoted.
    """

    training: Training
    min_rows: int = 200
    delta: float | None = None
    settings: ChooserSettings = field(default_factory=ChooserSettings)
    offered: Mapping[str, Offered] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Retrained:
    """A fitted policy, with its verdict also in its manifest under ``retraining``."""

    fitted: FittedPolicy
    verdict: Verdict


def retrain(
    table: OutcomeTable,
    in_service: FittedPolicy | None,
    terms: Terms,
    *,
    created_at: datetime,
    progress: Callable[[int, int, float], None] | None = None,
) -> Retrained:
    """Fit on graded answers and compare; OutcomeError if there are too few of them."""
    if len(table) < terms.min_rows:
        msg = (
            f"{len(table)} graded answers are too few to retrain on, {terms.min_rows} are asked "
            "for; grade more (POST /v1/feedback), widen --since, or lower --min-rows"
        )
        raise OutcomeError(table.source, msg)
    training = terms.training
    part = fold_numbers(table.queries, PARTS, training.seed)
    certifying = (part == 1) & _complete(table) & (terms.delta is not None)
    held = _of(table, part == 0)
    learned = _of(table, (part != 0) & ~certifying)
    if not len(held) or not len(learned):
        msg = "the graded answers are to too few different questions to hold some of them out"
        raise OutcomeError(table.source, msg)
    fitted = train(learned, training, created_at=created_at, progress=progress)
    fitted = _priced(fitted, learned, training.goal)
    if terms.delta is not None:
        fitted = _certified(fitted, _of(table, certifying), training, terms.delta)
    verdict = compare(fitted, in_service, held, terms.settings, terms.offered)
    if terms.delta is not None and not _is_certified(fitted):
        reason = f"no certificate: {fitted.manifest['certificate_text']}"
        verdict = replace(verdict, better=False, reason=reason)
    return Retrained(_with(fitted, {"retraining": verdict.to_dict()}), verdict)


def put(  # noqa: PLR0913 - a policy, what it beat, and when
    session: Session,
    made: Retrained,
    artifact: bytes,
    beaten: str | None,
    now: datetime,
    *,
    promote: bool,
) -> bool:
    """Keep a policy and give whether it was promoted; the caller commits.

    It is if it is better and wanted, and version ``beaten`` (None for none) is in service still.
    """
    save_policy(session, made.fitted.version, artifact, made.fitted.manifest, now)
    present = policy_in_service(session)
    same = (None if present is None else present.version) == beaten
    if not (promote and made.verdict.better and same):
        return False
    promote_policy(session, made.fitted.version, now)
    return True


def _priced(fitted: FittedPolicy, learned: OutcomeTable, goal: Goal) -> FittedPolicy:
    """Set the shadow price off-policy where most questions have the outcome of a few arms alone.

    Replay cannot tell one price from another there: it can only pick what was recorded. The price
    is that of the least cost that keeps the goal's accuracy: its target, or else that of the best
    fixed arm; where none does, that of the best accuracy. A budget is kept likewise.
    """
    decided = ~np.isnan(learned.numbers["propensity"] + learned.numbers["cost_usd"])
    sparse = _complete(learned).mean() < FULL
    if goal.shadow_price_per_usd is not None or not sparse or not decided.any():
        return fitted
    logged = Logged.of(fitted, learned.where(decided))
    forecast = logged.forecast(fitted)
    points = []
    for price in _prices(forecast.cost_usd):
        policy = replace(fitted.policy, shadow_price_per_usd=price)
        probability = policy.probability(forecast, Limits())[logged.query]
        right = logged.value(probability, 1.0, 0.0).estimate
        points.append((price, right, logged.value(probability, 0.0, -1.0).estimate))
    budget = goal.budget_usd_per_query
    if budget is not None:
        within = [point for point in points if point[2] <= budget]
        price = max(within, key=lambda point: point[1])[0] if within else points[-1][0]
    else:
        needed = goal.accuracy_target or _of_safe_arm(logged, fitted.policy.safe_arm)
        reaching = [point for point in points if point[1] >= needed]
        best = min(reaching, key=lambda point: point[2]) if reaching else None
        price = (best or max(points, key=lambda point: point[1]))[0]
    policy = replace(fitted.policy, shadow_price_per_usd=price)
    return _with(replace(fitted, policy=policy), {"shadow_price_per_usd": price})


def _of_safe_arm(logged: Logged, arm: Arm) -> float:
    if arm not in logged.arms:
        return float("inf")
    always = np.tile(np.eye(len(logged.arms))[logged.arms.index(arm)], (len(logged.log_arm), 1))
    return logged.value(always, 1.0, 0.0).estimate


def _prices(cost_usd: NDArray[np.float64]) -> Sequence[float]:
    high = float(cost_usd.max())
    if high <= 0:
        return [0.0]
    low = max(float(cost_usd.min()), high * LEAST_RATIO)
    return [0.0, *np.geomspace(PRICE_LOW / high, PRICE_HIGH / low, N_PRICES).tolist()]


def _certified(
    fitted: FittedPolicy, held: OutcomeTable, training: Training, delta: float
) -> FittedPolicy:
    """Certify on questions with the outcome of every arm: only there any choice can be replayed."""
    target = training.goal.accuracy_target
    if target is None:
        msg = "a certificate is for an accuracy target"
        raise ValueError(msg)
    if not len(held):
        text = (
            "no question has a priced outcome of every arm; import some (see rheostat collect), "
            "since what an arm that was not asked would have said cannot be certified"
        )
        return _with(fitted, {"certificate": None, "certificate_text": text})
    return certified(fitted, held, target, delta, training.seed)


def _is_certified(fitted: FittedPolicy) -> bool:
    certificate = fitted.manifest.get("certificate")
    return certificate is not None and certificate["index"] is not None


def _complete(table: OutcomeTable) -> NDArray[np.bool_]:
    """Which questions have quality and cost of every arm, shape (n_queries,)."""
    return np.asarray(OutcomeMatrix.of(table).recorded.all(axis=1))


def _of(table: OutcomeTable, queries: NDArray[np.bool_]) -> OutcomeTable:
    return table.where(queries[table.cells[0]])


def _with(fitted: FittedPolicy, facts: Mapping[str, Any]) -> FittedPolicy:
    """Add facts to a manifest, which gives another version."""
    manifest = {**fitted.manifest, **facts}
    manifest.pop("version", None)
    return assemble(fitted.estimator, fitted.policy, manifest, fitted.recipes)
