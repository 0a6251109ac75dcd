"""An Optuna study over what a policy leaves open, judged by cross-validated replay.

A trial proposes the estimator's parameters; the best shadow price for them is then found by an
exact search over a grid, not guessed. Nothing is judged on queries that it was fitted on.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import optuna

from policies.base import Forecast, Limits
from policies.difficulty import DifficultyEstimator, check_outcomes
from policies.errors import OutcomeError
from policies.evaluation import SOURCE, best_fixed, calibration, column_means
from policies.features import encode
from policies.heads import cross_amount, cross_calibrated, success_scores
from policies.studies import Course, StudyPlace, join_study, quiet, run_study
from policies.utility import UtilityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial

    from cost_models.types import Arm
    from policies.heads import Fold

OBJECTIVES = ("replay loss", "relative log loss")
SOFTWARE = ("rheostat", "numpy", "scikit-learn", "optuna")

N_PRICES = 60
N_BETWEEN = 4
REFINEMENTS = 3
CAUTION = 0.5
INFEASIBLE = 10.0
LOG_LOSS_WEIGHT = 3.0
SAFE_PRIOR = 2.0
WELL_KNOWN = 0.5
"""Share of the outcomes of the most tried arm that a fixed choice needs at least."""
COMPONENTS = (0, 16, 32, 64, 128)
MAX_WORK = 1.5e9
LOWEST_PENALTY = 5.0
MAX_DOUBLINGS = 8
MAX_OWN_DOUBLINGS = 10

PRICE_LOW = 0.01
PRICE_HIGH = 2.0
MIN_COST = 1e-15
MIN_LOG_LOSS = 1e-6
MAX_RELATIVE = 3.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What a policy is tuned for; at most one is given, with none it is *balanced*.

    ``accuracy_target`` in (0, 1]: the least cost at which accuracy, less half its standard error,
    reaches it. ``budget_usd_per_query`` > 0: the most accuracy at that mean cost.
    ``shadow_price_per_usd`` >= 0: right answers that a USD must buy, as given. Balanced: the least
    cost at which the accuracy of the best fixed arm is kept, on the queries that both answered.
    """

    accuracy_target: float | None = None
    budget_usd_per_query: float | None = None
    shadow_price_per_usd: float | None = None

    def __post_init__(self) -> None:
        given = [
            value
            for value in (
                self.accuracy_target,
                self.budget_usd_per_query,
                self.shadow_price_per_usd,
            )
            if value is not None
        ]
        target, budget = self.accuracy_target, self.budget_usd_per_query
        if len(given) > 1 or any(not 0.0 <= value < np.inf for value in given):
            msg = f"give one goal, finite and at least 0, or none, got {self!r}"
            raise ValueError(msg)
        if (target is not None and not 0.0 < target <= 1.0) or budget == 0.0:
            msg = f"a target must be in (0, 1] and a budget above 0, got {self!r}"
            raise ValueError(msg)

    def __str__(self) -> str:
        if self.accuracy_target is not None:
            return f"accuracy_target={self.accuracy_target:g}"
        if self.budget_usd_per_query is not None:
            return f"budget_usd_per_query={self.budget_usd_per_query:g}"
        if self.shadow_price_per_usd is not None:
            return f"shadow_price_per_usd={self.shadow_price_per_usd:g}"
        return "balanced"


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


@dataclass(frozen=True, slots=True)
class Tuned:
    """The best trial; ``predicted`` are its out-of-fold probabilities, shape (n, n_arms)."""

    parameters: Parameters
    shadow_price_per_usd: float
    left_out: frozenset[Arm]
    predicted: NDArray[np.float64]
    frontier: tuple[FrontierPoint, ...]


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
        self._texts = texts
        self._seed = seed
        self._encoded = encode(texts, Parameters().estimator(seed).n_buckets)
        self._folds: dict[int, tuple[Fold, ...]] = {}
        self._predicted: dict[Parameters, NDArray[np.float64]] = {}
        default = Parameters()
        folds = self._split(default)
        penalties = default.estimator(seed).penalties
        self.expected_cost_usd = cross_amount(folds, cost_usd, arms, penalties)[0]
        self.best_fixed = self._best_fixed()

    def predict(self, parameters: Parameters) -> NDArray[np.float64]:
        """Give calibrated out-of-fold probabilities, shape (n, n_arms)."""
        parameters = replace(parameters, pruned=False)
        if parameters not in self._predicted:
            folds = self._split(parameters)
            penalties = parameters.estimator(self._seed).penalties
            score = success_scores(folds, self.quality, self.arms, penalties)
            found = cross_calibrated(folds, score, self.quality, self.arms)
            self._predicted[parameters] = found
        return self._predicted[parameters]

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
        found = hashlib.sha256(repr((list(self._texts), arms, self.n_recorded)).encode())
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
        cells = len(self._texts) * len(self.arms)
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

    def _split(self, parameters: Parameters) -> tuple[Fold, ...]:
        if parameters.n_components not in self._folds:
            estimator = parameters.estimator(self._seed)
            self._folds[parameters.n_components] = estimator.split(self._texts, self._encoded)[0]
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


