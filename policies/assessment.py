"""How a fitted policy does on recorded outcomes: value, rivals, frontier, calibration.

Exploration is off: what is judged is the rule. Arms without recorded cost are left out of it, or,
where no arm has a cost, accuracy alone is judged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.types import Arm
from policies.base import Forecast, Limits
from policies.errors import OutcomeError
from policies.evaluation import (
    SOURCE,
    baselines,
    bootstrap_mean,
    bootstrap_means,
    calibration,
    column_means,
    replay,
)
from policies.gates import cheap_routed
from policies.matrix import OutcomeMatrix
from policies.metrics import average_improvement, gap_recovery, iso_quality_saving
from policies.utility import Mixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from policies.artifacts import FittedPolicy
    from policies.outcomes import OutcomeTable
    from policies.predictor import Prediction

N_POINTS = 160
MIXED_STEP = 0.02
MAX_MIXED = 19
PRICE_LOW = 0.003
PRICE_HIGH = 3.0
LEAST_RATIO = 1e-6
TWO = 2

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """What may be chosen in an assessment.

    ``arms`` are the recorded arms on offer, None for all; recipes need all their stages among
    them. ``verified`` offers cascades that an exact verifier stops.
    """

    arms: tuple[Arm, ...] | None = None
    verified: bool = False


def assess(
    fitted: FittedPolicy, table: OutcomeTable, offer: Offer | None = None, seed: int = 0
) -> Plain:
    """Judge a policy on outcomes; gives one JSON document.

    Keys: ``n_queries``, ``accuracy_only``, ``policy``, ``baselines`` (of recorded arms),
    ``frontier``, ``aiq``, ``cheap`` (None without a gate), ``apgr``, ``cpt50``, ``cpt80`` (None
    unless exactly two recorded arms are on offer), ``calibration`` by arm, ``iso_quality_saving``,
    ``unpriced_arms``. Costs are None where accuracy alone is judged. Raises OutcomeError if
    nothing is left to judge.
    """
    return _Assessment(fitted, table, offer or Offer(), seed).document()


def served_matrix(
    fitted: FittedPolicy, table: OutcomeTable, offer: Offer | None = None, seed: int = 0
) -> OutcomeMatrix:
    """Lay out recorded outcomes with the recipes of a policy, as far as they are on offer."""
    offer = offer or Offer()
    offered = set(table.arms if offer.arms is None else offer.arms)
    part = table.of_arms(offered)
    if not len(part):
        msg = "none of the arms on offer has an outcome; see --arms"
        raise OutcomeError(SOURCE, msg)
    recipes = [
        recipe
        for recipe in fitted.recipes
        if set(recipe.stages) <= offered and (offer.verified or not recipe.verified)
    ]
    return OutcomeMatrix.of(part, recipes, seed=seed)


def forecast_of(
    fitted: FittedPolicy, data: OutcomeMatrix, prediction: Prediction | None = None
) -> Forecast:
    """Forecast recorded queries; only arms with recorded quality and cost are offered."""
    if prediction is None:
        prediction = fitted.estimator.predict(data.texts, data.arms)
    return Forecast(
        arms=data.arms,
        cost_usd=_expected_cost(prediction, data),
        quality=prediction.quality,
        in_distribution=prediction.in_distribution,
        offered=data.recorded,
        features=prediction.features,
    )


class _Assessment:
    def __init__(self, fitted: FittedPolicy, table: OutcomeTable, offer: Offer, seed: int) -> None:
        whole = served_matrix(fitted, table, offer, seed)
        self.accuracy_only = bool(np.isnan(whole.cost_usd).all())
        if self.accuracy_only:
            whole = whole.without_costs()
        priced = {whole.arms[i] for i in np.flatnonzero(whole.recorded.any(axis=0)).tolist()}
        self.unpriced = [str(arm) for arm in whole.arms if arm not in priced]
        rows = np.flatnonzero(whole.recorded.any(axis=1))
        self.everything = whole.rows(rows)
        self.data = self.everything.of_arms(priced)
        if not len(rows):
            msg = "no outcome has both a quality and a cost"
            raise OutcomeError(SOURCE, msg)
        self.fitted = fitted
        self.policy = replace(fitted.policy, epsilon=0.0)
        self.seed = seed
        self.prediction = fitted.estimator.predict(self.data.texts, self.data.arms)
        self.forecast = forecast_of(fitted, self.data, self.prediction)
        self.valued = self.policy.valued(self.forecast)
        self.n_recorded = self.data.n_recorded

    def document(self) -> Plain:
        data = self.data
        points = self._frontier()
        accuracy = np.array([point["accuracy"] for point in points])
        cost = np.array([point["cost_usd_per_query"] for point in points])
        recorded = slice(0, self.n_recorded)
        rivals: dict[str, Plain] = {
            name: rival.to_dict()
            for name, rival in baselines(
                data.quality[:, recorded],
                data.cost_usd[:, recorded],
                data.arms[recorded],
                self.seed,
            ).items()
        }
        best, low, high = (rivals[name] for name in ("best_fixed", "cheapest", "largest"))
        gap = self._gap()
        document: Plain = {
            "n_queries": len(data.texts),
            "accuracy_only": self.accuracy_only,
            "policy": self._policy(),
            "baselines": rivals,
            "frontier": points,
            "aiq": average_improvement(
                np.append(cost, low["cost_usd_per_query"]),
                np.append(accuracy, low["accuracy"]),
                min(float(cost.min()), low["cost_usd_per_query"]),
                high["cost_usd_per_query"],
            ),
            "apgr": None if gap is None else gap.apgr,
            "cpt50": None if gap is None else gap.cpt50,
            "cpt80": None if gap is None else gap.cpt80,
            "calibration": self._calibration(),
            "iso_quality_saving": iso_quality_saving(
                cost, accuracy, best["cost_usd_per_query"], best["accuracy"]
            ),
            "unpriced_arms": self.unpriced,
            "cheap": self._cheap(),
        }
        if self.accuracy_only:
            for part in (document["policy"], *rivals.values(), *points):
                for name in ("cost_usd_per_query", "cost_interval", "usd_per_correct"):
                    if name in part:
                        part[name] = None
        return document

    def _policy(self) -> Plain:
        probability = self.policy.probability(self.forecast, Limits())
        value = replay(
            probability, self.data.quality, self.data.cost_usd, self.data.arms, self.seed
        ).to_dict()
        calls = (probability * np.nan_to_num(self.data.calls)).sum(axis=1)
        return {**value, "calls_per_query": float(calls.mean())}

    def _cheap(self) -> Plain | None:
        """Tell what a gate lets through, beside its promise; None without a gate."""
        if self.policy.gate is None:
            return None
        sent, wrong = cheap_routed(self.policy, self.forecast, self.data)
        n = int(sent.sum())
        interval = list(bootstrap_mean(wrong[sent], self.seed)) if n else None
        return {
            "share": n / len(sent),
            "error": float(wrong[sent].mean()) if n else None,
            "error_interval": interval,
            "allowance": self.fitted.manifest["gate"]["allowance"],
        }

    def _frontier(self) -> list[Plain]:
        """Replay the policy at shadow prices from 0 to where only the cheapest is left."""
        gap = self._two_arms()
        if self.accuracy_only and gap is not None:
            return self._shares(*gap)
        screened_out = frozenset(map(Arm.parse, self.fitted.manifest.get("screened_out", ())))
        free = replace(
            self.policy, accuracy_target=None, left_out=screened_out, gate=None, mixture=None
        )
        found = []
        for price in self._prices():
            policy = replace(free, shadow_price_per_usd=price)
            found.append((price, self._values(policy.probability(self.forecast, Limits()))))
        return self._with_mixtures(found)

    def _values(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the expected quality, cost and calls of each query, shape (3, n_queries)."""
        data = self.data
        parts = (data.quality, data.cost_usd, data.calls)
        return np.array([(probability * np.nan_to_num(part)).sum(axis=1) for part in parts])

    def _with_mixtures(self, found: Sequence[tuple[float, NDArray[np.float64]]]) -> list[Plain]:
        """Lay out the points, and mixtures of neighbours where their costs lie far apart.

        What is told of a mixture is its expectation. At neighbouring prices the utility rule is on
        the hull of what was predicted, so a mixture of the two is the optimum of the linear
        program there.
        """
        means = [float(values[1].mean()) for _, values in found]
        step = MIXED_STEP * (max(means) - min(means))
        points: list[tuple[Plain, NDArray[np.float64]]] = []
        for i, (price, values) in enumerate(found):
            points.append(({"shadow_price": price}, values))
            if i + 1 < len(found) and means[i] - means[i + 1] > step > 0:
                other, cheaper = found[i + 1]
                n = min(MAX_MIXED, int((means[i] - means[i + 1]) / step))
                for share in (np.arange(1, n + 1) / (n + 1)).tolist():
                    named = {"shadow_price": price, "mixture": Mixture(other, share).to_dict()}
                    points.append((named, (1.0 - share) * values + share * cheaper))
        rights = np.column_stack([values[0] for _, values in points])
        intervals = bootstrap_means(rights, self.seed)
        return [
            {
                **named,
                "accuracy": float(values[0].mean()),
                "accuracy_interval": list(interval),
                "cost_usd_per_query": float(values[1].mean()),
                "calls_per_query": float(values[2].mean()),
            }
            for (named, values), interval in zip(points, intervals, strict=True)
        ]

    def _shares(self, weak: int, strong: int) -> list[Plain]:
        """Accuracy-only frontier of two arms: the shadow price is what a strong call must gain."""
        gain = self.valued[:, strong] - self.valued[:, weak]
        quality = self.data.quality
        points = []
        for price in np.quantile(gain, np.linspace(0.0, 1.0, N_POINTS)).tolist():
            sent = gain >= price
            right = np.where(sent, quality[:, strong], quality[:, weak])
            points.append(
                {
                    "shadow_price": float(price),
                    "accuracy": float(right.mean()),
                    "cost_usd_per_query": 0.0,
                    "strong_share": float(sent.mean()),
                }
            )
        return points

    def _prices(self) -> list[float]:
        cost = self.forecast.cost_usd[self.data.recorded]
        high = float(cost.max())
        if high <= 0:
            return [0.0] * N_POINTS
        low = max(float(cost.min()), high * LEAST_RATIO)
        return [0.0, *np.geomspace(PRICE_LOW / high, PRICE_HIGH / low, N_POINTS - 1).tolist()]

    def _two_arms(self) -> tuple[int, int] | None:
        """Weak and strong of exactly two recorded arms that both saw every query."""
        if self.n_recorded != TWO or not self.data.recorded[:, :TWO].all():
            return None
        means = column_means(self.data.quality[:, :TWO], self.data.recorded[:, :TWO])
        strong = int(means.argmax())
        return 1 - strong, strong

    def _gap(self) -> Any:  # noqa: ANN401 - GapRecovery or None
        two = self._two_arms()
        if two is None:
            return None
        weak, strong = two
        gain = self.valued[:, strong] - self.valued[:, weak]
        return gap_recovery(gain, self.data.quality[:, weak], self.data.quality[:, strong])

    def _calibration(self) -> dict[str, Plain]:
        data = self.everything
        predicted = self.fitted.estimator.predict(data.texts, data.arms).quality
        found = {}
        for i, arm in enumerate(data.arms[: data.n_recorded]):
            if not np.isnan(data.quality[:, i]).all():
                found[str(arm)] = calibration(predicted[:, i], data.quality[:, i]).to_dict()
        return found


def _expected_cost(prediction: Prediction, data: OutcomeMatrix) -> NDArray[np.float64]:
    """Take expected costs; where the estimator has none, what the arms cost on average."""
    if prediction.cost_usd is not None:
        return prediction.cost_usd
    means = column_means(data.cost_usd, data.recorded)
    return np.broadcast_to(means, data.quality.shape).copy()


def cheapest_reaching(document: Plain, accuracy: float) -> float | None:
    """Least USD per query at which a document's frontier has ``accuracy``; None if it has not."""
    costs = [
        point["cost_usd_per_query"]
        for point in document["frontier"]
        if point["accuracy"] >= accuracy
    ]
    return min(costs) if costs else None


def most_accurate_within(document: Plain, cost_usd: float) -> float | None:
    """Highest accuracy of a document's frontier at a cost of at most ``cost_usd`` per query."""
    found: Sequence[float] = [
        point["accuracy"]
        for point in document["frontier"]
        if point["cost_usd_per_query"] <= cost_usd
    ]
    return max(found) if found else None
