"""What policies are worth on logged decisions: one against another, with intervals."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.base import Forecast, Limits
from policies.evaluation import column_means
from policies.offpolicy import Log, doubly_robust, robust_difference, snips
from router.routing.chooser import ChooserSettings, adjusted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.artifacts import FittedPolicy
    from policies.offpolicy import OffPolicyValue
    from policies.outcomes import OutcomeTable
    from policies.types import Offered
    from policies.utility import UtilityPolicy

MOST_VARIANCE = 0.25
"""Of a grade in [0, 1]."""
LOGGED = "the logged behaviour"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of the new policy, of its rival, and of the new one less its rival.

    Doubly robust; ``plain`` is the new policy's by SNIPS, without predictions.
    """

    new: OffPolicyValue
    rival: OffPolicyValue
    difference: OffPolicyValue
    plain: OffPolicyValue

    def by_method(self) -> Mapping[str, OffPolicyValue]:
        """Give all of them with names for people."""
        return {
            "SNIPS": self.plain,
            "doubly robust": self.new,
            "of the rival": self.rival,
            "difference": self.difference,
        }


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


def compare(
    new: FittedPolicy,
    in_service: FittedPolicy | None,
    held: OutcomeTable,
    settings: ChooserSettings | None = None,
    offered: Mapping[str, Offered] | None = None,
) -> Verdict:
    """Value two policies, as they would serve, on logged decisions that neither was told of.

    Only decisions with a propensity below 1 and, unless no answer has a cost, a cost are used: at 1
    there was no choice. What was offered is given by query; of others, every arm of the log.
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
    logged = Logged.of(new, held.where(decided), offered)
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


@dataclass(frozen=True, slots=True)
class Logged:
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
    offered: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        fitted: FittedPolicy,
        table: OutcomeTable,
        offered: Mapping[str, Offered] | None = None,
    ) -> Logged:
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
            _offered(table, offered or {}),
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
            offered=self.offered,
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
        robust = doubly_robust(log, new, expected)
        return Comparison(robust, rival, difference, snips(log, new))


def _offered(table: OutcomeTable, offered: Mapping[str, Offered]) -> NDArray[np.bool_]:
    """Which arms each query could be answered by, shape (n_queries, n_arms).

    What was picked was offered, too.
    """
    query, arm = table.cells
    allowed = np.ones((len(table.queries), len(table.arms)), dtype=bool)
    for i, name in enumerate(table.query_ids):
        if name in offered:
            among = set(offered[name].arms)
            allowed[i] = [one in among for one in table.arms]
    allowed[query, arm] = True
    return allowed


def _interval(value: OffPolicyValue) -> str:
    return f"{value.estimate:+.4f} ({value.low:+.4f} to {value.high:+.4f})"


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