def select(goal: Goal, points: Sequence[FrontierPoint], plain: FrontierPoint) -> tuple[int, float]:
    """Pick the frontier point that serves ``goal`` best, with its loss (less is better).

    ``plain`` is the best fixed arm on the same queries, NaN where it was not recorded. A goal
    that no point reaches is approached as far as possible, at a loss above INFEASIBLE.
    """
    accuracy = np.array([point.accuracy for point in points])
    cost = np.array([point.cost_usd for point in points])
    unit = max(float(np.nanmean(plain.spent_usd)), MIN_COST)
    missing = np.zeros(len(points))
    if goal.shadow_price_per_usd is not None:
        loss = goal.shadow_price_per_usd * cost - accuracy
    elif goal.budget_usd_per_query is not None:
        missing = np.maximum(0.0, cost - goal.budget_usd_per_query) / unit
        loss = -accuracy
    else:
        reached = [_slack(goal, point, plain) for point in points]
        missing = np.maximum(0.0, -np.array(reached))
        loss = cost / unit
    worst = np.where(missing > 0, INFEASIBLE * (1.0 + missing), loss)
    best = int(np.lexsort((cost, worst))[0])
    return best, float(worst[best])


def _slack(goal: Goal, point: FrontierPoint, plain: FrontierPoint) -> float:
    """By how much a point reaches an accuracy target, or the best fixed arm's accuracy."""
    if goal.accuracy_target is not None:
        error = standard_error(point.right)
        return point.accuracy - CAUTION * error - goal.accuracy_target
    difference = (point.right - plain.right)[~np.isnan(plain.right)]
    return float(difference.mean())


