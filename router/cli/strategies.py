"""``rheostat strategies``: every strategy with its parameters and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.cli.console import console

if TYPE_CHECKING:
    from dataclasses import Field

    from router.verifiers.base import Demands


def strategies() -> None:
    """List the test-time strategies and the verifiers, their parameters and their papers."""
    from dataclasses import fields

    from rich.table import Table

    from router.strategies.registry import STRATEGIES
    from router.verifiers.registry import VERIFIERS

    table = Table("strategy", "parameters (defaults)", "what it does", "source")
    for name, strategy in STRATEGIES.items():
        parameters = ", ".join(f"{f.name}={f.default}" for f in fields(strategy)) or "-"
        table.add_row(name, parameters, strategy.title, strategy.source)
    console().print(table)
    judges = Table("verifier", "parameters (defaults)", "right is", "needs")
    for name, verifier in VERIFIERS.items():
        parameters = ", ".join(map(_shown, fields(verifier))) or "-"
        judges.add_row(name, parameters, verifier.title, _needs(verifier.demands))
    console().print(judges)


def _shown(parameter: Field[Any]) -> str:
    from dataclasses import MISSING

    given = parameter.default
    return parameter.name if given is MISSING else f"{parameter.name}={given}"


def _needs(demands: Demands) -> str:
    told = (
        (f"{demands.model_calls} model call", demands.model_calls > 0),
        ("a server", demands.service),
        (f"rheostat[{demands.extra}]", demands.extra is not None),
    )
    said = ", ".join(text for text, holds in told if holds) or "-"
    return f"{said} (weak)" if demands.weak else said
