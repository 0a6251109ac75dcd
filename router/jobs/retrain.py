"""Learn from the ledger again, and say whether what was learned is better than what serves.

A quarter of the questions, by a hash of their text, is held out. The policy is fitted on the
others, and its logged decisions there are used to value it and its rival off-policy: the policy in
service, or before there is one whoever made the log. Only a lower bound above zero promotes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.artifacts import assemble
from policies.base import Forecast, Limits
from policies.difficulty import fold_numbers
from policies.errors import OutcomeError
from policies.evaluation import column_means
from policies.guarantee import certified
from policies.matrix import OutcomeMatrix
from policies.offpolicy import Log, doubly_robust, robust_difference
from policies.training import train
from router.routing.chooser import ChooserSettings, adjusted
from storage.policies import policy_in_service, promote_policy, save_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from cost_models.types import Arm
    from policies.artifacts import FittedPolicy
    from policies.offpolicy import OffPolicyValue
    from policies.outcomes import OutcomeTable
    from policies.training import Training
    from policies.tuning import Goal
    from policies.utility import UtilityPolicy

PARTS = 4
N_PRICES = 24
PRICE_LOW = 0.003
PRICE_HIGH = 3.0
LEAST_RATIO = 1e-6
FULL = 0.5
"""From this share of questions with every arm's outcome on, replay tells what a price is worth."""
MOST_VARIANCE = 0.25
"""Of a grade in [0, 1]."""
LOGGED = "the logged behaviour"


@dataclass(frozen=True, slots=True)
class Terms:
    """How to retrain: at least ``min_rows`` graded answers; ``settings`` are the operator's.

    With ``delta`` in (0, 1) the accuracy target of ``training.goal`` is certified, and a policy
    without a certificate is not promoted.
    """

    training: Training
    min_rows: int = 200
    delta: float | None = None
    settings: ChooserSettings = field(default_factory=ChooserSettings)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of the new policy, of its rival, and of the new one less its rival."""

    new: OffPolicyValue
    rival: OffPolicyValue
    difference: OffPolicyValue


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to promote, and why in one sentence.

    ``figures`` has ``utility`` (right answers less the shadow price of their cost), ``accuracy``
    and ``cost_usd`` on ``n_held`` decisions; it is empty where there was none to value them on.
    """

    better: bool
    reason: str
    rival: str
    n_held: int
    figures: Mapping[str, Comparison] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give plain JSON; None stands for a bound that is not known."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


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
    verdict = compare(fitted, in_service, held, terms.settings)
    if terms.delta is not None and not _is_certified(fitted):
        reason = f"no certificate: {fitted.manifest['certificate_text']}"
        verdict = replace(verdict, better=False, reason=reason)
    return Retrained(_with(fitted, {"retraining": verdict.to_dict()}), verdict)


def compare(
    new: FittedPolicy,
    in_service: FittedPolicy | None,
    held: OutcomeTable,
    settings: ChooserSettings | None = None,
) -> Verdict:
    """Value two policies, as they would serve, on logged decisions that neither was told of.

    Only decisions with a propensity below 1 and, unless no answer has a cost, a cost are used: at 1
    there was no choice. Every arm of the log counts as offered.
    """
    settings = settings or ChooserSettings()
    rival = LOGGED if in_service is None else f"policy {in_service.version}, which is in service"
    decided = held.numbers["propensity"] < 1.0
    if not new.manifest["accuracy_only"]:
        decided &= ~np.isnan(held.numbers["cost_usd"])
    if not decided.any():
        reason = (
            "none of the answers held out comes from a choice of known propensity below 1 (and "
            "cost), so nothing can be said about other choices; let `auto` requests explore, or "
            "import outcomes with propensity"
        )
        return Verdict(better=False, reason=reason, rival=rival, n_held=0)
    logged = _Logged.of(new, held.where(decided))
    policy = adjusted(new.policy, settings)
    chosen = logged.probability(new, policy)
    before = None
    if in_service is not None:
        before = logged.probability(in_service, adjusted(in_service.policy, settings))
    price = 0.0 if new.manifest["accuracy_only"] else policy.shadow_price_per_usd
    figures = {
        "utility": logged.compare(chosen, before, 1.0, price),
        "accuracy": logged.compare(chosen, before, 1.0, 0.0),
        "cost_usd": logged.compare(chosen, before, 0.0, -1.0),
    }
    gain = figures["utility"].difference
    better = gain.low > 0
    of_what = f"right answers per question, at {price:g} of them per USD"
    if better:
        reason = f"it is worth {_interval(gain)} {of_what}, more than {rival}"
    elif not math.isfinite(gain.low):
        reason = (
            f"too few logged decisions tell it from {rival}: they are worth "
            f"{gain.effective_n:.1f} direct observations"
        )
    else:
        reason = f"its gain over {rival} may be nothing: {_interval(gain)} {of_what}"
    return Verdict(better, reason, rival, len(logged.log_arm), figures)


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


