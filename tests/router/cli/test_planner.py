"""``rheostat plan`` without a question: budgets, machines, training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

SCENARIO = """\
days: 10
budget_usd: 6
curve:
  - {cost_usd: 0.01, accuracy: 0.5, low: 0.4}
  - {cost_usd: 0.02, accuracy: 0.7, low: 0.6}
  - {cost_usd: 0.04, accuracy: 0.8, low: 0.7}
teams:
  search: {queries: 100, least_accuracy: 0.8}
  support: {queries: 100}
machines:
  queries_per_month: 200000
  usd_per_query: 0.01
  s_per_query: 2
  usd_per_machine_month: [500, 1000, 2000]
  usd_setup: 6000
  setup_months: 12
  utilisation: 0.5
training:
  scale: 14
  ratios: [0.16, 22]
  reliability: 0.7
  bins:
    easy: {small: 0.3, large: 0.7}
    medium: {small: 0.02, large: 0.35}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Write a scenario with every part."""
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def told(cli: Cli, *arguments: object) -> dict[str, Any]:
    """Run a plan; give its document."""
    done = cli("plan", "--json", *arguments)
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_scenario_needs_no_ledger(cli: Cli, scenario: Path) -> None:
    """Curve, teams and machines are the file's."""
    found = told(cli, "--scenario", scenario)
    budget = found["budget"]
    assert {team: share["usd"] for team, share in budget["teams"].items()} == {
        "search": pytest.approx(4.0),
        "support": pytest.approx(2.0),
    }
    assert budget["curve"][0] == {
        "budget_usd": 1.5,
        "accuracy": None,
        "accuracy_low": None,
        "usd_per_next_right": None,
    }
    machines = found["machines"]
    assert machines["break_even"]["first"] == pytest.approx(150_000)
    assert machines["interval"]["low"] < 150_000 < machines["interval"]["high"]
    assert machines["volume"]["payback_months"] == pytest.approx(6.0)
    verdicts = [[part["think"] for part in row["bins"]] for row in found["training"]["ratios"]]
    assert verdicts == [[True, True], [True, False]]


def test_an_option_goes_before_the_file_and_tables_say_the_same(cli: Cli, scenario: Path) -> None:
    """The marked row is the budget that was asked about."""
    shown = cli("plan", "--scenario", scenario, "--budget-usd", 8)
    assert shown.exit_code == 0, shown.output
    assert "> $8.00" in shown.stdout
    assert "owning pays from 150,000 questions a month" in shown.stdout
    assert "no way to buy one" in shown.stdout


def test_a_budget_is_planned_from_the_ledger_and_the_policy_in_service(
    cli: Cli, history: Path
) -> None:
    """Demand of the last days by tenant, and the frontier that the policy was tuned on."""
    fitted = cli("retrain", "--config", history, "--shadow-price", 5, "--trials", 1)
    assert "is in service" in fitted.stdout, fitted.output
    asked = cli("ask", "What is 2 + 2?", "--config", history)
    assert asked.exit_code == 0, asked.output
    found = told(cli, "--days", 7, "--config", history)["budget"]
    assert found["n_queries"] == 1.0
    assert "cross-validated" in found["source"]
    accuracies = [row["accuracy"] for row in found["curve"] if row["accuracy"] is not None]
    assert accuracies == sorted(accuracies)
    assert all(
        corner["accuracy_low"] < corner["accuracy"] or corner["accuracy"] == 0.0
        for corner in found["corners"]
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param(("budget_usd: 6", "budget_usd: 4.9"), "does not pay for the least", id="low"),
        pytest.param(("least_accuracy: 0.8", "least_accuracy: 0.9"), "asks for more", id="high"),
        pytest.param(("utilisation: 0.5", "utilisation: 1.5"), "utilisation", id="machines"),
        pytest.param(("[500, 1000, 2000]", "[5, 3, 9]"), "in this order", id="order"),
        pytest.param(("[500, 1000, 2000]", "[5, 3]"), "usd_per_machine_month", id="length"),
        pytest.param(("days: 10", "weeks: 2"), "unknown key", id="key"),
        pytest.param(("scale: 14", "scale: 1"), "training.scale", id="training"),
        pytest.param(("days: 10", "days: ["), "is not YAML", id="yaml"),
    ],
)
def test_a_scenario_that_cannot_be_is_explained(
    cli: Cli, scenario: Path, change: tuple[str, str], complaint: str
) -> None:
    """With the place in the file."""
    scenario.write_text(SCENARIO.replace(*change), encoding="utf-8")
    done = cli("plan", "--scenario", scenario)
    assert done.exit_code == 1
    assert complaint in done.stderr.replace("\n", " ")


def test_nothing_to_plan_says_what_to_give(cli: Cli, config: Path) -> None:
    """Neither question nor plan; both; a ledger in which nothing was asked; no policy."""
    assert "ask a question" in cli("plan").stderr
    assert "leave the question out" in cli("plan", "why?", "--days", 3).stderr
    assert "no policy in service" in cli("plan", "--days", 3, "--config", config).stderr
