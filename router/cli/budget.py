"""``rheostat budget``: where each limit stands, and which limits a key is under."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cost_models.money import to_usd
from router.cli.console import console, errors_shown, fail, plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.gateway.config import Config
    from storage.budgets import BudgetStatus

budget_app = typer.Typer(help="Where limits stand, and which apply.", no_args_is_help=True)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, in whole nano-USD.")]
SHOWN = "%Y-%m-%d %H:%M"
DEFAULT_CONFIG = Path("rheostat.yaml")
PLACES = 9


@budget_app.command("status")
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show where every budget stands in its present window."""
    with errors_shown():
        _show(_standing(config, None), as_json=as_json)


@budget_app.command("explain")
def explain(
    key: Annotated[str, typer.Argument(help="Name of a key; `default` where there are none.")],
    config: ConfigOption = DEFAULT_CONFIG,
    user: Annotated[
        str | None, typer.Option(help="The `user` of the request.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag of the request.", show_default=False)
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="The session of the request.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every limit that a request with one key has to fit, the tightest first."""
    with errors_shown():
        from router.gateway.config import load
        from router.routing.scopes import scopes_of

        loaded = load(config)
        known = loaded.key_names
        if key not in known and loaded.auth.pepper is None:
            fail(f"there is no key {key!r}; use one of: {', '.join(known)}")
        team = _team_of(loaded, key)
        scopes = scopes_of(key, user, team=team, tags=tuple(tag or ()), session=session)
        standing = _standing(config, scopes)
        standing.sort(key=lambda found: found.free_nano_usd)
        _show(standing, as_json=as_json)
        if not standing and not as_json:
            console().print(f"no budget limits the key {key!r}: spending is recorded alone")


def _team_of(loaded: Config, name: str) -> str | None:
    """Give the team of the keys with a name: of the file, or the newest one of the ledger."""
    from router.cli.build import open_ledger
    from storage.keys import list_keys

    teams = [key.team for key in loaded.auth.keys if key.name == name]
    if not teams and loaded.auth.pepper is not None:
        ledger = open_ledger(loaded)
        try:
            teams = [key.team for key in ledger.read(list_keys) if key.name == name]
        finally:
            ledger.close()
    return teams[-1] if teams else None


def _standing(config: Path, scopes: Sequence[str] | None) -> list[BudgetStatus]:
    from router.cli.build import open_ledger, utc_now
    from router.gateway.config import load

    ledger = open_ledger(load(config))
    try:
        return ledger.budget_status(utc_now(), scopes)
    finally:
        ledger.close()


def _show(standing: Sequence[BudgetStatus], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_document(found) for found in standing], indent=2))
        return
    table = plain_table("budget", "limit", "spent", "held", "free")
    for found in standing:
        facts = found.facts
        until = f"{facts.resets_at:{SHOWN}} UTC" if facts.resets_at else "never ends"
        since = "" if facts.resets_at is None else f"{found.window_start:{SHOWN}} to\n  "
        amounts = (
            facts.limit_nano_usd,
            facts.spent_nano_usd,
            facts.held_nano_usd,
            found.free_nano_usd,
        )
        table.add_row(
            f"{facts.scope} per {facts.period}\n  {since}{until}",
            *(f"{to_usd(amount):.{PLACES}f}" for amount in amounts),
        )
    if standing:
        console().print(table)
        console().print("USD; held is what requests in flight may still cost", style="dim")


def _document(found: BudgetStatus) -> dict[str, Any]:
    facts = found.facts
    return {
        "scope": facts.scope,
        "period": facts.period,
        "window_start": found.window_start.isoformat(),
        "resets_at": facts.resets_at.isoformat() if facts.resets_at else None,
        "limit_nano_usd": facts.limit_nano_usd,
        "spent_nano_usd": facts.spent_nano_usd,
        "held_nano_usd": facts.held_nano_usd,
        "free_nano_usd": found.free_nano_usd,
        "overshoot_nano_usd": found.overshoot_nano_usd,
    }
