"""``rheostat doctor``: is everything in order, and can the ledger be trusted to the last cent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import EXIT_PROBLEM, console, errors_shown

if TYPE_CHECKING:
    from router.gateway.config import Config


def doctor(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    repair: Annotated[
        bool, typer.Option("--repair", help="Put counters right from the rows.")
    ] = False,
) -> None:
    """Check configuration, weights and ledger; recompute every counter from its rows."""
    with errors_shown():
        from router.cli.build import open_ledger, utc_now
        from router.gateway.config import load

        loaded = load(config)
        screen = console()
        screen.print(f"config   {config}: fine")
        problems = _missing_weights(loaded)
        for problem in problems:
            screen.print(f"weights  {problem}")
        ledger = open_ledger(loaded)
        try:
            recovered = ledger.recover(utc_now(), stale_after_s=STALE_AFTER_S)
            ledger.roll_up(utc_now())
            findings = ledger.examine(repair=repair)
            for entry in recovered:
                screen.print(
                    f"ledger   request {entry.request_id} was left open by a dead process: "
                    f"charged {entry.charged_nano_usd / 1e9:.9f} USD, in doubt"
                )
            for finding in findings:
                screen.print(f"ledger   {finding}", markup=False)
            for status in ledger.budget_status(utc_now()):
                facts = status.facts
                screen.print(
                    f"budget   {facts.scope} per {facts.period}: spent "
                    f"{facts.spent_nano_usd / 1e9:.9f}, held {facts.held_nano_usd / 1e9:.9f} "
                    f"of {facts.limit_nano_usd / 1e9:.9f} USD"
                )
        finally:
            ledger.close()
        left = [finding for finding in findings if not finding.repaired]
        if left or problems:
            if left and not repair:
                screen.print("counters can be put right with: rheostat doctor --repair")
            raise typer.Exit(EXIT_PROBLEM)
        screen.print("ledger   every counter equals the sum of its rows")


STALE_AFTER_S = 60.0


def _missing_weights(config: Config) -> list[str]:
    from router.providers.weights import default_directory, find

    names = [model.local_name for model in config.models if model.local_name is not None]
    return [
        f"{name} is not installed; run: rheostat models fetch {name}"
        for name in names
        if find(name, default_directory()) is None
    ]
