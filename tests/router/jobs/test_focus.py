"""Charges as FOCUS rows: corrections, grants, what has no unit price, text that is a formula."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from focus_rules import broken_rules

from cost_models.charges import ChargedTo, Charges, CorrectionCharge, GrantCharge, UsageCharge
from cost_models.focus import Mapping, Version
from cost_models.pricing import Price
from cost_models.types import Usage
from router.jobs.focus import ExportError, write_focus

OFFERED = ("ACCOUNT_NAMING", "SUB_ACCOUNT", "RESOURCE_TYPE_ASSIGNMENT", "TAGGING")
"""What the validator is told that this provider supports."""
VALIDATOR = shutil.which("focus-validator")
START = datetime(2026, 6, 30, tzinfo=UTC)
END = START + timedelta(days=1)
JUNE, JULY = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
TO = ChargedTo("large", "cot", "openai", "alice", "search", "answer", "settled")
USAGE = Usage(
    n_calls=3,
    prompt_tokens=1_000,
    cached_prompt_tokens=300,
    cache_write_tokens=200,
    completion_tokens=700,
    reasoning_tokens=450,
    machine_ns=1_234_567_891,
)
PRICE = Price(
    input_usd_per_million_tokens=Decimal("2.5"),
    output_usd_per_million_tokens=Decimal(10),
    cached_input_usd_per_million_tokens=Decimal("0.3125"),
    cache_write_usd_per_million_tokens=Decimal("3.75"),
    reasoning_usd_per_million_tokens=Decimal(12),
    usd_per_request=Decimal("0.001"),
    usd_per_machine_hour=Decimal("1.99"),
)


def written(charges: Charges, folder: Path, price: Price | None = PRICE) -> list[dict[str, str]]:
    """Write the charges for both versions, hold each against the rules, and read the last."""
    lines: list[dict[str, str]] = []
    for version in Version:
        path = folder / f"{version}.csv"

        def priced(_model: str, _provider: str, _on: date) -> Price | None:
            return price

        write_focus(Mapping(version, priced).rows(charges), version, path)
        with path.open(newline="") as source:
            reader = csv.DictReader(source)
            lines = list(reader)
        assert broken_rules(list(reader.fieldnames or ()), lines, version.value) == {}
    return lines


def charges(*usage: UsageCharge, **others: object) -> Charges:
    """Put charges together."""
    parts = {"corrections": (), "grants": ()} | others
    return Charges("ledger", usage, **parts)  # type: ignore[arg-type] - fields by name


def billed(lines: list[dict[str, str]]) -> Decimal:
    """Add up what is billed, exactly."""
    return sum((Decimal(line["BilledCost"]) for line in lines), Decimal(0))


def test_each_meter_is_a_row_at_its_own_rate(tmp_path: Path) -> None:
    """Seven meters, each with its quantity; what rounding added is a row of its own."""
    exact = PRICE.cost_usd(USAGE) * 10**9
    cost = int(exact) + 1
    lines = written(charges(UsageCharge(START, END, TO, 3, USAGE, cost)), tmp_path)
    meters = {line["SkuMeter"]: line["ConsumedQuantity"] for line in lines if line["SkuMeter"]}
    assert meters == {
        "Input Tokens": "500",
        "Cached Input Tokens": "300",
        "Cache Write Tokens": "200",
        "Output Tokens": "250",
        "Reasoning Tokens": "450",
        "Requests": "3",
        "Machine Hours": "0.000342936",
    }
    assert billed(lines) == Decimal(cost) / 10**9
    assert lines[-1]["x_CostSource"] == "rounding"
    assert abs(Decimal(lines[-1]["BilledCost"])) < Decimal("3e-9")


def test_what_has_no_known_price_is_one_row_with_its_tokens(tmp_path: Path) -> None:
    """Nothing is made up: no quantity, no unit price, the money and the tokens as they are."""
    (line,) = written(charges(UsageCharge(START, END, TO, 3, USAGE, 77)), tmp_path, price=None)
    assert (line["ChargeCategory"], line["x_CostSource"]) == ("Adjustment", "not_itemised")
    assert (line["BilledCost"], line["x_ConsumedTokens"]) == ("0.000000077", "1700")
    (free,) = written(charges(UsageCharge(START, END, TO, 3, USAGE, 0)), tmp_path, price=None)
    assert free["BilledCost"] == "0"


def test_corrections_are_of_the_class_only_once_their_month_was_billed(tmp_path: Path) -> None:
    """The same month adjusts; a later one corrects, on the bill of that month."""
    corrections = (
        CorrectionCharge(START, END, TO, "reprice", JUNE, -40),
        CorrectionCharge(START, END, TO, "reconcile", JULY, 25),
    )
    usage = UsageCharge(START, END, TO, 1, Usage(n_calls=1, prompt_tokens=4), 1_010_000)
    lines = written(charges(usage, corrections=corrections), tmp_path)
    assert billed(lines) == Decimal(1_010_000 - 40 + 25) / 10**9
    same, later = lines[-2:]
    assert (same["ChargeClass"], same["ChargeCategory"]) == ("", "Adjustment")
    assert (later["ChargeClass"], later["ChargeCategory"]) == ("Correction", "Usage")
    assert (same["x_CorrectionKind"], later["x_CorrectionKind"]) == ("reprice", "reconcile")
    assert later["BillingPeriodStart"] == "2026-07-01T00:00:00Z"
    assert later["ChargePeriodStart"] == "2026-06-30T00:00:00Z"


def test_grants_are_purchases_that_nobody_bills(tmp_path: Path) -> None:
    """Usage is billed as it happens, so that a grant must not be billed again."""
    at = datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)
    grants = (
        GrantCharge("tenant:alice", 5_000_000_000, "invoice 7", at),
        GrantCharge("tenant:alice", -1_500_000_000, None, at),
    )
    given, taken = written(charges(grants=grants), tmp_path)
    assert (given["ChargeCategory"], given["EffectiveCost"]) == ("Purchase", "0")
    assert (given["BilledCost"], given["ListCost"]) == ("0", "5")
    assert given["ChargeDescription"].endswith("tenant:alice, invoice 7")
    assert (taken["ListCost"], taken["PricingQuantity"]) == ("-1.5", "-1")


@pytest.mark.parametrize("name", ["=1+2", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_begins_as_a_formula(tmp_path: Path, name: str) -> None:
    """Names come from outside; in Parquet they stay as they are."""
    to = ChargedTo(name, name, name, name, name, name, "settled")
    path = tmp_path / "x.csv"
    rows = Mapping(Version.V1_4, lambda *_: PRICE).rows(
        charges(UsageCharge(START, END, to, 3, USAGE, 5))
    )
    write_focus(rows, Version.V1_4, path)
    with path.open(newline="") as source:
        for line in csv.DictReader(source):
            assert line["SubAccountId"] == f"'{name}"
            numbers = {"BilledCost", "ContractedCost", "EffectiveCost", "ListCost"}
            texts = [cell for column, cell in line.items() if column not in numbers]
            assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    pq = pytest.importorskip("pyarrow.parquet")
    write_focus(rows, Version.V1_4, tmp_path / "x.parquet")
    assert set(pq.read_table(tmp_path / "x.parquet")["SubAccountId"].to_pylist()) == {name}


def test_a_file_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """The ending, the folder, and a number that has too many places for Parquet."""
    with pytest.raises(ExportError, match=r"\.csv or \.parquet"):
        write_focus([], Version.V1_4, tmp_path / "x.xlsx")
    with pytest.raises(ExportError, match="cannot be written"):
        write_focus([], Version.V1_4, tmp_path / "none" / "x.csv")
    pytest.importorskip("pyarrow")
    odd = Price(input_usd_per_million_tokens=Decimal("0.1234567890123456789"))
    charge = UsageCharge(START, END, TO, 3, USAGE, 5)
    rows = Mapping(Version.V1_4, lambda *_: odd).rows(charges(charge))
    with pytest.raises(ExportError, match=r"write \.csv"):
        write_focus(rows, Version.V1_4, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(VALIDATOR is None, reason="focus-validator is not on the PATH")
def test_the_official_validator_agrees(tmp_path: Path) -> None:
    """The FinOps Foundation's own check of version 1.2, which needs Python 3.12 of its own."""
    pytest.importorskip("pyarrow")
    path = tmp_path / "focus.parquet"
    corrections = (CorrectionCharge(START, END, TO, "reconcile", JULY, 25),)
    grants = (GrantCharge("tenant:alice", 5_000_000_000, None, START),)
    found = charges(
        UsageCharge(START, END, TO, 3, USAGE, 5), corrections=corrections, grants=grants
    )
    write_focus(Mapping(Version.V1_2, lambda *_: PRICE).rows(found), Version.V1_2, path)
    python = Path(str(VALIDATOR)).parent / "python"
    where = "import focus_validator as f, pathlib; print(pathlib.Path(f.__file__).parents[1])"
    own = {**os.environ, "PYTHONPATH": ""}
    home = subprocess.run(  # noqa: S603 - the validator's own interpreter
        [python, "-c", where], capture_output=True, text=True, check=True, env=own
    ).stdout.strip()
    options = ["--validate-version", "1.2", "--focus-dataset", "CostAndUsage", "--block-download"]
    options += ["--applicability-criteria", ",".join(f"{name}_SUPPORTED" for name in OFFERED)]
    told = subprocess.run(  # noqa: S603 - as above
        [str(VALIDATOR), "--data-file", str(path), *options],
        capture_output=True,
        text=True,
        check=False,
        env=own,
        cwd=home,
    ).stdout
    assert "Pass: 1" in told
    failed = {line.split()[1] for line in told.splitlines() if ": FAIL " in line}
    # the rule for rows on an invoice; that for rows on none, which holds, is its alternative
    assert failed == {"InvoiceId-C-005-C:"}
