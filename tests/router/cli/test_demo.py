"""The demo on simulated models, as a newcomer without weights sees it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

COST = re.compile(r"\$(\d+\.\d{9})")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for the demo."""
    return tmp_path / "demo"


def run(cli: Cli, home: Path) -> str:
    """Run the demo on one round of questions."""
    done = cli("demo", "--simulated", "--questions", 9, "--seconds", 30, "--home", home)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_demo_and_the_report_agree_to_the_nano_usd(cli: Cli, home: Path) -> None:
    """Counters equal sums, every answer is in the ledger, and the report shows the same cents."""
    shown = run(cli, home)
    folder = home / "simulated"
    assert "SIMULATED" in shown
    assert "every counter equals the sum of its rows" in shown
    config = folder / "rheostat.yaml"
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    table = shown[shown.index("4. What it bought") : shown.index("Which arm")]
    costs = [round(float(cost) * 1e9) for cost in COST.findall(table)]
    assert told["totals"]["cost_nano_usd"] == sum(costs)
    assert told["totals"]["n_entries"] == 9 * len(costs)
    assert all(arm["n_graded"] == arm["n_entries"] for arm in told["arms"])
    assert cli("doctor", "--config", config).exit_code == 0


def test_a_second_run_keeps_policy_and_outcomes_and_adds_to_the_ledger(
    cli: Cli, home: Path
) -> None:
    """Nothing is fitted or collected twice."""
    first, second = run(cli, home), run(cli, home)
    assert "fitted now" in first
    assert "as fitted before" in second
    version = re.search(r"policy ([0-9a-f]{12})", first)
    assert version
    assert version[1] in second
    config = home / "simulated" / "rheostat.yaml"
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert told["totals"]["n_requests"] == 2 * 9 * (len(COST.findall(first)) - 2)


def test_every_table_of_simulated_models_says_so(cli: Cli, home: Path) -> None:
    """No heading over simulated figures goes without the word."""
    headings = [line for line in run(cli, home).splitlines() if re.match(r"[2-5]\. |Which", line)]
    assert len(headings) == 5
    assert all("SIMULATED" in heading for heading in headings)
