"""``rheostat simulate``: a ledger full of made-up requests whose truth is known."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cost_models.money import format_usd
from router.cli.console import console, errors_shown, fail, progress_console

PLACES = 2


def simulate(
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 90,
    requests_per_day: Annotated[
        int, typer.Option(min=1, help="Requests on a weekday half way.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other requests.")] = 0,
    end: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day after the last one (default: today)."),
    ] = None,
    ledger_url: Annotated[
        str | None, typer.Option("--ledger", help="The ledger's URL, in place of --config.")
    ] = None,
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
) -> None:
    """Fill an empty ledger with simulated requests: known difficulty, skill, prices and events."""
    with errors_shown():
        from rich.progress import Progress

        from policies.synthetic import World
        from router.cli.build import open_database, utc_now
        from router.gateway.config import load
        from router.jobs.simulate import simulate as write

        now = utc_now()
        last = now.date() if end is None else end.date()
        if last > now.date():
            fail(f"--end {last} is in the future; give today or an earlier day")
        world = World(_start(last, days), days, requests_per_day, seed)
        url = load(config).ledger if ledger_url is None else ledger_url
        ledger = open_database(url)
        try:
            with Progress(console=progress_console(), transient=True) as bars:
                bar = bars.add_task("simulating", total=days)
                done = write(ledger, world, lambda _day, _done: bars.advance(bar))
        finally:
            ledger.close()
        screen = console()
        screen.print(
            f"SIMULATED: {done.n_requests:,} requests over {days:,} days from {world.start}, "
            f"{done.n_calls:,} calls, {done.n_graded:,} grades, "
            f"{format_usd(done.cost_nano_usd, PLACES)} of made-up money; seed {seed}",
            soft_wrap=True,
        )
        screen.print(
            f"day {world.policy_day}: another policy; day {world.days // 2}: sim-large gets "
            f"cheaper; day {world.drift_day}: harder questions; day {world.incident_day}: "
            f"{world.broken_model} fails for {world.incident[1] - world.incident[0]} hours",
            soft_wrap=True,
        )


def _start(last: date, days: int) -> date:
    try:
        return last - timedelta(days=days)
    except OverflowError:
        fail(f"{days} days before {last} there was no calendar; give fewer --days")
