"""Costs for finance: every file is FOCUS by the rules, and adds up to the report's nano-USD."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from focus_rules import DECIMALS, TIMES, broken_rules
from sqlalchemy import func, select
from typer.testing import CliRunner

from router.cli.build import open_database
from router.cli.main import app
from router.gateway.config import load
from storage.models import CallRow

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

VERSIONS = ["1.2", "1.4"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated days over a month's end, with a config beside them."""
    folder = tmp_path_factory.mktemp("focus")
    config = folder / "rheostat.yaml"
    config.write_text(
        f"ledger: sqlite:///{folder}/ledger.db\n"
        "models: [{name: a, model: simulated/small, price: {free: true}}]\nstrategies: [direct]\n"
    )
    done = CliRunner().invoke(
        app,
        [
            *("simulate", "--days", "6", "--requests-per-day", "150", "--seed", "5"),
            *("--end", "2026-07-04", "--config", str(config)),
        ],
    )
    assert done.exit_code == 0, done.output
    return config


def lines_of(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV."""
    with path.open(newline="") as source:
        reader = csv.DictReader(source)
        return list(reader.fieldnames or ()), list(reader)


def billed(lines: list[dict[str, str]], name: str = "BilledCost") -> Decimal:
    """Add a cost up, exactly."""
    return sum((Decimal(line[name]) for line in lines), Decimal(0))


def reported(cli: Cli, config: Path, *options: object) -> Decimal:
    """Give what the report says was spent."""
    told = json.loads(cli("report", "--config", config, "--json", *options).stdout)
    return Decimal(told["totals"]["cost_nano_usd"]) / 10**9


@pytest.mark.parametrize(("version", "grain"), [("1.2", "day"), ("1.4", "day"), ("1.4", "hour")])
def test_a_file_keeps_every_rule_and_adds_up_to_the_report(
    cli: Cli, simulated: Path, tmp_path: Path, version: str, grain: str
) -> None:
    """Prices change, calls are in doubt, a process died: nothing of it is lost or made up."""
    output = tmp_path / "focus.csv"
    done = cli(
        *("export", "--format", "focus", "--focus-version", version, "--grain", grain),
        *("--output", output, "--config", simulated),
    )
    assert done.exit_code == 0, done.output
    header, lines = lines_of(output)
    assert broken_rules(header, lines, version) == {}
    assert billed(lines) == billed(lines, "EffectiveCost") == reported(cli, simulated)
    by_source = {source: [] for source in ("priced", "not_at_list_price", "lost")}
    for line in lines:
        by_source[line["x_CostSource"]].append(line)
    assert all(by_source.values())
    assert {line["x_EntryStatus"] for line in by_source["not_at_list_price"]} == {"in_doubt"}
    assert {line["SkuMeter"] for line in by_source["priced"]} == {
        "Input Tokens",
        "Cached Input Tokens",
        "Output Tokens",
    }
    assert {line["SubAccountId"] for line in lines} > {""}


def test_tokens_are_those_of_the_ledger(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    """Meters are disjoint: they add up to the tokens of the calls, and dates to their prices."""
    output = tmp_path / "focus.csv"
    assert cli("export", "--format", "focus", "-o", output, "-c", simulated).exit_code == 0
    lines = lines_of(output)[1]

    def consumed(*meters: str) -> Decimal:
        return billed([ln for ln in lines if ln["SkuMeter"] in meters], "ConsumedQuantity")

    ledger = open_database(load(simulated).ledger)
    read, written = ledger.read(
        lambda session: session.execute(
            select(func.sum(CallRow.prompt_tokens), func.sum(CallRow.completion_tokens))
        ).one()
    )
    ledger.close()
    assert consumed("Input Tokens", "Cached Input Tokens") == read
    assert consumed("Output Tokens") == written
    large = [ln for ln in lines if ln["SkuId"] == "simulated/sim-large/output-tokens"]
    assert len({ln["ListUnitPrice"] for ln in large}) == 2


@pytest.mark.parametrize("part", [("--until", "2026-06-30T10:20:00"), ("--since", "2026-07-02")])
def test_a_part_of_the_time_adds_up_too(
    cli: Cli, simulated: Path, tmp_path: Path, part: tuple[str, str]
) -> None:
    """Also where the time begins or ends within an hour."""
    output = tmp_path / "focus.csv"
    done = cli("export", "--format", "focus", "-o", output, "-c", simulated, *part)
    assert done.exit_code == 0, done.output
    header, lines = lines_of(output)
    assert broken_rules(header, lines, "1.4") == {}
    assert 0 < billed(lines) == reported(cli, simulated, *part)


@pytest.mark.parametrize("version", VERSIONS)
def test_parquet_has_the_same_rows(cli: Cli, simulated: Path, tmp_path: Path, version: str) -> None:
    """Decimals are exact, times have a zone, and nulls are nulls."""
    pq = pytest.importorskip("pyarrow.parquet")
    paths = [tmp_path / "focus.csv", tmp_path / "focus.parquet"]
    for path in paths:
        typed = ("export", "--format", "focus", "--focus-version", version, "-c", simulated)
        assert cli(*typed, "--output", path).exit_code == 0
    header, lines = lines_of(paths[0])
    table = pq.read_table(paths[1])
    assert table.schema.names == header
    for line, row in zip(lines, table.to_pylist(), strict=True):
        for name, text in line.items():
            value = row[name]
            if text == "":
                assert value is None, name
            elif name in DECIMALS or isinstance(value, Decimal):
                assert value == Decimal(text), name
            elif name in TIMES:
                assert value.isoformat().replace("+00:00", "Z") == text
            else:
                assert value == text, name


def test_the_files_rules_do_see_what_is_broken(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    """A row bent in one place is told of, so that the tests above can fail."""
    output = tmp_path / "focus.csv"
    assert cli("export", "--format", "focus", "-o", output, "-c", simulated).exit_code == 0
    header, lines = lines_of(output)
    usage = next(line for line in lines if line["ChargeCategory"] == "Usage")
    for bent, rule in [
        ({"ListCost": "1"}, "ListUnitPrice x PricingQuantity is not ListCost"),
        ({"SkuPriceId": ""}, "Usage without a price"),
        ({"ChargeCategory": "Saving"}, "ChargeCategory is Saving"),
        ({"BillingPeriodEnd": usage["ChargePeriodEnd"]}, "the billing period is no month"),
        ({"ChargePeriodEnd": "2030-01-01T00:00:00Z"}, "charged outside the billing period"),
        ({"BilledCost": "1e-3"}, "BilledCost is no number"),
        ({"ChargeClass": "Correction"}, "a correction of the period itself"),
        ({"ServiceProviderName": ""}, "ServiceProviderName is null"),
    ]:
        assert rule in broken_rules(header, [usage | bent], "1.4")
    assert "missing column BilledCost" in broken_rules(header[1:], [], "1.4")
    assert "missing column ProviderName" in broken_rules(header, [], "1.2")
