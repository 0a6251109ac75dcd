"""``rheostat policy value``, ``drift``, ``shadow``, ``canary``, ``trial`` and ``end``.

What a kept policy would be worth or has shown, before it serves everybody.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.console import console, errors_shown, fail, plain_table, usd
from router.cli.export import TIMES, in_utc
from router.cli.fit import JsonOption  # noqa: TC001 - read when the command is made
from router.cli.policy import (
    DEFAULT_CONFIG,
    ConfigOption,
    PolicyArgument,
    kept_version,
    ledger_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from policies.artifacts import FittedPolicy
    from router.jobs.valuation import Verdict
    from router.jobs.watching import Drift
    from storage.judging import Side, TrialState
    from storage.store import Ledger

SinceOption = Annotated[
    datetime | None,
    typer.Option(formats=TIMES, help="Decisions from this time on (UTC); else since it was made."),
]


def value(
    policy: PolicyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    since: SinceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Value a kept policy off-policy on the ledger's graded decisions, against the one in service.

    Only decisions after it was fitted, unless told otherwise: it learned from those before.
    """
    with errors_shown(), ledger_of(config) as ledger:
        version = kept_version(ledger, policy, config)
        verdict = _valued(ledger, version, config, since)
        if as_json:
            typer.echo(json.dumps({"version": version, **verdict.to_dict()}, sort_keys=True))
            return
        screen = console()
        if verdict.figures:
            table = plain_table("", "estimate", "95 %", "direct")
            for name, figure in verdict.figures.items():
                for method, found in figure.by_method().items():
                    table.add_row(
                        f"{name.replace('_usd', ' in USD')}, {method}",
                        f"{found.estimate:.4g}",
                        _bounds((found.low, found.high)),
                        f"{found.effective_n:.1f}",
                    )
            screen.print(table)
            screen.print(
                f"{verdict.n_held:,} decisions, worth as many direct observations as the last "
                f"column says; {verdict.rival} is the rival",
                markup=False,
                soft_wrap=True,
            )
        screen.print(verdict.reason, markup=False, soft_wrap=True)


def drift(
    config: ConfigOption = DEFAULT_CONFIG, since: SinceOption = None, as_json: JsonOption = False
) -> None:
    """Tell whether requests, or how often predictions come true, have changed."""
    with errors_shown(), ledger_of(config) as ledger:
        found = drift_of(ledger, _in_service(ledger), in_utc(since))
        if as_json:
            typer.echo(json.dumps(found.to_dict(), sort_keys=True))
        else:
            tell_drift(found)


