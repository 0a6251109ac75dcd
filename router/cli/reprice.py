"""``rheostat reprice``: what calls cost by the prices of their days, and corrections."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - read when the command is made
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cost_models.money import format_usd
from router.cli.console import console, errors_shown, plain_table
from router.cli.report import FORMATS, PLACES, as_utc

if TYPE_CHECKING:
    from storage.repricing import Repricing


def reprice(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    since: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="Requests from this time on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="Requests before this time (UTC).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be corrected, write nothing.")
    ] = False,
) -> None:
    """Compute what calls cost by the prices valid at their time, and book the differences."""
    with errors_shown():
        from router.cli.build import open_ledger, utc_now
        from router.gateway.config import load
        from storage.repricing import reprice as reprice_ledger

        loaded = load(config)
        ledger = open_ledger(loaded)
        try:
            told = reprice_ledger(
                ledger,
                loaded.repricing_book(),
                utc_now(),
                (as_utc(since), as_utc(until)),
                dry_run=dry_run,
            )
        finally:
            ledger.close()
        _show(told, dry_run=dry_run)


def _show(told: Repricing, *, dry_run: bool) -> None:
    screen = console()
    table = plain_table("model", "calls", "differing", "booked", "by the prices")
    for model in sorted(told.n_calls):
        table.add_row(
            model,
            f"{told.n_calls[model]:,}",
            f"{told.n_differing[model]:,}",
            format_usd(told.booked[model], PLACES),
            format_usd(told.priced[model], PLACES),
        )
    if told.n_calls:
        screen.print(table)
    for model, n_calls in sorted(told.n_unpriced.items()):
        screen.print(
            f"{model}: {n_calls:,} calls left as they are: the configuration has no price for it",
            markup=False,
            soft_wrap=True,
        )
    if told.n_in_doubt:
        screen.print(
            f"{told.n_in_doubt:,} calls are in doubt and stay at their worst case; "
            "close them with: rheostat reconcile"
        )
    if told.n_billed:
        screen.print(f"{told.n_billed:,} calls cost what their bill says")
    n_differing = told.n_differing.total()
    change = told.priced.total() - told.booked.total()
    sign = "-" if change < 0 else "+"
    done = "would be corrected" if dry_run else "corrected"
    screen.print(f"{n_differing:,} calls {done}, {sign}{format_usd(abs(change), PLACES)}")
