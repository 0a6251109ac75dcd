"""``rheostat budget``: where each limit stands, which limits a key is under, and changing them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cost_models.money import NANO_PER_USD, to_usd
from router.cli.console import console, errors_shown, fail, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cost_models.budgets import Period
    from router.gateway.config import Config
    from storage.budgets import BudgetStatus
    from storage.forecasts import Outlook, Paced
    from storage.store import Ledger

budget_app = typer.Typer(
    help="Where limits stand, which apply, and setting them.", no_args_is_help=True
)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, in whole nano-USD.")]
ScopeArgument = Annotated[str, typer.Argument(help="Whose money, such as `key:NAME`.")]
UsdOption = Annotated[str, typer.Option(help="Amount in USD.")]
SHOWN = "%Y-%m-%d %H:%M"
DEFAULT_CONFIG = Path("rheostat.yaml")
PLACES = 9
MAX_USD = 1_000_000_000


@budget_app.command("status")
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show where every budget stands in its present window."""
    with errors_shown():
        _show(*_standing(config, None), as_json=as_json)


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
        standing, paced = _standing(config, scopes)
        standing.sort(key=lambda found: (found.soft, found.free_nano_usd))
        _show(standing, paced, as_json=as_json)
        if not standing and not as_json:
            console().print(f"no budget limits the key {key!r}: spending is recorded alone")


@budget_app.command("set")
def set_limit(
    scope: ScopeArgument,
    usd: UsdOption,
    period: Annotated[str, typer.Option(help="day, week, month or total.")],
    config: ConfigOption = DEFAULT_CONFIG,
    time_zone: Annotated[str, typer.Option(help="Zone in which days begin.")] = "UTC",
    soft: Annotated[bool, typer.Option("--soft", help="Warn, and refuse nothing.")] = False,
) -> None:
    """Put a limit in force, or change it, beside those of the file; at once, also while serving."""
    from cost_models.budgets import Budget
    from storage.budgets import set_budget

    with _opened(config, scope) as ledger:
        try:
            budget = Budget(scope, _period(period), _nano_usd(usd), time_zone, soft)
        except ValueError as error:
            fail(str(error))
        ledger.write(lambda session: set_budget(session, budget))
        kind = "soft limit" if soft else "limit"
        console().print(f"{scope} has a {kind} of {usd} USD per {period}")


