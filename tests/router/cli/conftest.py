"""The command line run in process, and a configuration of simulated models in a fresh folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest
from planted import ODD, planted
from typer.testing import CliRunner, Result

from policies.outcomes import OutcomeTable
from router.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
ledger: sqlite:///{folder}/ledger.db
models:
  - name: small
    model: simulated/sim-small
    price: {{input_usd_per_million_tokens: 0.10, output_usd_per_million_tokens: 0.40}}
  - name: large
    model: simulated/sim-large
    price: {{input_usd_per_million_tokens: 2.00, output_usd_per_million_tokens: 8.00}}
strategies: [direct, cot, {{self_consistency: {{samples: 3}}}}]
budgets:
  - {{scope: organisation, limit_usd: {limit_usd}, period: day}}
"""


class Cli(Protocol):
    """Run a command with its arguments, as typed."""

    def __call__(self, *arguments: object) -> Result: ...


@pytest.fixture
def cli() -> Cli:
    """Run commands in this process, 100 columns wide."""

    def run(*arguments: object) -> Result:
        return CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(a) for a in arguments])

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration with two simulated models and a budget of 5 USD a day."""
    return write_config(tmp_path, "5.00")


def write_config(folder: Path, limit_usd: str) -> Path:
    """Write the configuration with a budget."""
    path = folder / "rheostat.yaml"
    path.write_text(CONFIG.format(folder=folder, limit_usd=limit_usd), encoding="utf-8")
    return path


@pytest.fixture
def history(cli: Cli, config: Path, tmp_path: Path) -> Path:
    """Import a log of 600 random picks among three of the configured arms; give the configuration.

    A fourth arm of the log is none that is configured.
    """
    rng = np.random.default_rng(0)
    answers: dict[str, list[dict[str, Any]]] = {}
    for row in planted(600).rows():
        named = "cot" if row["strategy"] == ODD.strategy else "direct"
        answers.setdefault(row["query_id"], []).append({**row, "strategy": named})
    rows = [{**rows[int(rng.integers(3))], "propensity": 1 / 3} for rows in answers.values()]
    rows.append({**rows[0], "model": "gone"})
    path = tmp_path / "history.jsonl"
    OutcomeTable.from_rows(rows).write_jsonl(path)
    done = cli("import", path, "--config", config)
    assert "601 outcomes imported" in done.stdout, done.output
    return config
