"""``rheostat policy``: which fitted policies the ledger keeps, and which one serves."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.console import console, errors_shown, fail, plain_table, usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from policies.artifacts import FittedPolicy
    from storage.store import Ledger

policy_app = typer.Typer(
    help="Fitted policies: list, show, compare, put in service, roll back.", no_args_is_help=True
)
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")]
DEFAULT_CONFIG = Path("rheostat.yaml")
VersionArgument = Annotated[str, typer.Argument(help="A version from `rheostat policy list`.")]
PolicyArgument = Annotated[
    str, typer.Argument(help="A directory from `rheostat fit`, or a version.", show_default=False)
]
COMPARED = (
    "created_at",
    "source",
    "goal",
    "policy_kind",
    "n_queries",
    "n_rows",
    "arms",
    "safe_arm",
    "left_out",
    "shadow_price_per_usd",
    "mixture",
    "epsilon",
    "parameters",
)


@policy_app.command("list")
def list_policies(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the kept policies, the newest first; the one in service is marked."""
    with errors_shown(), ledger_of(config) as ledger:
        from storage.policies import kept_policies

        kept = ledger.read(kept_policies)
        serving = max((p.promoted_at for p in kept if p.promoted_at), default=None)
        table = plain_table("policy", "fitted", "queries", "right", "a query")
        for policy in kept:
            mark = " (in service)" if serving and policy.promoted_at == serving else ""
            value = _value(policy.manifest)
            table.add_row(
                f"{policy.version}{mark}\n  {_name(policy.manifest)}",
                f"{policy.created_at:%Y-%m-%d %H:%M}",
                f"{policy.manifest.get('n_queries', 0):,}",
                value["right"],
                value["cost"],
            )
        if kept:
            console().print(table)
        else:
            console().print(
                "no policy is kept in this ledger; promote one: rheostat policy promote DIR"
            )


@policy_app.command("show")
def show(version: VersionArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Print a policy's manifest as JSON: data, goal, seed, metrics, library versions."""
    with errors_shown(), ledger_of(config) as ledger:
        typer.echo(json.dumps(_manifest(ledger, version), indent=2, sort_keys=True))


@policy_app.command("diff")
def diff(old: VersionArgument, new: VersionArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Show in what two policies differ, and what each is worth by its own cross-validation."""
    with errors_shown(), ledger_of(config) as ledger:
        before, after = _manifest(ledger, old), _manifest(ledger, new)
        screen = console()
        for name in COMPARED:
            if before.get(name) != after.get(name):
                screen.print(f"{name}:", style="bold")
                screen.print(f"  - {before.get(name)}", markup=False, soft_wrap=True)
                screen.print(f"  + {after.get(name)}", markup=False, soft_wrap=True)
        for mark, manifest in (("-", before), ("+", after)):
            value = _value(manifest)
            screen.print(
                f"{mark} {value['right']} right at {value['cost']} a query "
                f"({manifest['n_queries']} queries of its own data)",
                markup=False,
            )


@policy_app.command("promote")
def promote(
    policy: PolicyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put a policy in service; running gateways take it over within seconds."""
    with errors_shown(), ledger_of(config) as ledger:
        from router.cli.build import utc_now
        from storage.policies import promote_policy

        version, now = kept_version(ledger, policy, config), utc_now()
        ledger.write(lambda session: promote_policy(session, version, now))
        console().print(f"policy {version} is in service")


@policy_app.command("rollback")
def rollback(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Put the policy in service again that was before the present one."""
    with errors_shown(), ledger_of(config) as ledger:
        from router.cli.build import utc_now
        from storage.policies import roll_back

        now = utc_now()
        version = ledger.write(lambda session: roll_back(session, now))
        console().print(f"policy {version} is in service again")


def kept_version(ledger: Ledger, policy: str, config: Path) -> str:
    """Give the version meant by a directory or a version; what a directory holds is kept first."""
    if not Path(policy).is_dir():
        return policy
    from policies import artifacts
    from router.cli.build import utc_now
    from storage.policies import save_policy

    fitted, now = artifacts.load(Path(policy)), utc_now()
    _check_arms(fitted, config)
    artifact, version = artifacts.to_bytes(fitted), fitted.version
    ledger.write(lambda session: save_policy(session, version, artifact, fitted.manifest, now))
    return version


@contextmanager
def ledger_of(config: Path) -> Iterator[Ledger]:
    """Open the ledger of a configuration, and close it afterwards."""
    from router.cli.build import open_ledger
    from router.gateway.config import load

    ledger = open_ledger(load(config))
    try:
        yield ledger
    finally:
        ledger.close()


def _manifest(ledger: Ledger, version: str) -> Mapping[str, Any]:
    from storage.policies import read_policy

    return ledger.read(lambda session: read_policy(session, version)).manifest


def _value(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Give a policy's cross-validated accuracy and cost for people."""
    found = manifest.get("metrics", {}).get("policy", {})
    accuracy, cost = found.get("accuracy"), found.get("cost_usd_per_query")
    return {
        "right": "-" if accuracy is None else f"{accuracy:.1%}",
        "cost": "-" if cost is None else usd(cost),
    }


def _name(manifest: Mapping[str, Any]) -> str:
    """Give a policy's goal and kind for people."""
    return f"{manifest.get('policy_kind', 'utility')}, {manifest.get('goal', '')}"


def _check_arms(fitted: FittedPolicy, config: Path) -> None:
    """Say which configured arms the policy never saw, and which of its own are not offered.

    Fail when it saw none of those that are.
    """
    from router.cli.build import assemble
    from router.cli.derived import told_of_derived
    from router.gateway.config import load

    catalog = assemble(load(config))
    arms = (*catalog.arms, *(cascade.arm for cascade in catalog.cascades.values()))
    strangers = [arm for arm in arms if arm not in fitted.estimator.observed_]
    if len(strangers) == len(arms):
        fail(
            f"the policy knows none of the configured arms ({', '.join(map(str, arms))}); it was "
            f"fitted on: {', '.join(map(str, fitted.estimator.observed_))}"
        )
    told = list(told_of_derived(fitted, catalog))
    if strangers:
        names = ", ".join(map(str, strangers))
        told.insert(0, f"no outcome of {names}: predicted from what is like them")
    for line in told:
        console().print(line, style="yellow", markup=False, soft_wrap=True)
