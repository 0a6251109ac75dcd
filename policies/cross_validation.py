"""Recorded outcomes cut into folds: every prediction is made by a model that has not seen it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from policies.base import Forecast, Limits
from policies.difficulty import DifficultyEstimator, check_outcomes
from policies.encoding import encode
from policies.errors import OutcomeError
from policies.evaluation import SOURCE, best_fixed, column_means
from policies.heads import cross_amount, cross_calibrated, success_scores
from policies.utility import UtilityPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cost_models.types import Arm
    from policies.heads import Fold

N_PRICES = 60
SAFE_PRIOR = 2.0
WELL_KNOWN = 0.5
"""Share of the outcomes of the most tried arm that a fixed choice needs at least."""
COMPONENTS = (0, 16, 32, 64, 128)
MAX_WORK = 1.5e9
LOWEST_PENALTY = 5.0
PRICE_LOW = 0.01
PRICE_HIGH = 2.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """Estimator parameters that are tuned; penalties are powers of two times the lowest.

    The shared penalty is doubled ``doublings`` times, that of single arms ``own_doublings`` times
    more; many make arms differ by their means alone. ``pruned`` leaves out arms that another
    beats in both mean quality and mean cost; both together make a fixed arm one of the choices.
    """

    n_components: int = 32
    doublings: int = 4
    own_doublings: int = 2
    pruned: bool = False

    def estimator(self, seed: int) -> DifficultyEstimator:
        """Make the estimator with these parameters."""
        shared = LOWEST_PENALTY * 2.0**self.doublings
        own = shared * 2.0**self.own_doublings
        return DifficultyEstimator(
            n_components=self.n_components,
            shared_penalty=shared,
            family_penalty=(shared * own) ** 0.5,
            own_penalty=own,
            random_state=seed,
        )


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """Greedy replay at one shadow price: ``right`` and ``spent_usd`` have shape (n,)."""

    shadow_price_per_usd: float
    right: NDArray[np.float64]
    spent_usd: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Mean quality."""
        return float(self.right.mean())

    @property
    def cost_usd(self) -> float:
        """Mean cost of a query."""
        return float(self.spent_usd.mean())


