"""Commands that need no server: init, config, ask, plan, report, doctor, models, questions."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from router.gateway.config import load
from router.questions.base import read_questions

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli


def test_init_writes_a_configuration_that_can_be_read_and_keeps_an_old_one(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both templates are valid; a second run leaves the file as it is and says so."""
    monkeypatch.setenv("UPSTREAM_KEY", "sk-test")
    for name, options in (("up.yaml", []), ("own.yaml", ["--embedded"])):
        path = tmp_path / name
        assert cli("init", path, *options).exit_code == 0
        assert len(load(path).models) == 2
        before = path.read_text()
        again = cli("init", path, *options)
        assert again.exit_code == 1
        assert "is there already" in again.stderr
        assert path.read_text() == before


def test_config_check_counts_arms_and_show_hides_nothing_but_secrets(
    cli: Cli, config: Path
) -> None:
    """Two models with three strategies are six arms; what is shown can be read again."""
    assert "6 arms" in cli("config", "check", "--config", config).stdout
    shown = cli("config", "show", "--config", config).stdout
    assert "self_consistency(samples=3)" in shown
    assert "default_max_tokens: 512" in shown


def test_a_wrong_configuration_is_one_line_that_says_where_and_what_instead(
    cli: Cli, tmp_path: Path
) -> None:
    """The line and the nearest key are named, on standard error, with status 1."""
    path = tmp_path / "rheostat.yaml"
    path.write_text("models:\n  - {name: a, modle: openai/gpt-4o-mini}\n")
    done = cli("config", "check", "--config", path)
    assert done.exit_code == 1
    assert "line 2" in done.stderr
    assert "did you mean 'model'?" in done.stderr
    assert "Traceback" not in done.output


def test_ask_answers_and_the_answer_is_in_the_ledger(cli: Cli, config: Path) -> None:
    """What was said to be paid is what the report says was paid."""
    asked = cli("ask", "What is 3 + 4?", "--kind", "number", "--config", config)
    assert asked.exit_code == 0, asked.output
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert told["totals"]["n_entries"] == 1
    (arm,) = told["arms"]
    assert arm["arm"] in asked.stdout
    assert arm["simulated"] is True
    assert told["totals"]["cost_nano_usd"] == told["budgets"][0]["spent_nano_usd"] > 0


def test_ask_on_an_empty_budget_is_refused_with_the_facts_and_spends_nothing(
    cli: Cli, config: Path
) -> None:
    """The refusal is recorded, the money is not touched, status 1."""
    config.write_text(config.read_text().replace("limit_usd: 5.00", "limit_usd: 0"))
    asked = cli("ask", "What is 3 + 4?", "--config", config)
    assert asked.exit_code == 1
    assert "the day budget of 'organisation' has 0.000000000 USD free" in asked.stderr
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert told["totals"]["n_refused"] == 1
    assert told["totals"]["cost_nano_usd"] == 0


def test_plan_shows_every_arm_and_runs_none(cli: Cli, config: Path) -> None:
    """All six arms have a line; the ledger stays empty."""
    planned = cli("plan", "What is 3 + 4?", "--kind", "number", "--config", config)
    assert planned.exit_code == 0, planned.output
    assert len(re.findall(r"(?:small|large)\|", planned.stdout)) == 7
    told = json.loads(cli("report", "--config", config, "--json").stdout)
    assert told["totals"]["n_requests"] == 0


def test_plan_says_why_arms_are_out_and_fails_when_none_is_left(cli: Cli, config: Path) -> None:
    """A cost cap below the cheapest first call leaves nothing."""
    planned = cli("plan", "What is 3 + 4?", "--max-cost-usd", "0.000000001", "--config", config)
    assert planned.exit_code == 1
    assert "above max_cost_usd" in planned.stdout
    assert "no arm is left" in planned.stderr


def test_an_unknown_model_is_named_with_those_that_exist(cli: Cli, config: Path) -> None:
    """The message lists what could be asked for."""
    asked = cli("ask", "hello", "--model", "huge", "--config", config)
    assert asked.exit_code == 1
    assert "'huge' does not exist here; use one of: auto, small, large" in asked.stderr


def test_the_report_says_simulated_beside_every_simulated_arm(cli: Cli, config: Path) -> None:
    """Nobody can take a simulated figure for a real one."""
    cli("ask", "What is 3 + 4?", "--kind", "number", "--model", "large", "--config", config)
    cli("ask", "What is 3 + 4?", "--kind", "number", "--model", "small", "--config", config)
    shown = cli("report", "--config", config).stdout
    assert shown.count("(simulated)") == 2
    assert "2 requests, 0 refused" in shown


def test_a_report_of_a_time_without_requests_is_empty(cli: Cli, config: Path) -> None:
    """The bounds hold: from inside, until outside."""
    cli("ask", "What is 3 + 4?", "--config", config)
    late = cli("report", "--config", config, "--json", "--since", "2999-01-01")
    early = cli("report", "--config", config, "--json", "--until", "2000-01-01")
    assert json.loads(late.stdout)["arms"] == json.loads(early.stdout)["arms"] == []


