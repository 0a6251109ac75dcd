"""``rheostat report --format``: files, gates, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_reports import BUDGET, WORLD
from typer.testing import CliRunner

from router.cli.main import app

if TYPE_CHECKING:
    from click.testing import Result

    from storage.store import Ledger

ROOT = Path(__file__).parents[3]
PERIOD = ("--period", "2026-09", "--as-of", "2026-09-18")
SCENARIO = (
    "machines: {usd_per_query: [0.005, 0.01, 0.02], s_per_query: 1, usd_per_machine_month: 5}\n"
)


@pytest.fixture(scope="module")
def config(made: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a configuration over a simulated ledger, with a budget and a target."""
    folder = tmp_path_factory.mktemp("files")
    url = made.engine.url.render_as_string(hide_password=False)
    models = "".join(
        f"  - {{name: {name}, model: simulated/{name}, price: "
        "{input_usd_per_million_tokens: 1, output_usd_per_million_tokens: 4}}\n"
        for name in WORLD.models
    )
    path = folder / "rheostat.yaml"
    path.write_text(
        f"ledger: {url}\nmodels:\n{models}auth: {{mode: open}}\naccuracy_target: 0.99\n"
        f"budgets: [{{scope: organisation, period: month, limit_usd: "
        f"{BUDGET.limit_nano_usd // 10**9}}}]\n",
        "utf-8",
    )
    return path


def run(config: Path, *more: str, code: int = 0) -> Result:
    """Run the report; give the result."""
    done = CliRunner().invoke(app, ["report", "--config", str(config), *more])
    assert done.exit_code == code, done.output
    return done


def test_every_format_tells_the_same_nano_usd(config: Path, tmp_path: Path) -> None:
    """Files by their ending; the plain report, the document and the table agree."""
    run(config, *PERIOD, "--format", "html,json,csv", "--output", str(tmp_path / "r.html"))
    document = json.loads((tmp_path / "r.json").read_text("utf-8"))
    whole = document["facts"]["whole"]["cost_nano_usd"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text("utf-8"))))
    assert [int(r["value"]) for r in rows if (r["section"], r["figure"]) == ("whole", "cost")] == [
        whole
    ]
    plain = run(config, "--since", "2026-09-01", "--until", "2026-09-18", "--json")
    assert json.loads(plain.stdout)["totals"]["cost_nano_usd"] == whole
    page = (tmp_path / "r.html").read_text("utf-8")
    assert document["tiles"][0]["value"] in page
    assert document["header"]["snapshot"] in page


def test_the_command_it_names_gives_the_same_report(config: Path) -> None:
    """Word for word, snapshot and all; also of a free time in another zone."""
    for given in (
        PERIOD,
        ("--compare", "2026-08..2026-09", "--as-of", "2026-09-18"),
        ("--since", "2026-09-02", "--until", "2026-09-09T12:00:00", "--time-zone", "Asia/Kolkata"),
    ):
        first = run(config, *given, "--format", "json").stdout
        words = json.loads(first)["footer"]["reproduce"].split()
        assert words[:2] == ["rheostat", "report"]
        assert run(config, *words[2:]).stdout == first


def test_the_terminal_tells_the_decision_and_the_five_figures(config: Path, tmp_path: Path) -> None:
    """What a page shows first; and with a scenario, whether to own."""
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(SCENARIO, "utf-8")
    told = run(config, *PERIOD, "--scenario", str(scenario)).stdout
    for words in ("SIMULATED", "Spent: $", "Cost of a correct answer: $", "Accuracy: ", "Forecast"):
        assert words in told
    assert "[breach]" in told
    assert "owning pays from 500 questions a month" in told


