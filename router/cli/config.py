"""``rheostat config``: check the configuration, or show it as it was understood."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from router.cli.console import console, errors_shown, say_warning

config_app = typer.Typer(help="Check or show the configuration.", no_args_is_help=True)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
DEFAULT_CONFIG = Path("rheostat.yaml")


@config_app.command("show")
def show(
    config: ConfigOption = DEFAULT_CONFIG,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
) -> None:
    """Print the configuration as it was understood, defaults included, secrets hidden."""
    with errors_shown():
        from router.gateway.config import load

        loaded = load(config)
        if not origin:
            console().print(loaded.show(), markup=False, soft_wrap=True)
            return
        import os

        from router.gateway.config import read_text, read_yaml
        from router.gateway.origins import origins

        root, _ = read_yaml(read_text(config), str(config), os.environ)
        for found in origins(loaded.shown(), root, str(config), os.environ):
            line = f"{found.place} = {found.shown}  # {found.origin}"
            console().print(line, markup=False, soft_wrap=True)


@config_app.command("check")
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Read the configuration and say whether it can be served."""
    with errors_shown():
        from router.gateway.config import load

        loaded = load(config)
        n_arms = len(loaded.models) * len(loaded.strategies) + len(loaded.cascades)
        cascades = f" + {len(loaded.cascades)} cascades" if loaded.cascades else ""
        console().print(
            f"{config} is fine: {len(loaded.models)} models x {len(loaded.strategies)} strategies"
            f"{cascades} = {n_arms} arms, {len(loaded.budgets)} budgets"
        )
        for slip in loaded.price_slips():
            say_warning(slip)
