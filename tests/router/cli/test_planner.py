"""``rheostat plan`` without a question: budgets, machines, training."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from policies.synthetic import World
from router.cli.build import open_database
from router.jobs.simulate import simulate

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

CONFIG = """\
ledger: {ledger}
models:
  - name: small
    model: scripted/small
    price: {{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 1}}
"""
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
    """Demand of the last days by team, and the frontier that the policy was tuned on."""
    fitted = cli("retrain", "--config", history, "--shadow-price", 5, "--trials", 1)
    assert "is in service" in fitted.stdout, fitted.output
    asked = cli("ask", "What is 2 + 2?", "--config", history)
    assert asked.exit_code == 0, asked.output
    found = told(cli, "--days", 7, "--config", history)["budget"]
    assert found["n_queries"] == 1.0
    assert found["teams"].keys() == {"(none)"}
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
        pytest.param(("days: 10", "mix: {0.8-1: 2}"), "of one mix of questions", id="mix"),
        pytest.param(("days: 10", "target: 75"), "target", id="target"),
        pytest.param(("days: 10", "until: soon"), "until", id="until"),
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


def test_a_target_says_what_it_takes(cli: Cli, scenario: Path) -> None:
    """Half way from 0.7 to 0.8 of 200 questions, and where the lower bound gets there."""
    scenario.write_text(SCENARIO.replace("days: 10", "target: 0.65"), encoding="utf-8")
    target = told(cli, "--scenario", scenario)["budget"]["target"]
    assert target["usd"] == pytest.approx(200 * 0.0175)
    assert target["usd_by_lower_bound"] == pytest.approx(200 * 0.03)
    assert "65.0% right takes $3.50; $6.00 reaches it" in cli("plan", "--scenario", scenario).stdout
    scenario.write_text(SCENARIO.replace("days: 10", "target: 0.75"), encoding="utf-8")
    assert "no budget reaches it" in cli("plan", "--scenario", scenario).stdout
    scenario.write_text(SCENARIO.replace("days: 10", "target: 0.9"), encoding="utf-8")
    assert "90.0% right out of reach" in cli("plan", "--scenario", scenario).stdout


def test_a_plan_without_a_policy_measures_arms_and_weighs_them_by_the_mix(
    cli: Cli, tmp_path: Path
) -> None:
    """A simulated ledger has no policy: arms are measured, and harder questions lower them."""
    config = tmp_path / "rheostat.yaml"
    config.write_text(CONFIG.format(ledger=f"sqlite:///{tmp_path / 'made.db'}"), encoding="utf-8")
    world = World(date(2026, 9, 1), days=12, requests_per_day=200, epsilon=0.5, grade_share=0.5)
    ledger = open_database(f"sqlite:///{tmp_path / 'made.db'}")
    simulate(ledger, world)
    ledger.close()
    path = tmp_path / "scenario.yaml"

    def planned(text: str) -> dict[str, Any]:
        path.write_text(f"until: 2026-09-13\ndays: 12\n{text}", encoding="utf-8")
        found: dict[str, Any] = told(cli, "--scenario", path, "--config", config)["budget"]
        return found

    plain = planned("target: 0.6")
    assert "measured by random picks" in plain["source"]
    assert plain["teams"].keys() == {"support", "search", "research", "finance", "(none)"}
    same = planned("mix: {0-0.2: 3, 0.2-0.4: 3, 0.4-0.6: 3, 0.6-0.8: 3, 0.8-1: 3}")
    assert same["corners"][-1]["accuracy"] == pytest.approx(plain["corners"][-1]["accuracy"])
    harder = planned("mix: {0.8-1: 4}")
    assert harder["n_queries"] == plain["n_queries"]
    assert harder["corners"][-1]["accuracy"] < plain["corners"][-1]["accuracy"] - 0.05
    path.write_text("mix: {hard: 2}", encoding="utf-8")
    refused = cli("plan", "--scenario", path, "--config", config)
    assert "no predicted difficulty 'hard'" in refused.stderr
