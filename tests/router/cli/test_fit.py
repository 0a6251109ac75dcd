"""``rheostat fit`` and ``rheostat evaluate`` as typed, on planted outcomes in files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from planted import planted

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """Write planted outcomes to a file."""
    path = tmp_path / "outcomes.jsonl"
    planted(120).write_jsonl(path)
    return path


def test_a_policy_is_fitted_and_judged_from_the_command_line(
    cli: Cli, outcomes: Path, tmp_path: Path
) -> None:
    """Fit writes the policy; evaluate gives one JSON document, the frontier when asked."""
    directory = tmp_path / "policy"
    fitted = cli("fit", outcomes, "--output", directory, "--trials", 2, "--json")
    assert fitted.exit_code == 0, fitted.output
    manifest = json.loads(fitted.stdout)
    assert manifest["n_queries"] == 120
    fresh = tmp_path / "fresh.jsonl.gz"
    planted(90, seed=5).write_jsonl(fresh)
    swept = cli("evaluate", directory, fresh, "--sweep", "--json")
    assert swept.exit_code == 0, swept.output
    document = json.loads(swept.stdout)
    assert document["version"] == manifest["version"]
    assert document["n_queries"] == 90
    assert len(document["frontier"]) >= 40
    assert document["apgr"] is None
    two = cli("evaluate", directory, fresh, "--arms", "small|direct", "--arms", "large|*", "--json")
    assert json.loads(two.stdout)["apgr"] > 0.5
    assert json.loads(two.stdout)["frontier"] == []
    told = cli("evaluate", directory, fresh, "--sweep")
    assert "best fixed" in told.stdout
    assert "shadow price" in told.stdout


def test_a_study_is_shared_and_resumed_from_the_command_line(
    cli: Cli, outcomes: Path, tmp_path: Path
) -> None:
    """Alone in a file or with a helper in a database; another goal under its name is refused."""
    database = f"sqlite:///{tmp_path / 'ledger.db'}"
    kept = ("--database", database, "--study", "mine", "--trials", 2)
    shared = cli("fit", outcomes, "-o", tmp_path / "shared", *kept, "--workers", 2, "--json")
    assert shared.exit_code == 0, shared.output
    assert not (tmp_path / "shared" / "study.db").exists()
    refused = cli("fit", outcomes, "-o", tmp_path / "other", *kept, "--shadow-price", 3)
    assert refused.exit_code == 1
    assert "is about something else (goal: balanced there" in refused.stderr
    assert not (tmp_path / "other" / "policy.npz").exists()
    alone = cli("fit", outcomes, "-o", tmp_path / "alone", "--trials", 2, "--json")
    assert (tmp_path / "alone" / "study.db").exists()
    manifests = [json.loads(run.stdout) for run in (shared, alone)]
    assert manifests[0]["parameters"] == manifests[1]["parameters"]


def test_the_better_of_two_policies_is_fitted_from_the_command_line(
    cli: Cli, outcomes: Path, tmp_path: Path
) -> None:
    """It is told what it was compared with; the group-relative one can be asked for by name."""
    where = ("--output", tmp_path / "policy", "--trials", 1, "--shadow-price", 5)
    best = cli("fit", outcomes, *where, "--policy", "best")
    assert best.exit_code == 0, best.output
    assert "on 120 queries that neither was fitted on, at 5 right answers per USD" in best.stdout
    asked = cli("fit", outcomes, *where, "--policy", "group-relative", "--json")
    assert json.loads(asked.stdout)["policy_kind"] == "group-relative"
    judged = cli("evaluate", tmp_path / "policy", outcomes, "--json")
    assert json.loads(judged.stdout)["policy"]["accuracy"] > 0.8


def test_a_certificate_is_printed(cli: Cli, outcomes: Path, tmp_path: Path) -> None:
    """With a target and a delta; a delta alone is refused."""
    where = ("--output", tmp_path / "policy", "--trials", 1)
    given = cli("fit", outcomes, *where, "--accuracy-target", 0.6, "--delta", 0.1)
    assert given.exit_code == 0, given.output
    assert "certified on 30 queries" in given.stdout
    alone = cli("fit", outcomes, *where, "--delta", 0.1)
    assert alone.exit_code == 1
    assert "--accuracy-target" in alone.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param(("--arms", "nobody|*"), "no arm matches", id="no such arm"),
        pytest.param(("--tasks", "chess"), "no rows of chess", id="no such task"),
        pytest.param(("--accuracy-target", 2), "in (0, 1]", id="a target above one"),
        pytest.param(
            ("--shadow-price", 1, "--budget-usd-per-query", 1), "at most one", id="two goals"
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cli: Cli, outcomes: Path, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    """Status 1, the problem on standard error, nothing written."""
    directory = tmp_path / "policy"
    result = cli("fit", outcomes, "--output", directory, "--trials", 1, *options)
    assert result.exit_code == 1
    assert told in " ".join(result.stderr.split())
    assert not directory.exists()


def test_a_damaged_row_is_named_and_nothing_is_written(cli: Cli, tmp_path: Path) -> None:
    """File, row and column."""
    path = tmp_path / "bad.csv"
    path.write_text("query_id,query,model,strategy,correct\na,b,m,s,1\nc,d,m,s,7\n")
    result = cli("fit", path, "--output", tmp_path / "policy")
    assert result.exit_code == 1
    assert "row 2, column 'correct'" in " ".join(result.stderr.split())
    assert not (tmp_path / "policy").exists()
