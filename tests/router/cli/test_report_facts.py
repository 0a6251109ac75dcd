"""``rheostat report`` prints the facts of a period, and their document equals its other figures."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from policies.synthetic import World
from router.cli.build import open_database
from router.cli.main import app
from router.jobs.simulate import simulate

if TYPE_CHECKING:
    from pathlib import Path

WORLD = World(date(2026, 8, 3), days=4, requests_per_day=700, seed=2, epsilon=0.5)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration over a simulated ledger."""
    url = f"sqlite:///{tmp_path / 'made.db'}"
    ledger = open_database(url)
    simulate(ledger, WORLD)
    ledger.close()
    models = "".join(
        f"  - {{name: {name}, model: simulated/{name}, price: "
        "{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 4}}\n"
        for name in WORLD.models
    )
    path = tmp_path / "rheostat.yaml"
    path.write_text(f"ledger: {url}\nmodels:\n{models}auth: {{mode: open}}\n", "utf-8")
    return path


def run(config: Path, *more: str) -> str:
    """Run the report; give what it printed."""
    done = CliRunner().invoke(app, ["report", "--config", str(config), *more])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_terminal_says_that_it_is_simulated_and_what_was_saved(config: Path) -> None:
    """Every headline has its interval."""
    told = run(config, "--compare", "2026-08-03..2026-08-05", "--since", "2026-08-05")
    assert "SIMULATED" in told
    assert "a right answer costs $" in told
    assert "against every question once by sim-large|direct" in told
    assert "spend changed by " in told


def test_the_document_has_the_same_nano_usd_everywhere(config: Path) -> None:
    """Totals, arms, parts and facts agree; the change closes."""
    typed = ("--json", "--by", "team", "--time-zone", "Asia/Kolkata")
    found = json.loads(run(config, *typed, "--compare", "2026-08-03..2026-08-05"))
    cost = found["totals"]["cost_nano_usd"]
    assert found["facts"]["whole"]["cost_nano_usd"] == cost
    assert sum(part["cost_nano_usd"] for part in found["parts"]["parts"]) == cost
    by_team = {part["name"]: part["cost_nano_usd"] for part in found["parts"]["parts"]}
    assert by_team == {p["name"]: p["cost_nano_usd"] for p in found["facts"]["by"]["team"]}
    change = found["change"]
    total = change.pop("after_nano_usd") - change.pop("before_nano_usd")
    assert sum(value or 0 for value in change.values()) == total


def test_a_forecast_is_refused_after_four_days_and_held_against_the_budget_later(
    config: Path, tmp_path: Path
) -> None:
    """Three weeks into a month the organisation's monthly limit counts."""
    told = run(
        config, "--since", "2026-08-03", "--until", "2026-08-07", "--forecast-to", "2026-09-01"
    )
    assert "no forecast: complete days of spend: 4 so far, 14 are needed" in told
    ledger = open_database(f"sqlite:///{tmp_path / 'later.db'}")
    simulate(ledger, World(date(2026, 8, 1), days=20, requests_per_day=40))
    ledger.close()
    text = config.read_text("utf-8").replace("made.db", "later.db")
    config.write_text(text, "utf-8")
    period = ("--since", "2026-08-01", "--until", "2026-08-21", "--forecast-to", "2026-09-01")
    later = run(config, *period)
    assert "forecast $" in later
    assert "over the budget with probability" in later


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("--time-zone", "Mars/Olympus"), "no time zone is called"),
        (("--compare", "yesterday"), "is written 2026-06-01..2026-07-01"),
        (("--compare", "2026-08-05..2026-08-03"), "ends after it begins"),
    ],
)
def test_what_cannot_be_understood_is_said(config: Path, typed: tuple[str, str], told: str) -> None:
    """The message says how it is written."""
    done = CliRunner().invoke(app, ["report", "--config", str(config), *typed])
    assert done.exit_code == 1
    assert told in " ".join(done.output.split())