@dataclass(frozen=True, slots=True)
class _Logged:
    """Logged decisions and what is expected of every arm on their questions, row by row."""

    texts: tuple[str, ...]
    arms: tuple[Arm, ...]
    query: NDArray[np.intp]
    log_arm: NDArray[np.intp]
    propensity: NDArray[np.float64]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    expected_quality: NDArray[np.float64]
    expected_usd: NDArray[np.float64]

    @classmethod
    def of(cls, fitted: FittedPolicy, table: OutcomeTable) -> _Logged:
        """Lay out the rows of a table, all with a propensity; unknown costs count as 0."""
        query, arm = table.cells
        prediction = fitted.estimator.predict(table.queries, table.arms)
        cost_usd = np.nan_to_num(table.numbers["cost_usd"])
        expected_usd = prediction.cost_usd
        if expected_usd is None:
            expected_usd = np.zeros(prediction.quality.shape)
        return cls(
            table.queries,
            table.arms,
            query,
            arm,
            table.numbers["propensity"],
            table.quality,
            cost_usd,
            prediction.quality[query],
            expected_usd[query],
        )

    def probability(self, fitted: FittedPolicy, policy: UtilityPolicy) -> NDArray[np.float64]:
        """Give what a policy would have done on each row, shape (n, n_arms)."""
        return policy.probability(self.forecast(fitted), Limits())[self.query]

    def forecast(self, fitted: FittedPolicy) -> Forecast:
        """Give what a fitted policy expects of the questions."""
        prediction = fitted.estimator.predict(self.texts, self.arms)
        cost_usd = prediction.cost_usd
        if cost_usd is None:
            seen = np.eye(len(self.arms), dtype=bool)[self.log_arm]
            means = column_means(np.where(seen, self.cost_usd[:, None], np.nan), seen)
            cost_usd = np.broadcast_to(means, prediction.quality.shape).copy()
        return Forecast(
            arms=self.arms,
            cost_usd=cost_usd,
            quality=prediction.quality,
            in_distribution=prediction.in_distribution,
            features=prediction.features,
        )

    def log(self, right: float, price: float) -> Log:
        """Reward each decision by ``right`` times its quality less ``price`` times its cost."""
        reward = right * self.quality - price * self.cost_usd
        return Log(self.log_arm, self.propensity, reward)

    def value(self, probability: NDArray[np.float64], right: float, price: float) -> OffPolicyValue:
        """Give the mean reward of a policy."""
        expected = right * self.expected_quality - price * self.expected_usd
        return doubly_robust(self.log(right, price), probability, expected)

    def compare(
        self,
        new: NDArray[np.float64],
        old: NDArray[np.float64] | None,
        right: float,
        price: float,
    ) -> Comparison:
        """Compare the mean rewards of two policies; an ``old`` of None is whoever made the log."""
        rows = np.arange(len(self.log_arm))
        log = self.log(right, price)
        expected = right * self.expected_quality - price * self.expected_usd
        p = self.expected_quality[rows, self.log_arm].clip(0.0, 1.0)
        difference = robust_difference(
            log, new, old, expected, right**2 * p * (1.0 - p), right**2 * MOST_VARIANCE
        )
        own = np.eye(len(self.arms))[self.log_arm]
        if old is None:
            as_logged = replace(log, propensity=np.ones(len(rows)))
            rival = doubly_robust(as_logged, own, expected)
        else:
            rival = doubly_robust(log, old, expected)
        return Comparison(doubly_robust(log, new, expected), rival, difference)


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
    logged = _Logged.of(fitted, learned.where(decided))
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


def _of_safe_arm(logged: _Logged, arm: Arm) -> float:
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


def _interval(value: OffPolicyValue) -> str:
    return f"{value.estimate:+.4f} ({value.low:+.4f} to {value.high:+.4f})"


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
