"""A study survives the death of its worker, is shared, and leaves the ledger alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
import study_worker
from optuna.trial import TrialState
from optuna_dashboard import wsgi
from sqlalchemy import inspect
from sqlalchemy.orm import Session
from study_worker import GOAL, SEED, TRIALS, study_data

from policies.errors import StudyMismatchError
from policies.studies import Course, StudyPlace
from policies.tuning import Goal, Tuned, TuningTask, tune
from router.jobs.studies import has_ended, owner_name, study_place
from storage.doctor import examine
from storage.engine import create_ledger_engine, migrate
from storage.errors import LedgerError
from storage.models import Base

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from optuna.storages import BaseStorage

WORKER = Path(study_worker.__file__)
DATA = study_data()


def tuned_at(place: StudyPlace, trials: int = TRIALS) -> Tuned:
    """Tune on the planted outcomes."""
    return tune(DATA, GOAL, trials=trials, seed=SEED, place=place)


@cache
def undisturbed() -> tuple[BaseStorage, Tuned]:
    """Tune once as nobody was killed; every database is held to that."""
    whole = optuna.storages.InMemoryStorage()
    return whole, tuned_at(StudyPlace(whole, "planted"))


def completed(storage: BaseStorage | str, name: str = "planted") -> list[dict[str, Any]]:
    """Parameters of the complete trials, in their order."""
    study = optuna.load_study(study_name=name, storage=storage)
    return [trial.params for trial in study.get_trials(states=(TrialState.COMPLETE,))]


def kill_in_trial(url: str, number: int) -> None:
    """Have a process of its own work on the study, and kill it -9 within one trial."""
    root = WORKER.parents[1]
    worker = subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, WORKER, url, str(number)],
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests"))),
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"hanging\n"
    worker.kill()
    worker.communicate()


def asked(app: WSGIApplication, path: str) -> dict[str, Any]:
    """Ask a WSGI application for a JSON document."""
    environ: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    document: dict[str, Any] = json.loads(b"".join(app(environ, lambda *_: bytes)))
    return document


def test_a_study_that_was_killed_goes_the_way_it_would_have_gone(empty_url: str) -> None:
    """Killed -9 within a trial; every trial that is complete in the end is as without that."""
    whole, expected = undisturbed()
    kill_in_trial(empty_url, 3)
    with study_place(empty_url, "planted") as place:
        found = tuned_at(place)
        study = optuna.load_study(study_name="planted", storage=place.storage)
        states = [trial.state for trial in study.trials]
        assert completed(place.storage) == completed(whole)
    assert states.count(TrialState.FAIL) == 1
    assert states.count(TrialState.COMPLETE) == TRIALS
    assert found.parameters == expected.parameters
    assert found.shadow_price_per_usd == expected.shadow_price_per_usd
    assert found.left_out == expected.left_out


def test_workers_share_one_study(empty_url: str) -> None:
    """A helper process runs all trials but one; who joins then has its figures and runs none."""
    task = TuningTask(DATA, GOAL, Course(4, SEED))
    with study_place(empty_url, "planted") as place:
        tuned_at(place, 1)
    with study_place(empty_url, "planted", workers=2) as place, place.helped("planted", task):
        pass
    with study_place(empty_url, "planted") as place:
        heard: list[int] = []
        tune(DATA, GOAL, trials=4, seed=SEED, place=place, progress=lambda n, *_: heard.append(n))
        study = optuna.load_study(study_name="planted", storage=place.storage)
        owners = [trial.user_attrs["worker"] for trial in study.trials]
    assert owners[0] == owner_name()
    assert owner_name() not in owners[1:]
    assert len(owners) == 4
    assert heard == []


def test_a_study_and_a_ledger_share_a_database(empty_url: str) -> None:
    """Whichever comes first: schemas are apart, and the ledger is found sound."""
    with study_place(empty_url, "before") as place:
        tuned_at(place, 1)
    engine = create_ledger_engine(empty_url)
    migrate(engine)
    with study_place(empty_url, "after") as place:
        tuned_at(place, 1)
    migrate(engine)
    with Session(engine) as session:
        assert examine(session) == []
    assert not {"studies", "trials", "version_info"} & set(Base.metadata.tables)
    assert {"alembic_version", "ledger_version"} <= set(inspect(engine).get_table_names())
    with study_place(empty_url) as place:
        assert len(completed(place.storage, "before")) == 1
    engine.dispose()


def test_a_study_opens_in_optuna_dashboard(empty_url: str) -> None:
    """The real dashboard shows directions, metric names, what it is about, and every trial."""
    with study_place(empty_url, "planted") as place:
        tuned_at(place, 2)
        shown = asked(wsgi(place.storage), "/api/studies/1")
    assert shown["name"] == "planted"
    assert shown["directions"] == ["minimize", "minimize"]
    assert shown["objective_names"] == ["replay loss", "relative log loss"]
    assert json.loads(shown["user_attrs"][0]["value"])["goal"] == str(GOAL)
    assert [trial["state"] for trial in shown["trials"]] == ["Complete"] * 2
    told = {fact["key"] for fact in shown["trials"][0]["user_attrs"]}
    assert {"accuracy", "cost_usd_per_query", "log_loss", "shadow_price_per_usd"} <= told


def test_a_study_about_something_else_is_not_joined(tmp_path: Path) -> None:
    """Another goal under the same name: said so, and no trial is run."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    with study_place(url, "planted") as place:
        tuned_at(place, 1)
        with pytest.raises(StudyMismatchError, match=r"goal: accuracy_target=0.75 there, balanced"):
            tune(DATA, Goal(), trials=2, seed=SEED, place=place)
        assert len(completed(place.storage)) == 1


def test_an_unusable_database_is_told(tmp_path: Path) -> None:
    """The ledger's own errors, before any trial."""
    for url in ("mysql://x/y", f"sqlite:///{tmp_path / 'absent' / 'study.db'}"):
        with pytest.raises(LedgerError), study_place(url):
            pass


def test_only_a_process_of_this_host_is_known_to_have_ended() -> None:
    """A parent lives; a child that was waited for does not; of another host nothing is known."""
    host = owner_name().rpartition(":")[0]
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not has_ended(f"{host}:{os.getppid()}")
    assert has_ended(f"{host}:{child.pid}")
    assert not has_ended(f"elsewhere.invalid:{child.pid}")
