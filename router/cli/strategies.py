"""``rheostat strategies``: every strategy with its parameters and where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.cli.console import console

if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import Field

    from rich.console import Console

    from router.verifiers.base import Demands


def strategies() -> None:
    """List the test-time strategies and the verifiers, their parameters and their papers."""
    from dataclasses import fields

    from router.strategies.registry import STRATEGIES
    from router.verifiers.registry import VERIFIERS

    screen = console()
    screen.print("[bold]Strategies[/] (parameters at their defaults)\n")
    for name, strategy in STRATEGIES.items():
        _tell(screen, name, fields(strategy), f"{strategy.title}; {strategy.source}")
    screen.print("[bold]Verifiers[/], given to a strategy by name\n")
    for name, verifier in VERIFIERS.items():
        needs = _needs(verifier.demands)
        _tell(screen, name, fields(verifier), f"right: {verifier.title}{needs}")


def _tell(screen: Console, name: str, parameters: Sequence[Field[Any]], about: str) -> None:
    """Print a name with its parameters, and what it is, indented."""
    from rich.padding import Padding
    from rich.text import Text

    arguments = ", ".join(map(_shown, parameters))
    title = Text(name, style="bold")
    title.append(f"({arguments})" if arguments else "", style="not bold dim")
    screen.print(title)
    screen.print(Padding(Text(about), (0, 0, 1, 4)))


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
    said = ", ".join(text for text, holds in told if holds)
    strength = "; a weak signal" if demands.weak else "; exact" if demands.exact else ""
    return (f"; needs {said}" if said else "") + strength
