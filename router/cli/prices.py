"""``rheostat prices``: what each model costs, where that is known from, and likely slips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import EXIT_PROBLEM, console, errors_shown, plain_table

if TYPE_CHECKING:
    from decimal import Decimal

prices_app = typer.Typer(
    help="What each model costs, and where that is from.", no_args_is_help=True
)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
DEFAULT_CONFIG = Path("rheostat.yaml")
UNITS = {"usd_per_request": "per request", "usd_per_machine_hour": "per machine hour"}


@prices_app.command("list")
def list_prices(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List every price of every model with the day from which it holds, in USD."""
    with errors_shown():
        from router.gateway.config import load

        loaded = load(config)
        table = plain_table("model", "from", "input", "cached", "written", "output", "reasoning")
        for model in loaded.models:
            for dated in loaded.dated_prices(model):
                rates = list(dated.price.rates.values())
                table.add_row(
                    f"{model.name}\n  {dated.price.source}",
                    dated.valid_from.isoformat() if dated.valid_from else "ever",
                    *(_shown(rate) for rate in rates[:5]),
                )
                for name, unit in UNITS.items():
                    if dated.price.rates[name]:
                        table.add_row(f"  {_shown(dated.price.rates[name])} {unit}")
        screen = console()
        screen.print(table)
        screen.print("USD per million tokens; each class at its own price", style="dim")


@prices_app.command("check")
def check_prices(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Look for prices that are 1,000 times apart from those of the shipped list."""
    with errors_shown():
        from router.gateway.config import load

        loaded = load(config)
        found = loaded.price_slips()
        for slip in found:
            console().print(slip, markup=False, soft_wrap=True)
        if found:
            raise typer.Exit(EXIT_PROBLEM)
        console().print(f"{len(loaded.models)} models, no price out of its range")


@prices_app.command("diff")
def diff_prices(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Compare the prices that hold today with those of the shipped list."""
    with errors_shown():
        from cost_models.pricing import differing, shipped_price
        from router.cli.build import utc_now
        from router.gateway.config import load

        loaded = load(config)
        screen = console()
        n_compared = 0
        for model in loaded.models:
            shipped = shipped_price(model.model)
            if shipped is None:
                screen.print(f"{model.name}: {model.model} is not in the shipped list")
                continue
            n_compared += 1
            own = loaded.price_book().price(model.name, utc_now().date())
            for name, (mine, theirs) in differing(own, shipped).items():
                screen.print(f"{model.name}: {name} is {_shown(mine)}, listed as {_shown(theirs)}")
        screen.print(f"{n_compared} of {len(loaded.models)} models compared")


def _shown(rate: Decimal) -> str:
    """Give an amount with no more digits than it has."""
    return f"{rate.normalize():f}"
