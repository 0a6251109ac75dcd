"""``rheostat policy`` shadow, canary, trial, end, value and drift, from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


def test_a_trial_from_its_start_to_its_end(cli: Cli, config: Path, tmp_path: Path) -> None:
    """Two policies, decisions under both, what they show, and nothing left over at the end."""
    at = ("--config", config)
    questions, outcomes = tmp_path / "q.jsonl", tmp_path / "outcomes.jsonl"
    cli("questions", questions, "--count", 27)
    cli("collect", questions, "--output", outcomes, *at)
    versions = []
    for name, price in (("a", 0), ("b", 5000)):
        fitted = cli(
            "fit", outcomes, "-o", tmp_path / name, "--trials", 1, "--no-derived", "--json",
            "--shadow-price", price,
        )  # fmt: skip
        versions.append(json.loads(fitted.stdout)["version"])
        assert cli("policy", "promote", tmp_path / name, *at).exit_code == 0
    old, new = versions[1], versions[0]
    assert "no trial is under way" in cli("policy", "trial", *at).stdout
    assert cli("policy", "end", *at).exit_code == 1
    assert cli("policy", "canary", new, "--share", 0, *at).exit_code == 1
    assert cli("policy", "canary", old, *at).exit_code == 1
    assert "is in shadow" in cli("policy", "shadow", new, *at).stdout
    cli("ask", "What is 3 + 4?", "--kind", "number", *at)
    assert "in shadow: it would have picked" in cli("policy", "trial", *at).stdout
    shown = json.loads(cli("policy", "trial", "--json", *at).stdout)
    assert (shown["version"], shown["baseline"], shown["share"]) == (new, old, 0.0)
    assert shown["sides"]["baseline"]["n_served"] == 1
    assert shown["agreed"] in {0.0, 1.0}
    assert cli("policy", "end", *at).exit_code == 0
    assert "decides for 25.0%" in cli("policy", "canary", new, "--share", 0.25, *at).stdout
    assert "25.0% of the traffic: not enough is known" in cli("policy", "trial", *at).stdout
    assert f"policy {new} is in service again" in cli("policy", "rollback", *at).stdout
    assert f"that of {new} ended: policy {new} was put" in cli("policy", "trial", *at).stdout
    drift = json.loads(cli("policy", "drift", "--json", *at).stdout)
    assert drift["version"] == new
    assert drift["inputs"]["n_after"] == 1
    assert drift["warnings"] == []
    assert "no drift is shown" in cli("policy", "drift", *at).stdout


def test_a_fitted_directory_is_tried_without_being_promoted(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    """It is kept in the ledger and put on trial; what was in service stays there."""
    at = ("--config", config)
    questions, outcomes = tmp_path / "q.jsonl", tmp_path / "outcomes.jsonl"
    cli("questions", questions, "--count", 27)
    cli("collect", questions, "--output", outcomes, *at)
    versions = {}
    for name, price in (("old", 0), ("new", 5000)):
        fitted = cli(
            "fit", outcomes, "-o", tmp_path / name, "--trials", 1, "--no-derived", "--json",
            "--shadow-price", price,
        )  # fmt: skip
        versions[name] = json.loads(fitted.stdout)["version"]
    alone = cli("policy", "shadow", tmp_path / "new", *at)
    assert alone.exit_code == 1
    assert "no policy is in service" in alone.stderr
    cli("policy", "promote", tmp_path / "old", *at)
    done = cli("policy", "canary", tmp_path / "new", "--share", 0.5, *at)
    assert f"policy {versions['new']} decides for 50.0%" in done.stdout
    listed = cli("policy", "list", *at).stdout
    assert f"{versions['old']} (in service)" in listed
    assert versions["new"] in listed
    assert versions["new"] in cli("policy", "trial", *at).stdout
    assert cli("policy", "end", *at).exit_code == 0
    missing = cli("policy", "canary", "gone", *at)
    assert missing.exit_code == 1
    assert "rheostat policy list" in missing.stderr


def test_a_kept_policy_is_valued_on_decisions_after_it_was_made(cli: Cli, history: Path) -> None:
    """The log is older: said so; with a time before it, its values with intervals."""
    at = ("--config", history)
    done = cli("retrain", "--shadow-price", 5, "--trials", 1, "--dry-run", "--json", *at)
    told = json.loads(done.stdout)
    assert (told["kept"], told["promoted"]) == (False, False)
    assert "no policy is kept" in cli("policy", "list", *at).stdout
    made = json.loads(cli("retrain", "--trials", 1, "--no-promote", "--json", *at).stdout)
    version = made["version"]
    assert cli("policy", "value", version, *at).exit_code == 1
    since = ("--since", "2020-01-01")
    valued = json.loads(cli("policy", "value", version, "--json", *since, *at).stdout)
    accuracy = valued["figures"]["accuracy"]
    for name in ("plain", "new"):
        assert accuracy[name]["low"] < accuracy[name]["estimate"] < accuracy[name]["high"]
        assert 3 < accuracy[name]["effective_n"] <= 600
    assert "is the rival" in cli("policy", "value", version, *since, *at).stdout
