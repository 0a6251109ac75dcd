"""The demo on simulated models, as a newcomer without weights sees it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from router.cli.main import app

if TYPE_CHECKING:
    from typer.testing import Result

COST = re.compile(r"\$(\d+\.\d{9})")


@dataclass(frozen=True)
class Shown:
    """What two runs of the demo in one folder printed, and what the ledger says after them."""

    first: str
    second: str
    report: dict[str, Any]
    doctor: Result


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Run the demo twice on one round of questions: asked to simulate, and without an index."""
    home = tmp_path_factory.mktemp("demo")
    env = {
        "COLUMNS": "100",
        "RHEOSTAT_HOME": str(home / "no-weights"),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "",
        "UV_OFFLINE": "1",
    }

    def run(*arguments: object) -> Result:
        done = CliRunner(env=env).invoke(app, [str(a) for a in arguments])
        assert done.exit_code == 0, done.output
        return done

    ask = ("demo", "--questions", 9, "--seconds", 30, "--home", home)
    first, second = run(*ask, "--simulated").stdout, run(*ask, "--light").stdout
    config = home / "simulated" / "rheostat.yaml"
    report = json.loads(run("report", "--config", config, "--json").stdout)
    return Shown(first, second, report, run("doctor", "--config", config))


def costs(shown: str) -> list[int]:
    """Cost of each contestant in the table, in nano-USD."""
    table = shown[shown.index("4. What it bought") : shown.index("Which arm")]
    return [round(float(cost) * 1e9) for cost in COST.findall(table)]


def test_the_demo_and_the_report_agree_to_the_nano_usd(shown: Shown) -> None:
    """Counters equal sums, every answer is in the ledger, and the report shows the same cents."""
    told = costs(shown.first) + costs(shown.second)
    assert shown.report["totals"]["cost_nano_usd"] == sum(told)
    assert shown.report["totals"]["n_entries"] == 9 * len(told)
    assert all(arm["n_graded"] == arm["n_entries"] for arm in shown.report["arms"])
    assert "every counter equals the sum of its rows" in shown.second
    assert "every counter equals the sum of its rows" in shown.doctor.stdout


def test_a_second_run_keeps_the_policy(shown: Shown) -> None:
    """Nothing is fitted twice."""
    version = re.search(r"policy ([0-9a-f]{12}), fitted now", shown.first)
    assert version
    assert f"policy {version[1]}, as fitted before" in shown.second


def test_every_table_of_simulated_models_says_so(shown: Shown) -> None:
    """No heading over simulated figures goes without the word."""
    headings = [line for line in shown.first.splitlines() if re.match(r"[2-5]\. |Which", line)]
    assert len(headings) == 5
    assert all("SIMULATED" in heading for heading in headings)


def test_commands_to_try_next_run_as_they_are_printed(shown: Shown) -> None:
    """Each of the three names the configuration that the demo wrote."""
    tried = shown.first[shown.first.index("Try next") :].splitlines()[1:]
    lines = [line.split() for line in tried if line.strip()]
    assert [line[1] for line in lines] == ["report", "plan", "serve"]
    assert all(Path(line[line.index("--config") + 1]).is_file() for line in lines)


def test_weights_that_cannot_be_fetched_are_said_and_simulated(shown: Shown) -> None:
    """Licence and size come first, then why there are none; the rest says SIMULATED."""
    told = " ".join(shown.second.split())
    assert "98 MB, licence Apache-2.0" in told
    assert "could not be downloaded" in told
    assert told.count("(SIMULATED models: no language model ran)") == 5
