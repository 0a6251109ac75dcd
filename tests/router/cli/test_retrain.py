"""``rheostat retrain``: from a ledger's history to a policy in service, or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from optuna.trial import TrialState

from router.gateway.config import load
from storage.studies import open_studies

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli
    from optuna.trial import FrozenTrial


def studies(config: Path) -> list[list[FrozenTrial]]:
    """Read the complete trials of every study in the ledger's database."""
    with open_studies(load(config).ledger) as storage:
        return [
            storage.get_all_trials(study._study_id, states=(TrialState.COMPLETE,))  # noqa: SLF001 - Optuna has no other way
            for study in storage.get_all_studies()
        ]


def test_a_better_policy_goes_into_service_and_the_next_one_has_to_beat_it(
    cli: Cli, history: Path
) -> None:
    """The first beats random picks; the second is no better than the first, and is kept."""
    options = ("--config", history, "--shadow-price", 5, "--trials", 1)
    done = cli("retrain", *options)
    assert done.exit_code == 0, done.output
    assert "is in service: it is worth +" in done.stdout
    assert "the logged behaviour is the rival" in done.stdout
    again = cli("retrain", "--json", "--seed", 1, *options)
    told = json.loads(again.stdout)
    assert (told["promoted"], told["better"]) == (False, False)
    assert "which is in service" in told["rival"]
    assert [len(trials) for trials in studies(history)] == [1, 1]
    listed = cli("policy", "list", "--config", history).stdout
    assert listed.count("shadow_price_per_usd=5") == 2
    assert f"{told['version']} (in service)" not in listed
    shown = json.loads(cli("policy", "show", told["version"], "--config", history).stdout)
    assert shown["retraining"]["reason"] == told["reason"]
    assert "gone|direct" not in shown["arms"]


def test_no_promote_keeps_what_is_better_and_says_how_to_promote_it(
    cli: Cli, history: Path
) -> None:
    """Nothing is in service afterwards; a promotion by hand works."""
    done = cli("retrain", "--no-promote", "--trials", 1, "--config", history)
    assert done.exit_code == 0, done.output
    version = done.stdout.split("rheostat policy promote ")[1].strip()
    assert "in service)" not in cli("policy", "list", "--config", history).stdout
    promoted = cli("policy", "promote", version, "--config", history)
    assert f"policy {version} is in service" in promoted.stdout


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        pytest.param(["--min-rows", 10_000], "600 graded answers are too few", id="too few"),
        pytest.param(["--since", "2999-01-01"], "none of 0 graded answers", id="none since"),
        pytest.param(["--delta", 0.1], "give --accuracy-target", id="nothing to certify"),
        pytest.param(
            ["--delta", 2, "--accuracy-target", 0.5], "--delta, in (0, 1)", id="no probability"
        ),
        pytest.param(
            ["--shadow-price", 1, "--accuracy-target", 0.5], "give one of", id="two goals"
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cli: Cli, history: Path, options: list[object], problem: str
) -> None:
    """Status 1, and no policy is kept."""
    done = cli("retrain", "--config", history, *options)
    assert done.exit_code == 1
    assert problem in done.stderr
    assert "no policy is kept" in cli("policy", "list", "--config", history).stdout