def test_two_periods_are_compared_by_name(config: Path) -> None:
    """The first is the earlier one, whole, and the second what the report is about."""
    given = ("--compare", "2026-08..2026-09", "--as-of", "2026-09-18", "--format", "json")
    document = json.loads(run(config, *given).stdout)
    assert document["header"]["period"] == "2026-09"
    assert "2026-08-01 to 2026-08-31" in document["charts"]["change"]["description"]
    alone = json.loads(run(config, *PERIOD, "--compare", "2026-08", "--json").stdout)
    assert alone["change"] == document["change"]


def test_a_gate_ends_with_3_and_says_why(config: Path, tmp_path: Path) -> None:
    """The report is written all the same; what cannot be decided ends with 4."""
    path = tmp_path / "r.json"
    given = (*PERIOD, "--format", "json", "--output", str(path), "--fail-on")
    done = run(config, *given, "accuracy", code=3)
    assert "accuracy: 95% interval" in " ".join(done.stderr.split())
    assert json.loads(path.read_text("utf-8"))["schema"] == "rheostat.report"
    empty = ("--period", "2026-03", "--fail-on", "over-budget,accuracy")
    done = run(config, *empty, code=4)
    assert "cannot be decided" in done.stderr


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("--period", "2026-13"), "there is no month"),
        (("--period", "2027-01"), "no whole hour"),
        (("--period", "2026-09", "--since", "2026-09-02"), "leave out --since"),
        (("--period", "2026-09", "--by", "team"), "belong to the plain report"),
        (("--format", "docx"), "--format takes terminal, html"),
        (("--period", "2026-09", "--format", "pdf"), "--output FILE"),
        (("--period", "2026-09", "--format", "html,json"), "--output FILE"),
        (("--period", "2026-09", "--fail-on", "profit"), "--fail-on takes over-budget, accuracy"),
        (("--compare", "2026-09..2026-08"), "takes the earlier period first"),
        (("--compare", "2026-08..2026-09", "--period", "2026-09"), "names the period itself"),
        (("--period", "2026-09", "--time-zone", "Mars/Olympus"), "no time zone is called"),
        (
            ("--period", "2026-08", "--format", "json", "--output", "/nowhere/r.json"),
            "cannot be written",
        ),
    ],
)
def test_what_cannot_be_done_is_said(config: Path, typed: tuple[str, ...], told: str) -> None:
    """One line that says what to do."""
    done = run(config, *typed, code=1)
    assert told in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("missing", "called", "extra"),
    [
        ("matplotlib", "charts.draw('compute', {})", "report"),
        ("jinja2", "page.report_page({})", "report"),
        ("weasyprint", "pdf.report_pdf({})", "pdf"),
    ],
)
def test_a_missing_extra_is_named(missing: str, called: str, extra: str) -> None:
    """A fresh interpreter without the library says what to install."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from router.reports import charts, page, pdf\n"
        "from router.reports.errors import ReportError\n"
        f"try:\n    {called}\nexcept ReportError as error:\n    print(error)"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter, with code from this file
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"pip install 'rheostat[{extra}]'" in done.stdout


def test_a_ledger_alone_is_enough(made: Ledger, config: Path, tmp_path: Path) -> None:
    """No file is read; it says the same but for the target, and its command gives it again."""
    url = made.engine.url.render_as_string(hide_password=False)
    asked = ["report", "--ledger", url, *PERIOD, "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    whole = json.loads(run(config, *PERIOD, "--json").stdout)["facts"]["whole"]
    assert document["facts"]["whole"]["cost_nano_usd"] == whole["cost_nano_usd"]
    assert document["difficulty"]["target"] is None
    assert document["change"]["prices_nano_usd"] is not None
    again = CliRunner().invoke(app, [*document["footer"]["reproduce"].split()[1:]])
    assert json.loads(again.stdout) == document
    gone = tmp_path / "gone.db"
    for wrong, said in ((f"sqlite:///{gone}", "there is no ledger"), ("gone.db", "takes a URL")):
        failed = CliRunner().invoke(app, ["report", "--ledger", wrong, *PERIOD])
        assert failed.exit_code == 1
        assert said in failed.output
    assert not gone.exists()
