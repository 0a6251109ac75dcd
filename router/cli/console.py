"""What every command shares: the console, and how errors and figures look on it."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TextIO

import typer
from rich.console import Console

from cost_models.errors import RheostatError
from policies.errors import OutcomeWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

EXIT_PROBLEM = 1


def console() -> Console:
    """Make the console that results are printed on."""
    return Console(highlight=False)


def progress_console() -> Console:
    """Make the console that progress is shown on: standard error, so that results stay apart."""
    return Console(stderr=True, highlight=False)


def say_error(message: str) -> None:
    """Print what went wrong and what to do, on standard error."""
    Console(stderr=True, highlight=False).print(
        f"[bold red]error:[/] {_escaped(message)}", soft_wrap=True
    )


def say_warning(message: str) -> None:
    """Print what is probably wrong, on standard error; the command goes on."""
    Console(stderr=True, highlight=False).print(
        f"[bold yellow]warning:[/] {_escaped(message)}", soft_wrap=True
    )


def fail(message: str) -> NoReturn:
    """Print what went wrong and what to do, on standard error, and end with status 1."""
    say_error(message)
    raise typer.Exit(EXIT_PROBLEM)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show errors raised on purpose as one line; anything else is a bug and keeps its trace."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _shown
            yield
    except RheostatError as error:
        fail(str(error))
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show what is meant for the reader as such, and any other warning as Python does."""
    if issubclass(category, OutcomeWarning):
        say_warning(str(message))
    else:
        where = sys.stderr if file is None else file
        where.write(warnings.formatwarning(message, category, filename, lineno, line))


def plain_table(first: str, *figures: str) -> Table:
    """Make a table that fits 80 columns: one folding column of names, then figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def usd(amount: float, digits: int = 3) -> str:
    """``$0.000123``: a predicted or reported amount with ``digits`` significant digits."""
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    from math import floor, log10

    places = digits - 1 - floor(log10(amount))
    return f"${amount:.{places}f}"
