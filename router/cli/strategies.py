"""``rheostat strategies``: every strategy with its parameters and where it comes from."""

from __future__ import annotations

from router.cli.console import console


def strategies() -> None:
    """List the test-time strategies, their parameters and their papers."""
    from dataclasses import fields

    from rich.table import Table

    from router.strategies.registry import STRATEGIES

    table = Table("strategy", "parameters (defaults)", "what it does", "source")
    for name, strategy in STRATEGIES.items():
        parameters = ", ".join(f"{f.name}={f.default}" for f in fields(strategy)) or "-"
        table.add_row(name, parameters, strategy.title, strategy.source)
    console().print(table)