@budget_app.command("end")
def end(
    scope: ScopeArgument,
    period: Annotated[str, typer.Option(help="day, week, month, total or prepaid.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Take a limit that was set by command out of force; what was spent stays recorded."""
    from storage.budgets import end_budget

    with _opened(config) as ledger:
        ended = _period(period)
        ledger.write(lambda session: end_budget(session, scope, ended))
        console().print(f"{scope} has no {period} limit any more")


@budget_app.command("grant")
def give(
    scope: ScopeArgument,
    usd: UsdOption,
    config: ConfigOption = DEFAULT_CONFIG,
    reference: Annotated[
        str | None, typer.Option(help="What for; booked once.", show_default=False)
    ] = None,
) -> None:
    """Add to a prepaid budget; what is left is grants less spending, and nothing resets it."""
    from router.cli.build import utc_now
    from storage.grants import grant

    with _opened(config, scope) as ledger:
        amount = _nano_usd(usd)
        granted = ledger.write(
            lambda session: grant(session, scope, amount, utc_now(), reference=reference)
        )
        again = f"{reference!r} was booked before; " if granted.repeated else ""
        total = f"{to_usd(granted.granted_nano_usd):f}"
        console().print(f"{again}{scope} was granted {total} USD in all")


@budget_app.command("grants")
def grants(scope: ScopeArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List what was granted to a scope, the oldest first."""
    from storage.grants import grants_of

    with _opened(config) as ledger:
        table = plain_table("granted", "USD", "reference")
        for made in ledger.read(lambda session: grants_of(session, scope)):
            amount = f"{to_usd(made.amount_nano_usd):.{PLACES}f}"
            table.add_row(f"{made.granted_at:{SHOWN}} UTC", amount, made.reference or "-")
        console().print(table)


@contextmanager
def _opened(config: Path, scope: str | None = None) -> Iterator[Ledger]:
    """Open the ledger; a ``scope`` that nothing can spend under ends the command."""
    with errors_shown():
        from router.cli.build import open_ledger
        from router.gateway.config import load

        loaded = load(config)
        if scope is not None and (problem := loaded.scope_problem(scope)):
            fail(problem)
        ledger = open_ledger(loaded)
        try:
            yield ledger
        finally:
            ledger.close()


def _period(name: str) -> Period:
    from cost_models.budgets import Period

    try:
        return Period(name)
    except ValueError:
        fail(f"there is no period {name!r}; use one of: {', '.join(Period)}")


def _nano_usd(usd: str) -> int:
    """Read an amount of USD; what is finer than a nano-USD is refused, not rounded."""
    try:
        amount = Decimal(usd)
    except InvalidOperation:
        fail(f"{usd!r} is no amount; write one such as 12.50")
    nano_usd = amount * NANO_PER_USD
    if not amount.is_finite() or abs(amount) > MAX_USD or nano_usd != int(nano_usd):
        fail(f"{usd} USD cannot be booked: at most {MAX_USD:,} USD, in whole 0.000000001 USD")
    return int(nano_usd)


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


def _standing(config: Path, scopes: Sequence[str] | None) -> tuple[list[BudgetStatus], Paced]:
    from router.cli.build import open_ledger, utc_now
    from router.gateway.config import load

    loaded = load(config)
    ledger = open_ledger(loaded)
    try:
        return ledger.budget_status(utc_now(), scopes), loaded.paced()
    finally:
        ledger.close()


def _show(standing: Sequence[BudgetStatus], paced: Paced, *, as_json: bool) -> None:
    from router.cli.build import utc_now
    from storage.forecasts import outlook

    now = utc_now()
    seen = [outlook(found, now, paced) for found in standing]
    if as_json:
        told = [_document(found, view) for found, view in zip(standing, seen, strict=True)]
        typer.echo(json.dumps(told, indent=2))
        return
    table = plain_table("budget", "limit", "spent", "held", "free")
    for found, view in zip(standing, seen, strict=True):
        facts = found.facts
        kind = f"{facts.period}, soft" if found.soft else facts.period
        until = f"{facts.resets_at:{SHOWN}} UTC" if facts.resets_at else "never ends"
        since = "" if facts.resets_at is None else f"{found.window_start:{SHOWN}} to\n  "
        amounts = (
            facts.limit_nano_usd,
            facts.spent_nano_usd,
            facts.held_nano_usd,
            found.free_nano_usd,
        )
        table.add_row(
            f"{facts.scope} per {kind}\n  {since}{until}{_course(view)}",
            *(f"{to_usd(amount):.{PLACES}f}" for amount in amounts),
        )
    if standing:
        console().print(table)
        console().print("USD; held is what requests in flight may still cost", style="dim")


def _course(view: Outlook | None) -> str:
    """Say where a budget's spending leads, and how it is paced, on lines of their own."""
    if view is None:
        return ""
    told = ""
    if view.projected_nano_usd is not None:
        told += f"\n  on course for {to_usd(view.projected_nano_usd):.6f}"
    if view.pacing is not None:
        shares = f"{view.spent_share:.1%} spent, {view.planned_share:.1%} planned"
        told += f"\n  {shares}\n  paced: {view.factor:.3g} times the price"
    return told


def _document(found: BudgetStatus, view: Outlook | None) -> dict[str, Any]:
    facts = found.facts
    pacing = None
    if view is not None and view.pacing is not None:
        pacing = {
            "price_factor": view.factor,
            "spent_share": view.spent_share,
            "planned_share": view.planned_share,
        }
    return {
        "scope": facts.scope,
        "period": facts.period,
        "soft": found.soft,
        "window_start": found.window_start.isoformat(),
        "resets_at": facts.resets_at.isoformat() if facts.resets_at else None,
        "limit_nano_usd": facts.limit_nano_usd,
        "spent_nano_usd": facts.spent_nano_usd,
        "held_nano_usd": facts.held_nano_usd,
        "free_nano_usd": found.free_nano_usd,
        "overshoot_nano_usd": found.overshoot_nano_usd,
        "projected_nano_usd": None if view is None else view.projected_nano_usd,
        "pacing": pacing,
    }
