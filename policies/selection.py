"""Which policy serves: the utility rule, the group-relative one, or the better of the two.

Both go by the same estimator. They are compared on the same folds, on queries that neither was
fitted on: every part of the queries is judged by policies, predictions included, that were
learned from the other parts alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.base import Forecast, Limits
from policies.cross_validation import CrossValidation, FrontierPoint
from policies.difficulty import fold_numbers
from policies.group_relative import (
    Correction,
    Groups,
    GroupSettings,
    fit_correction,
    learned_policy,
)
from policies.tuning import best_price
from policies.types import PolicyKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.cross_validation import Parameters
    from policies.tuning import Goal, Tuned
    from policies.utility import UtilityPolicy

PARTS = 3
UNFITTED = 1
"""Added to the seed of the parts, so that they cut across the folds of the estimator."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Scores of two policies on the same ``n_queries``, that neither was fitted on.

    A score is the mean of right answers less ``shadow_price_per_usd`` times cost; ``gain`` is that
    of the group-relative policy less that of the utility policy, ``gain_error`` its standard error.
    """

    shadow_price_per_usd: float
    utility: float
    group_relative: float
    gain: float
    gain_error: float
    n_queries: int

    @property
    def winner(self) -> PolicyKind:
        """The one with the higher score; the utility rule of equals."""
        return PolicyKind.GROUP_RELATIVE if self.gain > 0 else PolicyKind.UTILITY

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Selected:
    """A policy, what it does out of fold on the replayed rows, and how it was chosen.

    ``probability`` has shape (n_rows, n_arms), exploration included; ``contest`` is None where
    there was none.
    """

    kind: PolicyKind
    policy: UtilityPolicy
    probability: NDArray[np.float64]
    frontier: tuple[FrontierPoint, ...]
    contest: Contest | None = None


def select_policy(  # noqa: PLR0913 - a choice has this many sides
    kind: PolicyKind,
    *,
    data: CrossValidation,
    goal: Goal,
    tuned: Tuned,
    utility: UtilityPolicy,
    features: Callable[[], NDArray[np.float64]],
    never: frozenset[Arm] = frozenset(),
    settings: GroupSettings | None = None,
    seed: int = 0,
) -> Selected:
    """Give the utility policy that was tuned, or learn the group-relative one beside it.

    ``features`` gives those of the final estimator for the queries of ``data``. Arms in ``never``
    are left out by either policy. Both compete at the utility policy's price; where that is a
    single arm, which has none, by accuracy alone.
    """
    plain = Selected(
        PolicyKind.UTILITY,
        utility,
        utility.probability(data.forecast(tuned.predicted), Limits()),
        tuned.frontier,
    )
    if kind is PolicyKind.UTILITY:
        return plain
    left_out = data.dominated() if tuned.parameters.pruned else frozenset()
    replayed = CrossFitted.of(data, tuned.parameters, replace(utility, left_out=left_out), settings)
    point, frontier = best_price(data, goal, replayed.frontier)
    correction = learn_correction(data, tuned.predicted, features(), settings)
    learned = Selected(
        PolicyKind.GROUP_RELATIVE,
        learned_policy(
            replace(
                utility,
                shadow_price_per_usd=point.shadow_price_per_usd,
                left_out=left_out | never,
            ),
            correction,
        ),
        replayed.probability(point.shadow_price_per_usd, utility.epsilon),
        frontier,
    )
    if kind is PolicyKind.GROUP_RELATIVE:
        return learned
    fixed = len(frozenset(data.arms) - utility.left_out) == 1
    price = point.shadow_price_per_usd if fixed else utility.shadow_price_per_usd
    contest = compete(
        data,
        tuned.parameters,
        utility,
        replace(utility, shadow_price_per_usd=price, left_out=left_out),
        0.0 if fixed else price,
        settings=settings,
        seed=seed,
    )
    won = contest is not None and contest.winner is PolicyKind.GROUP_RELATIVE
    return replace(learned if won else plain, contest=contest)


def learn_correction(
    data: CrossValidation,
    predicted: NDArray[np.float64],
    features: NDArray[np.float64],
    settings: GroupSettings | None = None,
) -> Correction:
    """Learn from every query; ``predicted`` (n, n_arms) is out of fold, see `CrossValidation`."""
    groups = Groups(features, data.quality, data.cost_usd, predicted, data.expected_cost_usd)
    return fit_correction(groups, data.arms, data.prices(), settings)


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """The group-relative policy, learned for every fold from the other folds."""

    data: CrossValidation
    utility: UtilityPolicy
    parts: tuple[tuple[NDArray[np.intp], Forecast, Correction], ...]

    @classmethod
    def of(
        cls,
        data: CrossValidation,
        parameters: Parameters,
        utility: UtilityPolicy,
        settings: GroupSettings | None = None,
    ) -> CrossFitted:
        """Learn a correction for every fold; ``utility`` says how to explore and play safe."""
        predicted = data.predict(parameters)
        whole = data.forecast(predicted)
        place = np.full(len(data.quality), -1)
        place[data.rows] = np.arange(len(data.rows))
        parts = []
        groups = Groups(
            np.zeros((len(place), 0)),
            data.quality,
            data.cost_usd,
            predicted,
            data.expected_cost_usd,
        )
        for fold in data.folds(parameters):
            learned = groups.rows(fold.train, fold.x_train)
            correction = fit_correction(learned, data.arms, data.prices(), settings)
            replayed = place[fold.test] >= 0
            at = place[fold.test[replayed]]
            forecast = replace(
                whole,
                cost_usd=whole.cost_usd[at],
                quality=predicted[fold.test[replayed]],
                offered=data.recorded[fold.test[replayed]],
                features=fold.x_test[replayed],
            )
            parts.append((at, forecast, correction))
        return cls(data, utility, tuple(parts))

    def probability(self, price_per_usd: float, epsilon: float = 0.0) -> NDArray[np.float64]:
        """Give what the policy does out of fold on the replayed rows, shape (n_rows, n_arms)."""
        found = np.zeros((len(self.data.rows), len(self.data.arms)))
        utility = replace(self.utility, epsilon=epsilon, shadow_price_per_usd=price_per_usd)
        for at, forecast, correction in self.parts:
            policy = learned_policy(utility, correction)
            found[at] = policy.probability(forecast, Limits())
        return found

    def frontier(self, prices: Sequence[float]) -> tuple[FrontierPoint, ...]:
        """Replay it, without exploring, at each shadow price."""
        rows = self.data.rows
        right, spent = (np.nan_to_num(v[rows]) for v in (self.data.quality, self.data.cost_usd))
        points = []
        for price in prices:
            p = self.probability(price)
            points.append(FrontierPoint(price, (p * right).sum(axis=1), (p * spent).sum(axis=1)))
        return tuple(points)


def compete(  # noqa: PLR0913 - a comparison has this many sides
    data: CrossValidation,
    parameters: Parameters,
    utility: UtilityPolicy,
    rival: UtilityPolicy,
    price_per_usd: float,
    *,
    settings: GroupSettings | None = None,
    seed: int = 0,
) -> Contest | None:
    """Score both policies at a price, without exploring, part by part.

    ``rival`` is the rule that the group-relative policy is learned beside, with its price. The
    estimator's parameters and prices are those tuned on all queries. None where there is nothing
    to hold out.
    """
    number = fold_numbers(data.texts, PARTS, seed + UNFITTED)
    rule = replace(utility, epsilon=0.0, mixture=None)
    scores = []
    for part in np.unique(number):
        held = data.rows[number[data.rows] == part]
        rest = np.flatnonzero(number != part)
        if len(held) and data.recorded[rest].any():
            correction, forecast = _fresh(data, parameters, rest, held, settings, seed)
            learned = learned_policy(replace(rival, epsilon=0.0), correction)
            worth = data.quality[held] - price_per_usd * data.cost_usd[held]
            scores.append([_worth(policy, forecast, worth) for policy in (rule, learned)])
    if not scores:
        return None
    by_rule, by_learning = (np.concatenate(part) for part in zip(*scores, strict=True))
    gain = by_learning - by_rule
    return Contest(
        price_per_usd,
        float(by_rule.mean()),
        float(by_learning.mean()),
        float(gain.mean()),
        float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else 0.0,
        len(gain),
    )


def _fresh(  # noqa: PLR0913, PLR0917 - what `compete` was given
    data: CrossValidation,
    parameters: Parameters,
    rest: NDArray[np.intp],
    held: NDArray[np.intp],
    settings: GroupSettings | None,
    seed: int,
) -> tuple[Correction, Forecast]:
    """Learn everything from the queries ``rest``, and forecast those that were ``held`` out."""
    part = data.of_queries(rest)
    estimator = parameters.estimator(seed).fit(
        part.texts, part.quality, arms=data.arms, cost_usd=part.cost_usd
    )
    features = estimator.predict(part.texts, data.arms).features
    correction = learn_correction(part, part.predict(parameters), features, settings)
    fresh = estimator.predict([data.texts[i] for i in held], data.arms)
    forecast = Forecast(
        arms=data.arms,
        cost_usd=np.zeros(fresh.quality.shape) if fresh.cost_usd is None else fresh.cost_usd,
        quality=fresh.quality,
        offered=data.recorded[held],
        features=fresh.features,
    )
    return correction, forecast


def _worth(
    policy: UtilityPolicy, forecast: Forecast, worth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give the expected worth of a policy's choice, shape (n,)."""
    probability = policy.probability(forecast, Limits())
    return np.asarray((probability * np.nan_to_num(worth)).sum(axis=1))
