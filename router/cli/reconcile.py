"""``rheostat reconcile``: the ledger against what the provider charged."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cost_models.money import format_usd, to_nano_usd
from router.cli.console import EXIT_PROBLEM, console, errors_shown, fail, plain_table
from router.cli.report import PLACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.reconciling import Reconciled


def reconcile(
    bill: Annotated[
        Path, typer.Argument(help="A CSV file: start, end, model, request_id, cost_usd.")
    ],
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    tolerance: Annotated[
        str, typer.Option(help="USD by which a charge may differ, as in 0.01 for rounded ones.")
    ] = "0",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be closed, write nothing.")
    ] = False,
) -> None:
    """Close what is in doubt by what the provider charged, and list what differs."""
    with errors_shown():
        from router.cli.build import open_ledger, utc_now
        from router.gateway.config import load
        from storage.bills import read_bill
        from storage.reconciling import reconcile as reconcile_ledger

        allowed = _amount(tolerance)
        charged = read_bill(bill)
        ledger = open_ledger(load(config))
        try:
            found = reconcile_ledger(ledger, charged, utc_now(), dry_run=dry_run)
        finally:
            ledger.close()
        differing = [one for one in found if abs(one.difference) > allowed]
        _show(found, differing, dry_run=dry_run)
        if differing:
            raise typer.Exit(EXIT_PROBLEM)


def _amount(text: str) -> int:
    try:
        return to_nano_usd(Decimal(text))
    except (InvalidOperation, ValueError):
        fail(f"--tolerance must be an amount of at least 0 in USD, as in 0.01, got {text!r}")


def _show(found: Sequence[Reconciled], differing: Sequence[Reconciled], *, dry_run: bool) -> None:
    screen = console()
    table = plain_table("charge", "calls", "charged", "ledger", "difference")
    for one in differing:
        sign = "-" if one.difference < 0 else "+"
        table.add_row(
            one.charge.subject,
            f"{one.n_calls:,}",
            format_usd(one.charge.cost_nano_usd, PLACES),
            format_usd(one.settled, PLACES),
            f"{sign}{format_usd(abs(one.difference), PLACES)}",
        )
        if one.n_open:
            table.add_row(f"  {one.n_open:,} requests of it are still open")
    if differing:
        screen.print(table)
    n_closed = sum(one.n_closed for one in found)
    change = sum(one.settled - one.booked for one in found)
    sign = "-" if change < 0 else "+"
    done = "would be closed" if dry_run else "closed"
    screen.print(
        f"{len(found):,} charges compared, {len(differing):,} differ; {n_closed:,} calls in doubt "
        f"{done}, {sign}{format_usd(abs(change), PLACES)}"
    )
