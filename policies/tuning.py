"""An Optuna study over what a policy leaves open, judged by cross-validated replay.

A trial proposes the estimator's parameters; the best shadow price for them is then found by an
exact search over a grid, not guessed. Nothing is judged on queries that it was fitted on.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import optuna

from policies.cross_validation import CrossValidation, FrontierPoint, Parameters
from policies.evaluation import bootstrap_lower, calibration
from policies.studies import Course, StudyPlace, join_study, quiet, run_study

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial

    from cost_models.types import Arm

    Replayed = Callable[[Sequence[float]], tuple[FrontierPoint, ...]]

OBJECTIVES = ("replay loss", "relative log loss")
SOFTWARE = ("rheostat", "numpy", "scikit-learn", "optuna")

N_BETWEEN = 4
REFINEMENTS = 3
CAUTION = 0.31
"""Chance that a bootstrapped accuracy is below its lower bound: half a standard error."""
BOOTSTRAP_SEED = 0
INFEASIBLE = 10.0
LOG_LOSS_WEIGHT = 3.0
MAX_DOUBLINGS = 8
MAX_OWN_DOUBLINGS = 10

MIN_COST = 1e-15
MIN_LOG_LOSS = 1e-6
MAX_RELATIVE = 3.0


@dataclass(frozen=True, slots=True)
class Goal:
    """What a policy is tuned for; at most one is given, with none it is *balanced*.

    ``accuracy_target`` in (0, 1]: the least cost at which a bootstrap lower bound of accuracy, 69 %
    one-sided, reaches it. ``budget_usd_per_query`` > 0: the most accuracy at that mean cost.
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
class Tuned:
    """The best trial; ``predicted`` are its out-of-fold probabilities, shape (n, n_arms)."""

    parameters: Parameters
    shadow_price_per_usd: float
    left_out: frozenset[Arm]
    predicted: NDArray[np.float64]
    frontier: tuple[FrontierPoint, ...]


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
        missing = np.maximum(0.0, -_slack(goal, points, plain))
        loss = cost / unit
    worst = np.where(missing > 0, INFEASIBLE * (1.0 + missing), loss)
    best = int(np.lexsort((cost, worst))[0])
    return best, float(worst[best])


def _slack(
    goal: Goal, points: Sequence[FrontierPoint], plain: FrontierPoint
) -> NDArray[np.float64]:
    """By how much points reach an accuracy target, or the best fixed arm's accuracy."""
    right = np.column_stack([point.right for point in points])
    if goal.accuracy_target is not None:
        return bootstrap_lower(right, CAUTION, BOOTSTRAP_SEED) - goal.accuracy_target
    both = ~np.isnan(plain.right)
    return np.asarray((right[both] - plain.right[both, None]).mean(axis=0))


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
    coarse = _search(data, goal, parameters)
    found = _refined(data, goal, _by_rule(data, parameters, coarse.left_out), coarse)
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


def best_price(
    data: CrossValidation, goal: Goal, replay: Replayed
) -> tuple[FrontierPoint, tuple[FrontierPoint, ...]]:
    """Find the shadow price at which a policy serves ``goal`` best; also gives its frontier.

    ``replay`` gives the policy's out-of-fold frontier at shadow prices.
    """
    found = _refined(data, goal, replay, _scan(data, goal, replay))
    return found.point, found.frontier


def _search(data: CrossValidation, goal: Goal, parameters: Parameters) -> _Found:
    """Find the shadow price that serves the goal best with an estimator's predictions."""
    left_out = _left_out(data, parameters)
    return replace(_scan(data, goal, _by_rule(data, parameters, left_out)), left_out=left_out)


def _left_out(data: CrossValidation, parameters: Parameters) -> frozenset[Arm]:
    return data.dominated() if parameters.pruned else frozenset()


def _by_rule(data: CrossValidation, parameters: Parameters, left_out: frozenset[Arm]) -> Replayed:
    predicted = data.predict(parameters)
    return lambda prices: data.frontier(predicted, prices, left_out)


def _scan(data: CrossValidation, goal: Goal, replay: Replayed) -> _Found:
    given = goal.shadow_price_per_usd
    points = replay(data.prices() if given is None else (given,))
    index, loss = select(goal, points, data.fixed(data.best_fixed))
    return _Found(points[index], loss, frozenset(), points)


def _refined(data: CrossValidation, goal: Goal, replay: Replayed, found: _Found) -> _Found:
    """Search again around the best price: a grid may step over the edge of the goal."""
    if goal.shadow_price_per_usd is not None:
        return found
    plain = data.fixed(data.best_fixed)
    for _ in range(REFINEMENTS):
        prices = [point.shadow_price_per_usd for point in found.frontier]
        at = prices.index(found.point.shadow_price_per_usd)
        near = prices[max(0, at - 1) : at + 2]
        between = {
            price
            for low, high in itertools.pairwise(near)
            for price in np.linspace(low, high, N_BETWEEN + 2)[1:-1].tolist()
        } - set(prices)
        points = sorted(
            (*found.frontier, *replay(sorted(between))),
            key=lambda point: point.shadow_price_per_usd,
        )
        index, loss = select(goal, points, plain)
        found = replace(found, point=points[index], loss=loss, frontier=tuple(points))
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