def test_doctor_finds_a_wrong_counter_and_puts_it_right(cli: Cli, config: Path) -> None:
    """Status 1 while something is wrong, and --repair makes the counter the sum of its rows."""
    cli("ask", "What is 3 + 4?", "--config", config)
    assert cli("doctor", "--config", config).exit_code == 0
    engine = create_engine(load(config).ledger)
    with engine.begin() as connection:
        connection.execute(text("UPDATE budget_windows SET spent_nano_usd = spent_nano_usd + 1"))
    engine.dispose()
    sick = cli("doctor", "--config", config)
    assert sick.exit_code == 1
    assert "counter differs from its rows" in sick.stdout
    assert "repaired" in cli("doctor", "--repair", "--config", config).stdout
    assert cli("doctor", "--config", config).exit_code == 0


def test_a_file_that_is_no_ledger_is_named_and_left_alone(cli: Cli, config: Path) -> None:
    """A broken ledger file ends in a clear error; not a byte of it changes."""
    ledger = config.parent / "ledger.db"
    ledger.write_bytes(b"this is not a database, but it is somebody's file" * 100)
    before = ledger.read_bytes()
    done = cli("report", "--config", config)
    assert done.exit_code == 1
    assert "ledger.db" in done.stderr
    assert "Traceback" not in done.output
    assert ledger.read_bytes() == before


def test_models_list_says_size_and_licence_of_each(cli: Cli, tmp_path: Path) -> None:
    """What could be fetched is known before anything is."""
    listed = cli("models", "list", "--directory", tmp_path).stdout
    assert "local/smollm2-135m" in listed
    assert "…" not in listed
    assert "Apache-2.0" in listed
    assert "98 MB" in listed


def test_an_unknown_embedded_model_is_named_with_those_that_exist(cli: Cli, tmp_path: Path) -> None:
    """Nothing is fetched for a misspelt name."""
    done = cli("models", "fetch", "smol", "--directory", tmp_path)
    assert done.exit_code == 1
    assert "smollm2-135m" in done.stderr


def test_questions_and_collect_give_a_graded_row_for_every_arm(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    """Nine questions on six arms are 54 rows; a second run adds none."""
    file, output = tmp_path / "q.jsonl", tmp_path / "o.jsonl"
    assert cli("questions", file, "--count", 9).exit_code == 0
    assert len(read_questions(file)) == 9
    done = cli("collect", file, "--output", output, "--config", config)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len({(row["query_id"], row["model"], row["strategy"]) for row in rows}) == 54
    cli("collect", file, "--output", output, "--config", config)
    assert len(output.read_text().splitlines()) == 54


def test_an_arm_glob_that_matches_nothing_is_an_error(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    """The arms that exist are named."""
    file = tmp_path / "q.jsonl"
    cli("questions", file, "--count", 1)
    done = cli("collect", file, "-o", tmp_path / "o.jsonl", "--config", config, "--arms", "huge|*")
    assert done.exit_code == 1
    assert "small|direct" in done.stderr


def test_strategies_are_listed_with_their_papers(cli: Cli) -> None:
    """Each strategy says where it comes from."""
    listed = cli("strategies").stdout
    assert "self_consistency" in listed
    assert "Wang et al. 2022" in listed


def test_alerts_test_needs_a_webhook_that_answers(cli: Cli, config: Path) -> None:
    """Without an address it says what to write; a redirect is a failure; the address is hidden."""
    missing = cli("alerts", "test", "--config", config)
    assert missing.exit_code == 1
    assert "alerts: {webhook:" in missing.stderr
    posted: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        status = 204

        def do_POST(self) -> None:
            posted.append(self.headers["webhook-signature"])
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/private"
        told = f"\nalerts: {{webhook: '{url}', secret: '0123456789abcdef'}}\n"
        config.write_text(config.read_text().rstrip() + told)
        assert cli("alerts", "test", "--config", config).exit_code == 0
        Receiver.status = 307
        moved = cli("alerts", "test", "--config", config)
        server.shutdown()
    assert moved.exit_code == 1
    assert "it answered 307" in moved.stderr
    assert [text.startswith("v1,") for text in posted] == [True, True]
    shown = cli("config", "show", "--config", config).stdout
    assert "private" not in shown
    assert "0123456789abcdef" not in shown


@pytest.mark.parametrize(
    ("alerts", "problem"),
    [
        ("{webhook: 'file:///etc/hosts'}", "alerts.webhook: an address such as"),
        ("{webhook: 'http://[::1'}", "alerts.webhook: an address such as"),
        ("{secret: '0123456789abcdef'}", "alerts.secret: a secret signs nothing"),
    ],
)
def test_a_wrong_address_for_alerts_is_refused(
    cli: Cli, config: Path, alerts: str, problem: str
) -> None:
    """When the file is read, with the place."""
    config.write_text(config.read_text().rstrip() + f"\nalerts: {alerts}\n")
    checked = cli("config", "check", "--config", config)
    assert checked.exit_code == 1
    assert problem in " ".join(checked.stderr.split())
