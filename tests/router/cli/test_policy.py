"""``rheostat policy``: from a directory into service, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


@pytest.fixture
def outcomes(cli: Cli, config: Path, tmp_path: Path) -> Path:
    """Graded answers of the six simulated arms to 27 questions."""
    questions, path = tmp_path / "q.jsonl", tmp_path / "outcomes.jsonl"
    cli("questions", questions, "--count", 27)
    cli("collect", questions, "--output", path, "--config", config)
    return path


def fit(cli: Cli, outcomes: Path, output: Path, *more: object) -> str:
    """Fit a policy in two trials; give its version."""
    done = cli("fit", outcomes, "-o", output, "--trials", 2, "--no-derived", "--json", *more)
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout)["version"])


def test_a_fitted_policy_is_promoted_and_decides(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path
) -> None:
    """Before, the safe policy decides; after, the fitted one, with a prediction for each arm."""
    before = cli("plan", "What is 3 + 4?", "--kind", "number", "--config", config).stdout
    version = fit(cli, outcomes, tmp_path / "policy")
    done = cli("policy", "promote", tmp_path / "policy", "--config", config)
    assert f"policy {version} is in service" in done.stdout
    after = cli("plan", "What is 3 + 4?", "--kind", "number", "--config", config).stdout
    assert version not in before
    assert f"policy {version}" in after
    assert "%" in after


def test_the_policy_before_comes_back(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path
) -> None:
    """Rollback undoes the last promotion, and says so when there is nothing to go back to."""
    assert cli("policy", "rollback", "--config", config).exit_code == 1
    first = fit(cli, outcomes, tmp_path / "a")
    second = fit(cli, outcomes, tmp_path / "b", "--shadow-price", 5, "--policy", "group-relative")
    for name in ("a", "b"):
        cli("policy", "promote", tmp_path / name, "--config", config)
    assert f"{second} (in service)" in cli("policy", "list", "--config", config).stdout
    assert (
        f"policy {first} is in service again"
        in cli("policy", "rollback", "--config", config).stdout
    )
    listed = cli("policy", "list", "--config", config).stdout
    assert f"{first} (in service)" in listed
    assert second in listed
    assert "group-relative, shadow_price_per_usd=5" in listed
    told = cli("policy", "diff", first, second, "--config", config).stdout
    assert "+ shadow_price_per_usd=5" in told
    assert "- utility" in told
    assert "+ group-relative" in told
    shown = json.loads(cli("policy", "show", first, "--config", config).stdout)
    assert shown["version"] == first


def test_an_unknown_version_or_a_policy_of_other_arms_is_refused(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path
) -> None:
    """Nothing goes into service; the arms that the policy knows are named."""
    assert cli("policy", "promote", "0123456789ab", "--config", config).exit_code == 1
    other = tmp_path / "other.jsonl"
    other.write_text(outcomes.read_text().replace('"model":"', '"model":"other-'))
    fit(cli, other, tmp_path / "policy")
    done = cli("policy", "promote", tmp_path / "policy", "--config", config)
    assert done.exit_code == 1
    assert "other-small|direct" in done.stderr
    assert "no policy is kept" in cli("policy", "list", "--config", config).stdout