class CrossValidation:
    """Recorded outcomes, cut into folds, with everything that trials share computed once.

    Parameters
    ----------
    texts : sequence of str, length n
    quality, cost_usd : ndarray of shape (n, n_arms)
        NaN where not recorded; an arm without any cost is fitted but never replayed.
    arms : sequence of Arm, length n_arms
    seed : int
    n_recorded : int, or None
        Arms from this number on are derived: never the best fixed arm. None: all are recorded.

    Raises
    ------
    OutcomeError
        If no outcome has both a quality and a cost.
    """

    def __init__(  # noqa: PLR0913 - outcomes have this many sides
        self,
        texts: Sequence[str],
        quality: NDArray[np.float64],
        cost_usd: NDArray[np.float64],
        arms: Sequence[Arm],
        seed: int = 0,
        *,
        n_recorded: int | None = None,
    ) -> None:
        check_outcomes(texts, quality, arms)
        self.arms = tuple(arms)
        self.n_recorded = len(arms) if n_recorded is None else n_recorded
        self.recorded = np.asarray(~np.isnan(quality + cost_usd))
        self.rows = np.flatnonzero(self.recorded.any(axis=1))
        if not len(self.rows):
            msg = "no outcome has both a quality and a cost; price the arms or record their costs"
            raise OutcomeError(SOURCE, msg, column="cost_usd")
        self.quality = quality
        self.cost_usd = cost_usd
        self.texts = texts
        self._seed = seed
        self._encoded = encode(texts, Parameters().estimator(seed).n_buckets)
        self._folds: dict[int, tuple[Fold, ...]] = {}
        self._predicted: dict[Parameters, NDArray[np.float64]] = {}
        default = Parameters()
        folds = self.folds(default)
        penalties = default.estimator(seed).penalties
        self.expected_cost_usd = cross_amount(folds, cost_usd, arms, penalties)[0]
        self.best_fixed = self._best_fixed()

    def predict(self, parameters: Parameters) -> NDArray[np.float64]:
        """Give calibrated out-of-fold probabilities, shape (n, n_arms)."""
        parameters = replace(parameters, pruned=False)
        if parameters not in self._predicted:
            folds = self.folds(parameters)
            penalties = parameters.estimator(self._seed).penalties
            score = success_scores(folds, self.quality, self.arms, penalties)
            found = cross_calibrated(folds, score, self.quality, self.arms)
            self._predicted[parameters] = found
        return self._predicted[parameters]

    def of_queries(self, index: NDArray[np.intp]) -> CrossValidation:
        """Take some queries alone; OutcomeError if none of them is graded and priced."""
        return CrossValidation(
            [self.texts[i] for i in index],
            self.quality[index],
            self.cost_usd[index],
            self.arms,
            self._seed,
            n_recorded=self.n_recorded,
        )

    def forecast(self, predicted: NDArray[np.float64]) -> Forecast:
        """Give what a policy sees of the replayed ``rows``; only recorded arms are offered."""
        return Forecast(
            arms=self.arms,
            cost_usd=self.expected_cost_usd[self.rows],
            quality=predicted[self.rows],
            offered=self.recorded[self.rows],
        )

    @property
    def digest(self) -> str:
        """SHA-256 of texts, arms, qualities and costs, in their order."""
        arms = [str(arm) for arm in self.arms]
        found = hashlib.sha256(repr((list(self.texts), arms, self.n_recorded)).encode())
        for values in (self.quality, self.cost_usd):
            found.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        return found.hexdigest()

    def frontier(
        self,
        predicted: NDArray[np.float64],
        prices: Sequence[float],
        left_out: frozenset[Arm] = frozenset(),
    ) -> tuple[FrontierPoint, ...]:
        """Replay the utility rule, without exploring, at each shadow price."""
        forecast = self.forecast(predicted)
        feasible = forecast.feasible(Limits())
        points = []
        for price in prices:
            policy = UtilityPolicy(
                price, self.arms[self.best_fixed], epsilon=0.0, left_out=left_out
            )
            arm = policy.preferred(forecast, feasible, Limits())
            points.append(
                FrontierPoint(price, self.quality[self.rows, arm], self.cost_usd[self.rows, arm])
            )
        return tuple(points)

    def prices(self) -> tuple[float, ...]:
        """Shadow prices from 0 to one at which any arm but the cheapest is too dear."""
        cost = self.expected_cost_usd[self.rows][self.recorded[self.rows]]
        dearest, cheapest = float(cost.max()), max(float(cost.min()), float(cost.max()) / 1e6)
        if dearest <= 0:
            return (0.0,)
        grid = np.geomspace(PRICE_LOW / dearest, PRICE_HIGH / cheapest, N_PRICES - 1)
        return (0.0, *grid.tolist())

    def components(self) -> tuple[int, ...]:
        """Numbers of topics to try: more than 32 only where a fit with them is quick enough."""
        cells = len(self.texts) * len(self.arms)
        default = Parameters().n_components
        return tuple(
            n for n in COMPONENTS if n <= default or cells * float(50 + 2 * n) ** 2 <= MAX_WORK
        )

    def fixed(self, arm: int) -> FrontierPoint:
        """Replay one arm on the ``rows``; NaN where it was not recorded."""
        seen = self.recorded[self.rows, arm]
        right = np.where(seen, self.quality[self.rows, arm], np.nan)
        return FrontierPoint(0.0, right, np.where(seen, self.cost_usd[self.rows, arm], np.nan))

    def dominated(self) -> frozenset[Arm]:
        """Arms that another beats in mean quality or mean cost and equals at least in the other."""
        some = self.recorded.any(axis=0)
        right = np.where(some, column_means(self.quality, self.recorded), -np.inf)
        spent = np.where(some, column_means(self.cost_usd, self.recorded), np.inf)
        no_worse = (right[:, None] >= right) & (spent[:, None] <= spent)
        better = (right[:, None] > right) | (spent[:, None] < spent)
        beaten = np.count_nonzero(no_worse & better, axis=0).tolist()
        return frozenset(arm for arm, lost in zip(self.arms, list(beaten), strict=True) if lost)

    def folds(self, parameters: Parameters) -> tuple[Fold, ...]:
        """Give the folds, features fitted inside each."""
        if parameters.n_components not in self._folds:
            estimator = parameters.estimator(self._seed)
            self._folds[parameters.n_components] = estimator.split(self.texts, self._encoded)[0]
        return self._folds[parameters.n_components]

    def _best_fixed(self) -> int:
        """Pick the arm that does best on average, of those that are known well enough to say so.

        Queries of an arm that was seldom tried may have been easy ones; such an arm is no fixed
        choice. Means are held back where outcomes are few.
        """
        n = self.recorded.sum(axis=0)
        overall = float(self.quality[self.recorded].mean())
        mean = column_means(self.quality, self.recorded)
        shrunk = (mean * n + overall * SAFE_PRIOR) / (n + SAFE_PRIOR)
        well_known = np.asarray(n >= WELL_KNOWN * n.max())
        recorded = well_known & (np.arange(len(n)) < self.n_recorded)
        usable = recorded if recorded.any() else well_known
        return best_fixed(shrunk, column_means(self.cost_usd, self.recorded), usable)
