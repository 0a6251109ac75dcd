"""``rheostat budget``: what is shown is what holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from policies.pacing import Pacing
from router.cli.build import build_service
from router.gateway.config import load

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
    keys = "auth: {mode: keys, keys: [{name: a, key: one-0123456789abc}, "
    keys += "{name: b, key: two-0123456789abc}]}\n"
    more = '  - {scope: "key:a", limit_usd: 0.5, period: week}\n'
    more += '  - {scope: "key:b", limit_usd: 0.1, period: week}\n'
    config.write_text(config.read_text().rstrip() + "\n" + more + keys)
    told = json.loads(cli("budget", "explain", "a", "--json", "--config", config).stdout)
    assert [(b["scope"], b["period"]) for b in told] == [("key:a", "week"), ("organisation", "day")]
    unknown = cli("budget", "explain", "c", "--config", config)
    assert unknown.exit_code == 1
    assert "use one of: a, b" in unknown.stderr


def test_limits_are_set_granted_and_ended_by_command(cli: Cli, config: Path) -> None:
    """Beside those of the file, with reasons where it cannot be done."""
    end = ("--config", config)
    assert cli("budget", "set", "key:default", "--usd", "0.5", "--period", "month", *end).stdout
    soft = ("budget", "set", "user:ann", "--usd", "0.000001", "--period", "day", "--soft", *end)
    assert "soft limit of 0.000001 USD per day" in cli(*soft).stdout
    for _ in range(2):
        given = cli("budget", "grant", "organisation", "--usd", "50", "--reference", "p1", *end)
    assert "booked before; organisation was granted 50 USD in all" in given.stdout
    assert "p1" in cli("budget", "grants", "organisation", *end).stdout
    told = json.loads(cli("budget", "status", "--json", *end).stdout)
    assert {(b["scope"], b["period"], b["soft"]) for b in told} == {
        ("organisation", "day", False),
        ("organisation", "prepaid", False),
        ("key:default", "month", False),
        ("user:ann", "day", True),
    }
    assert "user:ann per day, soft" in cli("budget", "status", *end).stdout
    assert cli("budget", "end", "user:ann", "--period", "day", *end).exit_code == 0
    for arguments, reason in (
        (("set", "organisation", "--usd", "1", "--period", "day"), "change it there"),
        (("set", "organisation", "--usd", "1", "--period", "year"), "no period 'year'"),
        (("set", "organisation", "--usd", "one", "--period", "day"), "is no amount"),
        (("set", "organisation", "--usd", "1e-10", "--period", "week"), "cannot be booked"),
        (("set", "key:defalt", "--usd", "1", "--period", "day"), "names nothing that spends"),
        (("set", "key:default", "--usd", "-1", "--period", "day"), "limit of at least 0"),
        (("end", "user:ann", "--period", "day"), "has no day budget"),
    ):
        refused = cli("budget", *arguments, *end)
        assert (refused.exit_code, reason in refused.stderr.replace("\n", " ")) == (1, True), reason


def test_the_file_sends_prepaid_budgets_to_the_command(cli: Cli, config: Path) -> None:
    """A balance is made by grants alone."""
    wrong = "  - {scope: organisation, limit_usd: 5, period: prepaid}\n"
    config.write_text(config.read_text().rstrip() + "\n" + wrong)
    checked = cli("config", "check", "--config", config)
    assert checked.exit_code == 1
    assert "rheostat budget grant" in checked.output.replace("\n", " ")


def test_status_and_explain_show_where_spending_leads(cli: Cli, config: Path) -> None:
    """What a window comes to, and what a paced budget's price is multiplied by."""
    paced = (
        '  - {scope: "key:default", limit_usd: 0.00001, period: month, pacing: {}, soft: true}\n'
    )
    config.write_text(config.read_text().rstrip() + f"\n{paced}\n")
    assert cli("ask", "What is 3 + 4?", "--kind", "number", "--config", config).exit_code == 0
    for command in (("status",), ("explain", "default")):
        told = json.loads(cli("budget", *command, "--json", "--config", config).stdout)
        by_scope = {found["scope"]: found for found in told}
        assert by_scope["organisation"]["pacing"] is None
        found = by_scope["key:default"]
        shares = found["pacing"]
        assert shares["spent_share"] == found["spent_nano_usd"] / found["limit_nano_usd"]
        assert 0 <= shares["planned_share"] <= 1
        assert shares["price_factor"] >= 1
        shown = " ".join(cli("budget", *command, "--config", config).stdout.split())
        assert "paced: " in shown
        assert "planned" in shown
        projected = found["projected_nano_usd"]
        assert ("on course for" in shown) == (projected is not None)


def test_what_the_file_paces_is_paced_by_the_gateway(config: Path) -> None:
    """The law arrives where requests are decided; without one nothing is read for it."""
    plain = build_service(load(config))
    assert plain.pacer is None
    law = "pacing: {keep_accuracy_target: true, max_price_factor: 50}"
    paced = f'  - {{scope: "key:default", limit_usd: 1, period: week, {law}}}'
    config.write_text(config.read_text().rstrip() + f"\n{paced}\n")
    service = build_service(load(config))
    assert service.pacer is not None
    expected = Pacing(keep_accuracy_target=True, max_factor=50)
    assert service.pacer.paced == {("key:default", "week"): expected}
    for built in (plain, service):
        built.ledger.close()
