"""``--prices``: outcomes with tokens and without cost, in fit, evaluate and import."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from planted import planted

from policies.outcomes import read_outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

PRICES = """\
small: {input_usd_per_million_tokens: 0.1, output_usd_per_million_tokens: 0.4}
large: {input_usd_per_million_tokens: 2, output_usd_per_million_tokens: 8}
"""


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """Write planted outcomes with tokens in the place of costs."""
    path = tmp_path / "outcomes.jsonl"
    with path.open("w") as sink:
        for row in planted(30).rows():
            del row["cost_usd"]
            row |= {"prompt_tokens": 100, "completion_tokens": 50}
            sink.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Prices of the models of these outcomes."""
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return path


def test_a_policy_is_fitted_and_judged_on_priced_tokens(
    cli: Cli, outcomes: Path, prices: Path, tmp_path: Path
) -> None:
    """Costs are those of the price file; without it accuracy alone is judged, and that is said."""
    options = ("--trials", 1, "--no-derived")
    done = cli("fit", outcomes, "-o", tmp_path / "p", "--prices", prices, *options, "--json")
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)
    assert not manifest["accuracy_only"]
    cheapest = manifest["metrics"]["baselines"]["cheapest"]["cost_usd_per_query"]
    assert cheapest == pytest.approx((100 * 0.1 + 50 * 0.4) / 1e6)
    judged = cli("evaluate", tmp_path / "p", outcomes, "--prices", prices, "--json")
    largest = json.loads(judged.stdout)["baselines"]["largest"]["cost_usd_per_query"]
    assert largest == pytest.approx((100 * 2 + 50 * 8) / 1e6)
    bare = cli("evaluate", tmp_path / "p", outcomes)
    assert "accuracy alone was judged" in bare.stdout
    assert "rows have tokens and no cost; --prices" in " ".join(bare.stderr.split())
    unpriced = cli("fit", outcomes, "-o", tmp_path / "q", *options)
    assert "no arm has a cost: the policy goes by accuracy alone" in unpriced.stdout


def test_imported_answers_have_the_cost_of_their_tokens(
    cli: Cli, config: Path, outcomes: Path, prices: Path, tmp_path: Path
) -> None:
    """Exported again they have it; without prices none of them has a cost, and that is said."""
    bare = cli("import", outcomes, "--config", config)
    assert "have no cost" in " ".join(bare.stdout.split())
    fresh = tmp_path / "fresh.jsonl"
    fresh.write_text(outcomes.read_text().replace('"query_id": "', '"query_id": "again-'))
    done = cli("import", fresh, "--config", config, "--prices", prices)
    assert done.exit_code == 0, done.output
    assert "have no cost" not in done.stdout
    cli("export", "-o", tmp_path / "out.jsonl", "--config", config)
    rows = list(read_outcomes(tmp_path / "out.jsonl").rows())
    costs = {row["model"]: row.get("cost_usd") for row in rows if "again" in row["query_id"]}
    assert costs == {"small": pytest.approx(3e-5), "large": pytest.approx(6e-4)}
    assert not any("cost_usd" in row for row in rows if "again" not in row["query_id"])


def test_a_model_without_a_price_stays_without_cost(
    cli: Cli, outcomes: Path, prices: Path, tmp_path: Path
) -> None:
    """It is named, also when prices are those of the shipped list."""
    prices.write_text(PRICES.splitlines()[0])
    options = ("-o", tmp_path / "p", "--trials", 1, "--no-derived")
    done = cli("fit", outcomes, "--prices", prices, *options)
    assert "no price is known for large" in " ".join(done.stderr.split())
    assert "never chosen (large|direct" in " ".join(done.stdout.split())
    listed = cli("fit", outcomes, "--prices", "listed", *options)
    assert "no price is known for large, small" in " ".join(listed.stderr.split())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param("", "no mapping of models; write MODEL:", id="empty"),
        pytest.param("small: {}", "every rate of this price is 0", id="nothing said"),
        pytest.param("small: {input: 3}", "small.input", id="an unknown key"),
        pytest.param("small: {input_usd_per_million_tokens: -3}", "small", id="below 0"),
        pytest.param("small: [", "not valid YAML", id="no YAML"),
        pytest.param("- small", "no mapping", id="a list"),
        pytest.param(None, "cannot be read: No such file", id="no file"),
    ],
)
def test_a_wrong_price_file_is_an_error(
    cli: Cli, outcomes: Path, tmp_path: Path, content: str | None, told: str
) -> None:
    """Status 1, the place is named, nothing is written."""
    path = tmp_path / "wrong.yaml"
    if content is not None:
        path.write_text(content)
    done = cli("fit", outcomes, "-o", tmp_path / "p", "--prices", path)
    assert done.exit_code == 1
    assert told in " ".join(done.stderr.split())
    assert not (tmp_path / "p").exists()
