"""An Optuna study that outlives its processes and that several of them may share.

The sampler is the tree-structured Parzen estimator (Bergstra et al. 2011; of several objectives,
Ozaki et al. 2022): the space is small, mixed and partly categorical, and a few dozen trials have
to do. Running trials of other workers count as bad ones ("constant liar"), so that two workers do
not try the same thing. Nothing is pruned: a trial is one fit of all folds at once, which has no
early value to go by, and Optuna prunes no study of several objectives.

Each trial has a place in the order of the study, and its draws are seeded by that place. A trial
that died with its process gives its place back, so a study of one worker that was killed and
resumed goes the way it would have gone.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from policies.errors import StudyMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

FACTS = "rheostat"
"""User attribute of a study: what it is about, and what those who join it must agree on."""

WORKER = "worker"
"""User attribute of a trial: the process that runs it."""

PAUSE_S = 0.2
UNSIGNED_GRACE = timedelta(seconds=120)
"""After this a trial whose process died before it could sign it is given up."""


@dataclass(frozen=True, slots=True)
class StudyPlace:
    """Where a study lives; by default in memory, under a name made of what it is about.

    ``owner`` names this process, ``is_gone`` tells whether the process of such a name has ended.
    ``helpers`` runs other workers on the study of a name, for as long as its context is open.
    """

    storage: BaseStorage | None = None
    name: str | None = None
    owner: str = "only"
    is_gone: Callable[[str], bool] = bool
    helpers: Callable[[str, Any], AbstractContextManager[None]] | None = None

    def helped(self, name: str, task: object) -> AbstractContextManager[None]:
        """Have the helpers, if there are any, work on a picklable task."""
        return nullcontext() if self.helpers is None else self.helpers(name, task)


@dataclass(frozen=True, slots=True)
class Course:
    """How a study goes: ``trials`` >= 1 in all, by whoever runs them; the ``first`` are given.

    No trial starts after ``max_seconds``, but at least one is run.
    """

    trials: int
    seed: int
    first: Sequence[Mapping[str, Any]] = ()
    max_seconds: float = np.inf


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log and its notes on experimental features to itself."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def join_study(
    place: StudyPlace, name: str, objectives: Sequence[str], facts: Mapping[str, str]
) -> optuna.Study:
    """Open a study, or make it; every objective, by its name, is to be small.

    Raises StudyMismatchError if there is a study of this name about something else.
    """
    study = optuna.create_study(
        storage=place.storage,
        study_name=name,
        directions=["minimize"] * len(objectives),
        load_if_exists=True,
    )
    if FACTS not in study.user_attrs:
        study.set_user_attr(FACTS, dict(facts))
        study.set_metric_names(list(objectives))
    known = study.user_attrs[FACTS]
    differing = [key for key in facts if known.get(key) != facts[key]]
    if differing:
        told = "; ".join(f"{key}: {known.get(key)} there, {facts[key]} here" for key in differing)
        msg = (
            f"the study {name!r} is about something else ({told}); "
            "join it with the same outcomes and options, or give the new study another name"
        )
        raise StudyMismatchError(msg)
    return study


def run_study(  # noqa: PLR0913 - a study has this many sides
    study: optuna.Study,
    objective: Callable[[optuna.Trial], tuple[float, ...]],
    place: StudyPlace,
    course: Course,
    *,
    stays: bool = True,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Run trials until as many as asked for are complete, by this process and others.

    One who ``stays`` waits for the last trials of the others, and runs them again where their
    process has ended. ``progress`` is told how many are complete, whenever that has changed.
    """

    def signed(trial: optuna.Trial) -> tuple[float, ...]:
        trial.set_user_attr(WORKER, place.owner)
        return objective(trial)

    started, told = time.monotonic(), len(_in_state(study, TrialState.COMPLETE))
    while True:
        _give_back(study, place)
        done = len(_in_state(study, TrialState.COMPLETE))
        for number in range(told + 1, done + 1):
            if progress is not None:
                progress(number)
        told = max(told, done)
        late = done > 0 and time.monotonic() - started > course.max_seconds
        if done >= course.trials or late:
            return
        order = done + len(_in_state(study, TrialState.RUNNING))
        if order >= course.trials:
            if not stays:
                return
            time.sleep(PAUSE_S)
            continue
        _prepare(study, order, course)
        study.optimize(signed, n_trials=1)


def _prepare(study: optuna.Study, order: int, course: Course) -> None:
    """Seed the draws of the trial at this place, or queue the values that it is given."""
    entropy = [course.seed % 2**32, order]
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    if order < len(course.first) and not _in_state(study, TrialState.WAITING):
        study.enqueue_trial(dict(course.first[order]))


def _give_back(study: optuna.Study, place: StudyPlace) -> None:
    """Mark trials as failed whose process has ended, or is not heard of any more."""
    optuna.storages.fail_stale_trials(study)
    for trial in _in_state(study, TrialState.RUNNING):
        owner = trial.user_attrs.get(WORKER)
        if _is_forgotten(trial) if owner is None else place.is_gone(owner):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _is_forgotten(trial: FrozenTrial) -> bool:
    began = trial.datetime_start
    return began is not None and datetime.now() - began > UNSIGNED_GRACE  # noqa: DTZ005 - Optuna's times are local


def _in_state(study: optuna.Study, state: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(state,))
