"""Make the notebooks from their sources, run them, and turn what they showed into pages.

The sources are the ``.py`` files beside this one, in the percent form of jupytext. The ``.ipynb``
files are made from them, without outputs: ``python notebooks/build.py`` writes them anew.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PARAMETERS = "parameters"
SECONDS = 120
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[Path]:
    """Give the sources of the notebooks in their order."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def made(source: Path) -> nbformat.NotebookNode:
    """Make the notebook of a source: no outputs, and the same bytes each time."""
    notebook = jupytext.read(source)
    for i, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{i:02d}"
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return notebook


def as_text(notebook: nbformat.NotebookNode) -> str:
    """Write a notebook as it is kept in its file."""
    return str(nbformat.writes(notebook, version=4)) + "\n"


def run(source: Path, folder: Path, **parameters: object) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom in ``folder``, with other values of its parameters."""
    notebook = made(source)
    places = [
        i for i, cell in enumerate(notebook.cells) if PARAMETERS in cell.metadata.get("tags", ())
    ]
    (place,) = places
    lines = [f"{name} = {value!r}" for name, value in parameters.items()]
    given = nbformat.v4.new_code_cell("\n".join(lines), id="cell-given")
    notebook.cells.insert(place + 1, given)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), before)))
    try:
        where = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=where).execute()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    notebook.cells.remove(given)
    return notebook


def as_page(notebook: nbformat.NotebookNode) -> str:
    """Give an executed notebook as Markdown: text, figures, and the code folded away."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        code = "\n".join(f"    {line}" for line in ["```python", *cell.source.splitlines(), "```"])
        parts.append(f'??? note "Code"\n\n{code}')
        parts += [shown for output in cell.outputs if (shown := _shown(output))]
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str:  # noqa: ANN401 - whatever a cell displays
    if output.output_type == "stream":
        return "```text\n" + output.text.rstrip() + "\n```"
    data = output.get("data", {})
    for kind in ("text/markdown", "image/svg+xml"):
        if kind in data:
            return str(data[kind])
    return "```text\n" + str(data.get("text/plain", "")) + "\n```"


def simulated(folder: Path, days: int = 45, requests_per_day: int = 400) -> str:
    """Make up a ledger for the notebooks to read, with the same truth each time; give its URL."""
    sys.path.insert(0, str(ROOT))
    from policies.synthetic import World  # noqa: PLC0415 - found only from here on
    from router.cli.build import open_database  # noqa: PLC0415 - as above
    from router.jobs.simulate import simulate  # noqa: PLC0415 - as above

    url = f"sqlite:///{folder / 'simulated.db'}"
    ledger = open_database(url)
    end = date(2026, 7, 16)
    simulate(ledger, World(end - timedelta(days=days), days, requests_per_day, seed=4))
    ledger.close()
    return url


def main() -> None:
    """Write the notebooks; with ``--pages FOLDER`` run them and write what they showed there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pages", type=Path, help="run them, and write Markdown pages there")
    pages = parser.parse_args().pages
    for source in sources():
        source.with_suffix(".ipynb").write_text(as_text(made(source)), "utf-8")
    if pages is None:
        return
    pages.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = simulated(folder)
        for source in sources():
            page = as_page(run(source, folder, ledger_url=url))
            (pages / f"{source.stem}.md").write_text(page, "utf-8")


if __name__ == "__main__":
    main()