def shadow(policy: PolicyArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Write down beside each decision what a kept policy would have picked; nothing is run."""
    from storage.trials import TrialTerms

    with errors_shown(), ledger_of(config) as ledger:
        version = _start(ledger, policy, config, TrialTerms())
        console().print(f"policy {version} is in shadow; see: rheostat policy trial")


def canary(
    policy: PolicyArgument,
    config: ConfigOption = DEFAULT_CONFIG,
    share: Annotated[float, typer.Option(help="Share of the traffic, in (0, 1).")] = 0.05,
    max_loss: Annotated[
        float, typer.Option(help="Loss of quality that would be put up with.")
    ] = 0.05,
    max_rise: Annotated[
        float, typer.Option(help="Rise of cost that would be put up with, as a share.")
    ] = 0.5,
    delta: Annotated[
        float, typer.Option(help="Chance of a wrong end, however often looked.")
    ] = 0.05,
    promote: Annotated[bool, typer.Option(help="Put it in service once it has passed.")] = False,
) -> None:
    """Let a kept policy decide for a share of the traffic; stop it once it is shown to be worse."""
    from storage.trials import TrialTerms

    with errors_shown(), ledger_of(config) as ledger:
        if not 0.0 < share < 1.0:
            fail(f"--share must be in (0, 1), got {share:g}; 0 is: rheostat policy shadow")
        try:
            terms = TrialTerms(share, max_loss, max_rise, delta, promote)
        except ValueError:
            fail("--max-loss and --max-rise must be at least 0, --delta in (0, 1)")
        version = _start(ledger, policy, config, terms)
        console().print(
            f"policy {version} decides for {share:.1%} of the traffic; see: rheostat policy trial"
        )


def trial(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show what the trial under way has shown; its intervals hold however often one looks."""
    from storage.judging import trial_state
    from storage.trials import last_ended

    with errors_shown(), ledger_of(config) as ledger:
        state = ledger.read(trial_state)
        if as_json:
            typer.echo(json.dumps(_plain(state), sort_keys=True))
        elif state is None:
            ended = ledger.read(last_ended)
            told = "" if ended is None else f"; that of {ended[0]} ended: {ended[1]}"
            console().print(f"no trial is under way{told}", markup=False, soft_wrap=True)
        else:
            _show(state)


def end(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End the trial under way; all traffic goes to the policy in service again."""
    from router.cli.build import utc_now
    from storage.trials import end_trial

    with errors_shown(), ledger_of(config) as ledger:
        now = utc_now()
        if not ledger.write(lambda session: end_trial(session, "ended by hand", now)):
            fail("no trial is under way")
        console().print("the trial has ended")


def add_trials(app: typer.Typer) -> None:
    """Add these commands to ``rheostat policy``."""
    for command in (value, drift, shadow, canary, trial, end):
        app.command(command.__name__)(command)


def drift_of(ledger: Ledger, fitted: FittedPolicy, since: datetime | None) -> Drift:
    """Look for drift since a time, or else since a policy was fitted."""
    from datetime import datetime as moment

    from router.jobs.watching import drift_since

    start = since or moment.fromisoformat(str(fitted.manifest["created_at"]))
    return ledger.read(lambda session: drift_since(session, fitted, start))


def tell_drift(found: Drift) -> None:
    """Show drift to a person."""
    inputs, answers = found.inputs, found.calibration
    table = plain_table(
        "since", "requests before", "after", "distance", "p", "graded", "bias", "ECE"
    )
    table.add_row(
        f"{found.since:%Y-%m-%d %H:%M}",
        f"{inputs.n_before:,}",
        f"{inputs.n_after:,}",
        "-" if inputs.distance is None else f"{inputs.distance:.3f}",
        "-" if inputs.p_value is None else f"{inputs.p_value:.3f}",
        f"{answers.n:,}",
        "-" if answers.bias is None else f"{answers.bias:+.3f}",
        "-" if answers.ece is None else f"{answers.ece:.3f}",
    )
    console().print(table)
    for warning in found.warnings or ["no drift is shown"]:
        console().print(warning, markup=False, soft_wrap=True)


def _valued(ledger: Ledger, version: str, config: Path, since: datetime | None) -> Verdict:
    from datetime import datetime as moment

    from policies.artifacts import from_bytes
    from router.cli.retrain import graded_answers
    from router.gateway.config import load
    from router.jobs.valuation import compare
    from router.routing.chooser import ChooserSettings
    from storage.offers import read_offers
    from storage.policies import policy_in_service, read_policy

    loaded = load(config)
    stored = ledger.read(lambda session: read_policy(session, version))
    new = from_bytes(stored.artifact)
    start = in_utc(since) or moment.fromisoformat(str(new.manifest["created_at"]))
    present = ledger.read(policy_in_service)
    rival = None
    if present is not None and present.version != version:
        rival = from_bytes(present.artifact)
    table = graded_answers(ledger, loaded, start)
    offers = ledger.read(lambda session: read_offers(session, start))
    settings = ChooserSettings(loaded.exploration, loaded.accuracy_target, loaded.shadow_price)
    return compare(new, rival, table, settings, offers)


def _in_service(ledger: Ledger) -> FittedPolicy:
    from policies.artifacts import from_bytes
    from storage.policies import policy_in_service

    stored = ledger.read(policy_in_service)
    if stored is None:
        fail("no policy is in service; promote one: rheostat policy promote DIR")
    return from_bytes(stored.artifact)


def _start(ledger: Ledger, policy: str, config: Path, terms: Any) -> str:  # noqa: ANN401 - TrialTerms, loaded late
    """Put a policy on trial, kept first if it is a directory; give its version."""
    from router.cli.build import utc_now
    from storage.trials import start_trial

    present, now = _in_service(ledger).version, utc_now()
    version = kept_version(ledger, policy, config)
    ledger.write(lambda session: start_trial(session, version, present, terms, now))
    return version


def _show(state: TrialState) -> None:
    trial, screen = state.trial, console()
    table = plain_table("", "served", "graded", "right", "interval", "a request", "interval")
    sides = {trial.version: state.candidate, f"{trial.baseline} (in service)": state.baseline}
    for name, side in sides.items():
        table.add_row(
            name,
            f"{side.n_served:,}",
            f"{side.n_graded:,}",
            "-" if side.quality is None else f"{side.quality:.3f}",
            _bounds(side.quality_interval),
            "-" if side.cost_usd is None else usd(side.cost_usd),
            _bounds(side.cost_interval),
        )
    screen.print(table)
    if not trial.terms.share:
        told = "-" if state.agreed is None else f"{state.agreed:.1%}"
        screen.print(f"in shadow: it would have picked what was served in {told} of the decisions")
        return
    told = state.failed or state.passed or "not enough is known yet to stop it or to let it pass"
    screen.print(f"{trial.terms.share:.1%} of the traffic: {told}", soft_wrap=True)
    if state.passed is not None:
        screen.print(f"put it in service with: rheostat policy promote {trial.version}")


def _plain(state: TrialState | None) -> dict[str, Any]:
    if state is None:
        return {"running": False}
    trial = state.trial
    return {
        "running": True,
        "version": trial.version,
        "baseline": trial.baseline,
        "share": trial.terms.share,
        "started_at": trial.started_at.isoformat(),
        "agreed": state.agreed,
        "failed": state.failed,
        "passed": state.passed,
        "sides": {"candidate": _side(state.candidate), "baseline": _side(state.baseline)},
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "n_served": side.n_served,
        "n_graded": side.n_graded,
        "quality": side.quality,
        "quality_interval": list(side.quality_interval),
        "cost_usd": side.cost_usd,
        "cost_interval": [b if math.isfinite(b) else None for b in side.cost_interval],
    }


def _bounds(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.3g} to {high:.3g}" if math.isfinite(low) else "-"
