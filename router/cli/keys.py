"""``rheostat keys``: keys that are kept in the ledger, beside the static ones of the file."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail, plain_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cost_models.rates import RateLimits
    from router.gateway.config import Config
    from storage.store import Ledger

keys_app = typer.Typer(help="Keys in the ledger: make, list, end, replace.", no_args_is_help=True)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
IdArgument = Annotated[str, typer.Argument(help="Public id of the key, from `keys list`.")]
MAX_RATE = 1_000_000_000
LimitOption = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_RATE, help="Shared by keys of one name.", show_default=False),
]
NewLimitOption = Annotated[
    int | None, typer.Option(min=0, max=MAX_RATE, help="0 for no limit.", show_default=False)
]
DEFAULT_CONFIG = Path("rheostat.yaml")


@keys_app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Name that it spends for: budgets say key:NAME.")],
    config: ConfigOption = DEFAULT_CONFIG,
    days: Annotated[
        float | None, typer.Option(min=0, help="Days after which it ends.", show_default=False)
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it may use; all without one.")
    ] = None,
    team: Annotated[
        str | None, typer.Option(help="Team whose budgets it is under too.", show_default=False)
    ] = None,
    requests_per_minute: LimitOption = None,
    tokens_per_minute: LimitOption = None,
    parallel_requests: LimitOption = None,
) -> None:
    """Make a key and print it: the only time that it can be read."""
    from cost_models.rates import RateLimits
    from router.cli.build import utc_now
    from storage.keys import create_key

    with _opened(config) as (loaded, ledger, pepper):
        known = [m.name for m in loaded.models] + [e.name for e in loaded.embeddings]
        if unknown := [given for given in model or () if given not in known]:
            fail(f"there is no model {unknown[0]!r}; use one of: {', '.join(known)}")
        limits = RateLimits(requests_per_minute, tokens_per_minute, parallel_requests)
        now = utc_now()
        expires_at = None if days is None else now + timedelta(days=days)
        shown = ledger.write(
            lambda session: create_key(
                session,
                name,
                pepper,
                now,
                expires_at=expires_at,
                allowed_models=model,
                team=team,
                limits=limits,
            )
        )
        _tell(shown)


@keys_app.command("limit")
def limit(
    key: IdArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    requests_per_minute: NewLimitOption = None,
    tokens_per_minute: NewLimitOption = None,
    parallel_requests: NewLimitOption = None,
) -> None:
    """Change how fast a key may ask; gateways that run follow within a second."""
    from storage.keys import limit_key

    given = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "parallel_requests": parallel_requests,
    }
    changed = {name: new or None for name, new in given.items() if new is not None}
    if not changed:
        fail("name a limit to change, such as --requests-per-minute 60; 0 takes it away")
    with _opened(config) as (_, ledger, _pepper):
        limits = ledger.write(lambda session: limit_key(session, key, changed))
        console().print(f"{key} may ask: {_limits(limits)}")


@keys_app.command("list")
def list_all(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the keys of the ledger without their secrets."""
    from router.cli.build import utc_now
    from storage.keys import PREFIX, list_keys

    with _opened(config) as (_, ledger, _pepper):
        now = utc_now()
        table = plain_table("key", "name", "team", "made", "ends", "models", "limits")
        for key in ledger.read(list_keys):
            ends = "never" if key.expires_at is None else f"{key.expires_at:%Y-%m-%d %H:%M}"
            if not key.is_valid(now):
                ends = "revoked" if key.revoked_at else f"ended {ends}"
            models = "all" if key.allowed_models is None else ", ".join(key.allowed_models)
            made = f"{key.created_at:%Y-%m-%d}"
            table.add_row(
                f"{PREFIX}_{key.key_id}_...",
                key.name,
                key.team or "-",
                made,
                ends,
                models,
                _limits(key.limits),
            )
        console().print(table)


@keys_app.command("revoke")
def revoke(key: IdArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End a key; gateways that run refuse it within a second."""
    from router.cli.build import utc_now
    from storage.keys import revoke_key

    with _opened(config) as (_, ledger, _pepper):
        ledger.write(lambda session: revoke_key(session, key, utc_now()))
        console().print(f"{key} is revoked")


@keys_app.command("rotate")
def rotate(
    key: IdArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    overlap_hours: Annotated[
        float, typer.Option(min=0, help="Hours for which the old one still opens.")
    ] = 24.0,
) -> None:
    """Make a key in the place of another and print it; the old one ends after the overlap."""
    from router.cli.build import utc_now
    from storage.keys import rotate_key

    with _opened(config) as (_, ledger, pepper):
        now = utc_now()
        until = now + timedelta(hours=overlap_hours)
        shown = ledger.write(lambda session: rotate_key(session, key, pepper, now, old_until=until))
        _tell(shown)


@contextmanager
def _opened(config: Path) -> Iterator[tuple[Config, Ledger, str]]:
    with errors_shown():
        from router.cli.build import open_ledger
        from router.gateway.config import load

        loaded = load(config)
        if loaded.auth.pepper is None:
            fail("keys in the ledger need `auth: {mode: keys, pepper: ${NAME}}` in the file")
        ledger = open_ledger(loaded)
        try:
            yield loaded, ledger, loaded.auth.pepper.get_secret_value()
        finally:
            ledger.close()


def _limits(limits: RateLimits) -> str:
    told = [
        f"{limit} {what}"
        for limit, what in (
            (limits.requests_per_minute, "requests/min"),
            (limits.tokens_per_minute, "tokens/min"),
            (limits.parallel_requests, "at once"),
        )
        if limit is not None
    ]
    return ", ".join(told) or "no limit"


def _tell(shown: str) -> None:
    typer.echo(shown)
    console().print("keep it: it is not shown again, and the ledger has only a hash of it")
