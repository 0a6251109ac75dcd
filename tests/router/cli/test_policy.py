"""``rheostat policy``: from a directory into service, and back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cost_models.types import Arm
from policies.cascades import Cascade
from policies.derived import Voting
from policies.recipes import Vote
from policies.sampled import Best, Escalation
from router.cli.derived import how_to_offer
from router.strategies.escalation import parse_escalation
from router.strategies.registry import parse_strategy

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

    from policies.recipes import Recipe


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


def sampled(outcomes: Path, path: Path) -> Path:
    """Write outcomes with five samples of each arm: the right answer, or some wrong one."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for line in outcomes.read_text().splitlines():
            row = {**json.loads(line), "gold": "7"}
            ease = {"small": 0.5, "large": 0.95}.get(row["model"], 0.8)
            for i in range(5):
                right = bool(rng.random() < ease)
                said = {"correct": float(right), "answer": "7" if right else str(rng.integers(5))}
                file.write(json.dumps({**row, "sample_index": i, **said}) + "\n")
    return path


def test_a_policy_with_derived_arms_is_served_with_those_that_are_configured(
    cli: Cli, config: Path, outcomes: Path, tmp_path: Path
) -> None:
    """The others are not offered; the lines that offer them are printed, and then work."""
    done = cli("fit", sampled(outcomes, tmp_path / "s.jsonl"), "-o", tmp_path / "p", "--trials", 1)
    assert done.exit_code == 0, done.output
    told = cli("policy", "promote", tmp_path / "p", "--config", config)
    assert "is in service" in told.stdout
    plan = cli("plan", "What is 3 + 4?", "--kind", "number", "--config", config)
    assert plan.exit_code == 0
    assert "vote(" not in plan.stdout
    missing = re.findall(r"configuration has it: cascades: (.*) by VERIFIER", told.stdout)
    assert all(name.startswith("verified(") for name in missing)
    cascade, vote = f"{missing[0]} by reference(reference='7')", "vote(direct,samples=5)"
    text = re.sub(r"(?m)^strategies: \[", f'strategies: ["{vote}", ', config.read_text())
    config.write_text(f'{text}cascades: ["{cascade}"]\n')
    again = cli("policy", "promote", tmp_path / "p", "--config", config)
    assert f"{missing[0]} by" not in again.stdout
    shown = cli("plan", "What is 3 + 4?", "--kind", "number", "--config", config).stdout
    for name in (f"large|{vote}", f"cascade|{missing[0]}"):
        assert any(name in line and "%" in line for line in shown.splitlines())


MANY = "self_consistency(samples=4)"
SMALL, LARGE = Arm("small", "cot"), Arm("large", MANY)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (Vote(SMALL, Voting(5, 0.9, 2)), "strategies: vote(cot,samples=5,stop_at=0.9,batch=2)"),
        (Vote(LARGE, Voting(5)), None),
        (Best(SMALL, 4), None),
        (
            Escalation(SMALL, 5, 3, LARGE),
            f"cascades: vote(small/cot x5, 3 agree > large/{MANY})",
        ),
        (Escalation(LARGE, 5, 3, SMALL), None),
        (
            Cascade((SMALL, SMALL, LARGE)),
            f"cascades: agree(small/cot x2 > large/{MANY})",
        ),
        (Cascade((SMALL, LARGE)), None),
        (
            Cascade((SMALL, LARGE), verified=True),
            f"cascades: verified(small/cot > large/{MANY}) by VERIFIER",
        ),
        (Cascade((SMALL, SMALL, Arm("large", "unheard_of"))), None),
    ],
    ids=str,
)
def test_each_derived_arm_has_the_line_that_offers_it(recipe: Recipe, line: str | None) -> None:
    """None where the gateway cannot run it; else the configuration takes it as the same arm."""
    assert how_to_offer(recipe) == line
    if line is not None:
        key, _, text = line.partition(": ")
        text = text.replace("VERIFIER", "game24")
        strategies = key == "strategies"
        offered = str(parse_strategy(text)) if strategies else parse_escalation(text).arm.strategy
        assert offered == recipe.arm.strategy
