"""The planning notebooks: made from their sources, run whole, and equal to the report."""

from __future__ import annotations

import importlib.util
import json
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from policies.synthetic import World
from router.cli.build import open_database
from router.jobs.simulate import simulate
from router.reports.desk import Table, open_desk
from router.reports.errors import ReportError
from router.reports.words import money
from storage.facts import Asked, read_facts

if TYPE_CHECKING:
    from types import ModuleType

for needed in ("jupytext", "nbclient", "nbformat", "ipykernel", "matplotlib"):
    pytest.importorskip(needed, reason="needs the extra `notebooks`")

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
NAMES = [source.stem for source in SOURCES]
END = date(2026, 7, 16)
DAYS = 36


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """Load what makes and runs the notebooks; it is a script, not a part of the packages."""
    spec = importlib.util.spec_from_file_location("build_notebooks", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Simulate a small ledger, the same for each notebook."""
    url = f"sqlite:///{tmp_path_factory.mktemp('desk') / 'simulated.db'}"
    ledger = open_database(url)
    simulate(ledger, World(END - timedelta(days=DAYS), DAYS, 250, seed=4, epsilon=0.3))
    ledger.close()
    return url


def test_there_are_four() -> None:
    """One each for the budget, the policy, the machines and the savings."""
    assert NAMES == ["01_budget_plan", "02_policy_lab", "03_own_or_rent", "04_savings_audit"]


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_a_notebook_is_its_source_and_holds_no_output(source: Path, build: ModuleType) -> None:
    """``python notebooks/build.py`` was run; one cell is tagged for parameters."""
    kept = source.with_suffix(".ipynb").read_text("utf-8")
    assert kept == build.as_text(build.made(source))
    cells = json.loads(kept)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1
    assert cells[0]["cell_type"] == "markdown"


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_it_runs_from_top_to_bottom(
    source: Path, build: ModuleType, url: str, tmp_path: Path
) -> None:
    """Every cell runs, checks its own figures, and the page has charts that are described."""
    done = build.run(source, tmp_path, ledger_url=url)
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"]
    assert "SIMULATED" in "".join(o.get("text", "") for o in outputs)
    drawn = [o for o in outputs if "image/svg+xml" in o.get("data", {})]
    assert drawn
    assert all("<desc" in output["data"]["image/svg+xml"] for output in drawn)
    page = build.as_page(done)
    assert page.startswith("# ")
    if source.stem == "01_budget_plan":
        facts = _facts(url)
        spent, answers = facts.whole.cost_nano_usd or 0, facts.whole.n_closed
        assert f"| whole | {answers:,} | {money(spent / 1e9)} |" in page


def test_a_ledger_without_an_entry_says_how_to_get_one(build: ModuleType, tmp_path: Path) -> None:
    """A typing error in the address does not end in figures of nothing."""
    with pytest.raises(ReportError, match=r"no entry to plan from.*rheostat simulate"):
        open_desk(f"sqlite:///{tmp_path / 'empty.db'}")
    assert build.sources() == SOURCES


def test_a_cell_of_a_table_cannot_break_it() -> None:
    """Names come from clients: a bar or a tag in one stays text."""
    table: Any = Table(["team", "spent"], [["a|b", "<script>"]])
    assert table._repr_markdown_().splitlines()[-1] == "| a\\|b | &lt;script&gt; |"
    assert str(table) == "team  spent\na|b   <script>"


def _facts(url: str) -> Any:  # noqa: ANN401 - the facts of the last 30 days, as the notebook asks
    ledger, now = open_desk(url)
    try:
        asked = Asked(now - timedelta(days=30), now)
        return ledger.read(lambda session: read_facts(session, asked))
    finally:
        ledger.close()
