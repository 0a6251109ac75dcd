"""``rheostat prices``: what holds from when, how far it is from the shipped list, likely slips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

RIGHT = "{input_usd_per_million_tokens: 0.15, output_usd_per_million_tokens: 0.60}"
TOO_LOW = "{input_usd_per_million_tokens: 0.00000015, output_usd_per_million_tokens: 0.60}"


def write(folder: Path, price: str, changes: str = "[]") -> Path:
    """Configure a model that the shipped list knows, at a price of our own."""
    path = folder / "rheostat.yaml"
    path.write_text(
        f"ledger: sqlite:///{folder}/ledger.db\n"
        "models:\n"
        "  - name: mini\n"
        "    model: openai/gpt-4o-mini\n"
        f"    price: {price}\n"
        f"    price_changes: {changes}\n"
        "  - {name: own, model: openai/nobody-knows-it, price: {free: true}}\n"
    )
    return path


def test_list_shows_each_price_with_the_day_from_which_it_holds(cli: Cli, tmp_path: Path) -> None:
    """Both prices of a model whose price changes, every class, and their sources."""
    changes = "[{valid_from: 2027-01-01, input_usd_per_million_tokens: 0.1, usd_per_request: 2}]"
    shown = cli("prices", "list", "--config", write(tmp_path, RIGHT, changes)).stdout
    assert "2027-01-01" in shown
    assert "config from 2027-01-01" in shown
    assert "2 per request" in shown
    assert "0.15" in shown


def test_a_price_per_token_is_a_slip(cli: Cli, tmp_path: Path) -> None:
    """Check fails, `config check` warns and goes on, and both name model, rate and figures."""
    path = write(tmp_path, TOO_LOW)
    checked = cli("prices", "check", "--config", path)
    assert checked.exit_code == 1
    assert "'mini': input_usd_per_million_tokens is 0.00000015" in checked.stdout
    assert "1,000,000 times apart" in checked.stdout
    warned = cli("config", "check", "--config", path)
    assert warned.exit_code == 0
    assert "warning: model 'mini'" in warned.stderr


def test_a_slip_in_a_price_to_come_is_found_before_it_holds(cli: Cli, tmp_path: Path) -> None:
    """The day on which it begins would be too late."""
    changes = "[{valid_from: 2099-01-01, output_usd_per_million_tokens: 600}]"
    assert cli("prices", "check", "--config", write(tmp_path, RIGHT, changes)).exit_code == 1


def test_a_right_price_and_one_that_is_not_listed_pass(cli: Cli, tmp_path: Path) -> None:
    """Nothing to say."""
    checked = cli("prices", "check", "--config", write(tmp_path, RIGHT))
    assert checked.exit_code == 0
    assert "no price out of its range" in checked.stdout


def test_diff_names_each_rate_that_differs(cli: Cli, tmp_path: Path) -> None:
    """A rate that is as listed is not mentioned."""
    price = "{input_usd_per_million_tokens: 0.3, output_usd_per_million_tokens: 0.6}"
    shown = cli("prices", "diff", "--config", write(tmp_path, price)).stdout
    assert "mini: input_usd_per_million_tokens is 0.3, listed as 0.15" in shown
    assert "mini: output_usd" not in shown
    assert "openai/nobody-knows-it is not in the shipped list" in shown


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param("[{input_usd_per_million_tokens: 1}]", "valid_from", id="no day"),
        pytest.param(
            "[{valid_from: 2027-02-01, free: true}, {valid_from: 2027-01-01, free: true}]",
            "later valid_from",
            id="out of order",
        ),
        pytest.param(
            "[{valid_from: 2027-01-01, usd_per_machine_hour: 1}]",
            "paid by machine time",
            id="another kind of price",
        ),
    ],
)
def test_changes_that_make_no_sense_are_refused(
    cli: Cli, tmp_path: Path, changes: str, told: str
) -> None:
    """When the file is read, with the line."""
    done = cli("prices", "list", "--config", write(tmp_path, RIGHT, changes))
    assert done.exit_code == 1
    assert told in done.stderr
