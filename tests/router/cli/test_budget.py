"""``rheostat budget``: what is shown is what holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli

BUDGETS = """
  - {scope: "key:default", limit_usd: 0.5, period: month}
  - {scope: "organisation", limit_usd: 9, period: total}
"""


def test_status_and_report_agree_after_a_request(cli: Cli, config: Path) -> None:
    """Every budget with its window; what was asked is spent in each."""
    config.write_text(config.read_text().rstrip() + BUDGETS)
    assert cli("ask", "What is 3 + 4?", "--kind", "number", "--config", config).exit_code == 0
    shown = cli("budget", "status", "--config", config)
    assert shown.exit_code == 0
    assert "organisation per day" in shown.stdout
    assert "never ends" in shown.stdout
    told = json.loads(cli("budget", "status", "--json", "--config", config).stdout)
    report = json.loads(cli("report", "--json", "--config", config).stdout)
    spent = report["totals"]["cost_nano_usd"]
    assert [b["spent_nano_usd"] for b in told] == [spent] * 3
    assert all(b["free_nano_usd"] == b["limit_nano_usd"] - spent for b in told)


def test_explain_lists_the_limits_of_a_key_the_tightest_first(cli: Cli, config: Path) -> None:
    """Those of other keys are not there; a key that does not exist is named."""
    keys = "auth: {mode: keys, keys: [{name: a, key: one}, {name: b, key: two}]}\n"
    more = '  - {scope: "key:a", limit_usd: 0.5, period: week}\n'
    more += '  - {scope: "key:b", limit_usd: 0.1, period: week}\n'
    config.write_text(config.read_text().rstrip() + "\n" + more + keys)
    told = json.loads(cli("budget", "explain", "a", "--json", "--config", config).stdout)
    assert [(b["scope"], b["period"]) for b in told] == [("key:a", "week"), ("organisation", "day")]
    unknown = cli("budget", "explain", "c", "--config", config)
    assert unknown.exit_code == 1
    assert "use one of: a, b" in unknown.stderr
