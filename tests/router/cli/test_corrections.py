"""``rheostat reprice`` and ``reconcile``, on answers that were asked for on the command line."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


def asked(cli: Cli, config: Path) -> Decimal:
    """Ask once; give what the report says was spent."""
    assert (
        cli(
            "ask", "what is 2+2?", "--model", "small", "--strategy", "direct", "--config", config
        ).exit_code
        == 0
    )
    return spent(cli, config)


def spent(cli: Cli, config: Path) -> Decimal:
    """Read what was spent in the report."""
    found = re.search(r"spent \$([\d.]+), ledger", cli("report", "--config", config).stdout)
    assert found is not None
    return Decimal(found[1])


def test_a_price_that_was_wrong_is_corrected_once(cli: Cli, config: Path) -> None:
    """Ten times the price is ten times the cost; a dry run shows it and writes nothing."""
    before = asked(cli, config)
    unchanged = cli("reprice", "--config", config).stdout
    assert "0 calls corrected, +$0.000000000" in unchanged
    text = config.read_text()
    config.write_text(
        text.replace("million_tokens: 0.10", "million_tokens: 1.00").replace(
            "million_tokens: 0.40", "million_tokens: 4.00"
        )
    )
    tried = cli("reprice", "--config", config, "--dry-run").stdout
    assert f"1 calls would be corrected, +${before * 9:.9f}" in tried
    assert spent(cli, config) == before
    assert "1 calls corrected" in cli("reprice", "--config", config).stdout
    assert spent(cli, config) == before * 10
    assert "0 calls corrected" in cli("reprice", "--config", config).stdout
    assert "every counter equals" in cli("doctor", "--config", config).stdout
    assert "0 calls corrected" in cli("reprice", "--config", config, "--until", "2020-01-01").stdout


def test_a_bill_that_differs_is_listed_and_fails(cli: Cli, config: Path, tmp_path: Path) -> None:
    """What belongs to no known call is told, unless it is within the tolerance."""
    cost = asked(cli, config)
    bill = tmp_path / "bill.csv"
    bill.write_text(f"model,start,end,cost_usd\nsmall,2020-01-01,2200-01-01,{cost}\n")
    done = cli("reconcile", bill, "--config", config)
    assert (done.exit_code, "1 charges compared, 0 differ" in done.stdout) == (0, True)
    bill.write_text(f"model,start,end,cost_usd\nsmall,2020-01-01,2200-01-01,{cost + 1}\n")
    done = cli("reconcile", bill, "--config", config)
    assert done.exit_code == 1
    assert "+$1.000000000" in done.stdout
    assert cli("reconcile", bill, "--config", config, "--tolerance", "1").exit_code == 0
    assert spent(cli, config) == cost
    bad = cli("reconcile", bill, "--config", config, "--tolerance", "much")
    assert (bad.exit_code, "--tolerance must be" in bad.output) == (1, True)


def test_what_is_no_bill_is_one_line_of_error(cli: Cli, config: Path, tmp_path: Path) -> None:
    """The file and the line are named."""
    bad = tmp_path / "bad.csv"
    bad.write_text("request_id,cost_usd\nq,free\n")
    done = cli("reconcile", bad, "--config", config)
    assert done.exit_code == 1
    assert "bad.csv, line 2: cost_usd must be an amount" in done.output