def standard_error(values: NDArray[np.float64]) -> float:
    """Give the standard error of a mean; 0 for fewer than two values."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class TuningTask:
    """All that a worker needs to know to help with a study; picklable."""

    data: CrossValidation
    goal: Goal
    course: Course

    @property
    def name(self) -> str:
        """Name the study, where nobody else did."""
        return f"{self.goal} {self.data.digest[:12]} seed={self.course.seed}"

    def facts(self) -> dict[str, str]:
        """Give what those who share a study must agree on."""
        return {
            "outcomes and arms": self.data.digest,
            "goal": str(self.goal),
            "seed": str(self.course.seed),
            "software": " ".join(f"{name} {version(name)}" for name in SOFTWARE),
        }

    def work(
        self,
        place: StudyPlace,
        name: str,
        *,
        stays: bool = False,
        progress: Callable[[int, int, float], None] | None = None,
    ) -> Parameters:
        """Run trials of the study ``name``, and give the best parameters so far."""
        with quiet():
            study = join_study(place, name, OBJECTIVES, self.facts())

            def tell(done: int) -> None:
                if progress is not None:
                    progress(done, self.course.trials, _total(_best(study)))

            run_study(
                study,
                lambda trial: _try(trial, self.data, self.goal),
                place,
                self.course,
                stays=stays,
                progress=tell,
            )
            return Parameters(**_best(study).params)


def tune(  # noqa: PLR0913 - a study has this many sides
    data: CrossValidation,
    goal: Goal,
    *,
    trials: int,
    seed: int = 0,
    place: StudyPlace | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    max_seconds: float = np.inf,
) -> Tuned:
    """Run a study of ``trials`` >= 1 trials and give the best, or a fixed arm if that is as good.

    A trial has two objectives, its replay loss (see `select`) and its log loss relative to that of
    a constant. The best one has the least sum of the two, log loss by a weight: it steadies the
    choice where few queries make replay noisy. The first trials are the defaults and the strongest
    penalties on the arms that none beats; the others are drawn as `policies.studies` says. In a
    ``place`` where there is such a study already, it goes on where it was. ``progress`` is told
    (trials done, trials, best loss). After ``max_seconds`` no further trial starts.

    Raises
    ------
    StudyMismatchError
        If the study of that name is about other outcomes or options.
    """
    place = place or StudyPlace()
    strongest = Parameters(0, MAX_DOUBLINGS, MAX_OWN_DOUBLINGS, pruned=True)
    first = (asdict(Parameters()), asdict(strongest))
    task = TuningTask(data, goal, Course(max(trials, 1), seed, first, max_seconds))
    name = place.name or task.name
    with place.helped(name, task):
        parameters = task.work(place, name, stays=True, progress=progress)
    found = _refined(data, goal, parameters, _search(data, goal, parameters))
    fixed = _fixed(data, goal)
    best = found if fixed is None or found.loss < fixed.loss else fixed
    return Tuned(
        parameters=parameters,
        shadow_price_per_usd=best.point.shadow_price_per_usd,
        left_out=best.left_out,
        predicted=data.predict(parameters),
        frontier=found.frontier,
    )


def _best(study: optuna.Study) -> FrozenTrial:
    """Pick the complete trial with the least weighted sum of objectives, the first of equals."""
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return min(done, key=lambda trial: (_total(trial), trial.number))


def _total(trial: FrozenTrial) -> float:
    loss, relative = trial.values
    return float(loss + LOG_LOSS_WEIGHT * relative)


def _try(trial: optuna.Trial, data: CrossValidation, goal: Goal) -> tuple[float, float]:
    parameters = Parameters(
        n_components=trial.suggest_categorical("n_components", data.components()),
        doublings=trial.suggest_int("doublings", 0, MAX_DOUBLINGS),
        own_doublings=trial.suggest_int("own_doublings", 0, MAX_OWN_DOUBLINGS),
        pruned=trial.suggest_categorical("pruned", (False, True)),
    )
    found = _search(data, goal, parameters)
    report = calibration(data.predict(parameters), data.quality)
    relative = report.log_loss / max(report.constant_log_loss, MIN_LOG_LOSS)
    trial.set_user_attr("shadow_price_per_usd", found.point.shadow_price_per_usd)
    trial.set_user_attr("accuracy", found.point.accuracy)
    trial.set_user_attr("cost_usd_per_query", found.point.cost_usd)
    trial.set_user_attr("log_loss", report.log_loss)
    return found.loss, min(relative, MAX_RELATIVE)


@dataclass(frozen=True, slots=True)
class _Found:
    """The point that serves the goal best, its loss, and the frontier that it is on."""

    point: FrontierPoint
    loss: float
    left_out: frozenset[Arm]
    frontier: tuple[FrontierPoint, ...]


def _search(data: CrossValidation, goal: Goal, parameters: Parameters) -> _Found:
    """Find the shadow price that serves the goal best with an estimator's predictions."""
    given = goal.shadow_price_per_usd
    left_out = data.dominated() if parameters.pruned else frozenset()
    prices = data.prices() if given is None else (given,)
    points = data.frontier(data.predict(parameters), prices, left_out)
    index, loss = select(goal, points, data.fixed(data.best_fixed))
    return _Found(points[index], loss, left_out, points)


def _refined(data: CrossValidation, goal: Goal, parameters: Parameters, found: _Found) -> _Found:
    """Search again around the best price: a grid may step over the edge of the goal."""
    if goal.shadow_price_per_usd is not None:
        return found
    predicted, plain = data.predict(parameters), data.fixed(data.best_fixed)
    for _ in range(REFINEMENTS):
        prices = [point.shadow_price_per_usd for point in found.frontier]
        at = prices.index(found.point.shadow_price_per_usd)
        near = prices[max(0, at - 1) : at + 2]
        between = {
            price
            for low, high in itertools.pairwise(near)
            for price in np.linspace(low, high, N_BETWEEN + 2)[1:-1].tolist()
        } - set(prices)
        added = data.frontier(predicted, sorted(between), found.left_out)
        points = sorted((*found.frontier, *added), key=lambda point: point.shadow_price_per_usd)
        index, loss = select(goal, points, plain)
        found = _Found(points[index], loss, found.left_out, tuple(points))
    return found


def _fixed(data: CrossValidation, goal: Goal) -> _Found | None:
    """Find the single arm that serves the goal best, of those recorded on every query.

    As a policy it is the utility rule with all others left out.
    """
    whole = np.flatnonzero(data.recorded[data.rows].all(axis=0)).tolist()
    if not whole:
        return None
    points = tuple(data.fixed(arm) for arm in whole)
    if goal.shadow_price_per_usd is not None:
        points = tuple(replace(p, shadow_price_per_usd=goal.shadow_price_per_usd) for p in points)
    index, loss = select(goal, points, data.fixed(data.best_fixed))
    others = frozenset(data.arms) - {data.arms[whole[index]]}
    return _Found(points[index], loss, others, points)
