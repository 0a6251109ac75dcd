"""``rheostat import``: outcomes recorded elsewhere become graded history in the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.console import console, errors_shown
from router.cli.fit import OutcomesArgument  # noqa: TC001 - read when the command is made
from router.cli.token_prices import PricesOption, with_costs


def import_outcomes(
    outcomes: OutcomesArgument,
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    prices: PricesOption = None,
) -> None:
    """Put recorded outcomes into the ledger as graded history: all of them or none, and once."""
    with errors_shown():
        import numpy as np

        from policies.outcomes import read_outcomes
        from router.cli.build import open_ledger, utc_now
        from router.gateway.config import load
        from storage.history import import_history

        tables = [with_costs(read_outcomes(path), prices) for path in outcomes]
        ledger = open_ledger(load(config))
        try:
            now = utc_now()
            n_new = ledger.write(lambda session: import_history(session, tables, now))
        finally:
            ledger.close()
        n_rows = sum(map(len, tables))
        console().print(f"{n_new:,} outcomes imported, {n_rows - n_new:,} were there already")
        n_unpriced = sum(int(np.isnan(table.numbers["cost_usd"]).sum()) for table in tables)
        if n_unpriced:
            console().print(
                f"{n_unpriced:,} of them have no cost: answers without one tell a policy how right "
                "an arm is, and not what it costs"
            )
