"""``rheostat alerts``: try the address that alerts go to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from router.cli.console import console, errors_shown, fail

alerts_app = typer.Typer(help="Where alerts of budgets go.", no_args_is_help=True)


@alerts_app.callback()
def _group() -> None:
    """Keep ``test`` a command of its own."""


@alerts_app.command("test")
def try_webhook(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
) -> None:
    """Send a signed test event to the webhook, with retries, as an alert is sent."""
    with errors_shown():
        from router.cli.build import utc_now
        from router.gateway.config import load
        from router.routing.webhook import trial_event

        webhook = load(config).alerts.to_webhook()
        if webhook is None:
            fail("alerts go to the log alone; name an address: `alerts: {webhook: https://...}`")
        now = utc_now()
        asyncio.run(webhook.send(trial_event(now), now))
        console().print("the webhook took the test event")
