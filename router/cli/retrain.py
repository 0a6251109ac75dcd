"""``rheostat retrain``: what the ledger has learned since, in service only where it is better."""

from __future__ import annotations

import json
import math
from datetime import datetime  # noqa: TC003 - read when the command is made
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail, plain_table, progress_console
from router.cli.export import TIMES, in_utc
from router.cli.fit import JsonOption  # noqa: TC001 - read when the command is made

if TYPE_CHECKING:
    from policies.artifacts import FittedPolicy
    from policies.offpolicy import OffPolicyValue
    from policies.outcomes import OutcomeTable
    from policies.tuning import Goal
    from router.gateway.config import Config
    from router.jobs.retrain import Retrained, Terms
    from router.jobs.valuation import Verdict
    from router.jobs.watching import Drift
    from storage.store import Ledger


def retrain(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    since: Annotated[
        datetime | None, typer.Option(formats=TIMES, help="Answers from this time on (UTC).")
    ] = None,
    min_rows: Annotated[int, typer.Option(min=1, help="Fewest graded answers.")] = 200,
    trials: Annotated[int, typer.Option(min=1, help="Trials of the tuning study.")] = 30,
    accuracy_target: Annotated[
        float | None, typer.Option(help="Least cost at this accuracy, in (0, 1].")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(help="Certify the target: missed with at most this chance.")
    ] = None,
    shadow_price: Annotated[
        float | None, typer.Option(help="Right answers that one USD has to buy.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 0,
    promote: Annotated[bool, typer.Option(help="Put it in service if it is better.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; the ledger stays as it is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit a policy on the ledger's graded answers; promote it if it is better than the present."""
    with errors_shown():
        from policies.artifacts import from_bytes
        from policies.training import Training
        from router.cli.build import open_ledger
        from router.cli.trials import drift_of
        from router.gateway.config import load
        from router.jobs.retrain import Terms
        from router.jobs.studies import study_place
        from router.routing.chooser import ChooserSettings
        from storage.offers import read_offers
        from storage.policies import policy_in_service

        loaded = load(config)
        ledger = open_ledger(loaded)
        try:
            stored = ledger.read(policy_in_service)
            in_service = None if stored is None else from_bytes(stored.artifact)
            goal = _goal(accuracy_target, shadow_price, loaded, in_service)
            if delta is not None and (goal.accuracy_target is None or not 0.0 < delta < 1.0):
                fail("--delta, in (0, 1), certifies an accuracy target: give --accuracy-target")
            settings = ChooserSettings(
                loaded.exploration, loaded.accuracy_target, loaded.shadow_price
            )
            offers = ledger.read(lambda session: read_offers(session, in_utc(since)))
            drift = None if in_service is None else drift_of(ledger, in_service, None)
            table = graded_answers(ledger, loaded, in_utc(since))
            with study_place(loaded.ledger) as place:
                training = Training(goal, trials, seed, study=place)
                terms = Terms(training, min_rows, delta, settings, offers)
                made = _retrained(table, in_service, terms, quiet=as_json)
            promoted = False
            if not dry_run:
                promoted = _keep(ledger, made, in_service, promote=promote)
        finally:
            ledger.close()
        _tell(made, drift, promoted=promoted, kept=not dry_run, as_json=as_json)


def _goal(
    accuracy_target: float | None,
    shadow_price: float | None,
    config: Config,
    in_service: FittedPolicy | None,
) -> Goal:
    """Take what was typed, or else what the file says, or else the price of what is in service."""
    from policies.tuning import Goal

    if accuracy_target is shadow_price is None:
        accuracy_target = config.accuracy_target
        shadow_price = config.shadow_price if accuracy_target is None else None
        if accuracy_target is shadow_price is None and in_service is not None:
            shadow_price = in_service.policy.shadow_price_per_usd
    try:
        return Goal(accuracy_target, None, shadow_price)
    except ValueError:
        fail("give one of --accuracy-target in (0, 1] and --shadow-price of at least 0, or none")


def graded_answers(ledger: Ledger, config: Config, since: datetime | None) -> OutcomeTable:
    """Read the graded answers of the configured arms."""
    from policies.outcomes import OutcomeTable
    from router.cli.build import assemble
    from storage.history import read_history

    history = ledger.read(lambda session: read_history(session, since))
    catalog = assemble(config)
    cascades = (cascade.arm for cascade in catalog.cascades.values())
    arms = {(arm.model, arm.strategy) for arm in (*catalog.arms, *cascades)}
    rows = [row for row in history.rows if (row["model"], row["strategy"]) in arms]
    if not rows:
        fail(
            f"none of {len(history.rows):,} graded answers is of a configured arm; grade some "
            "with POST /v1/feedback, or bring outcomes with: rheostat import"
        )
    return OutcomeTable.from_rows(rows, config.ledger_shown)


def _retrained(
    table: OutcomeTable, in_service: FittedPolicy | None, terms: Terms, *, quiet: bool
) -> Retrained:
    from rich.progress import Progress

    from router.cli.build import utc_now
    from router.jobs.retrain import retrain as run

    shown = progress_console()
    with Progress(console=shown, disable=quiet or not shown.is_terminal, transient=True) as bars:
        bar = bars.add_task("tuning", total=terms.training.trials)

        def progress(done: int, _trials: int, _loss: float) -> None:
            bars.update(bar, completed=done)

        return run(table, in_service, terms, created_at=utc_now(), progress=progress)


def _keep(
    ledger: Ledger, made: Retrained, in_service: FittedPolicy | None, *, promote: bool
) -> bool:
    """Keep the policy, and promote it if it is better than what is in service still."""
    from policies.artifacts import to_bytes
    from router.cli.build import utc_now
    from router.jobs.retrain import put

    now, artifact = utc_now(), to_bytes(made.fitted)
    beaten = None if in_service is None else in_service.version
    return ledger.write(lambda session: put(session, made, artifact, beaten, now, promote=promote))


def _tell(
    made: Retrained, drift: Drift | None, *, promoted: bool, kept: bool, as_json: bool
) -> None:
    verdict, version = made.verdict, made.fitted.version
    if as_json:
        document = {
            "version": version,
            "promoted": promoted,
            "kept": kept,
            "drift": None if drift is None else drift.to_dict(),
            **verdict.to_dict(),
        }
        typer.echo(json.dumps(document, sort_keys=True))
        return
    screen = console()
    if verdict.figures:
        screen.print(_table(verdict))
        screen.print(f"{verdict.n_held:,} decisions held out; {verdict.rival} is the rival")
    if "certificate_text" in made.fitted.manifest:
        screen.print(made.fitted.manifest["certificate_text"], soft_wrap=True)
    for warning in () if drift is None else drift.warnings:
        screen.print(warning, markup=False, soft_wrap=True)
    unused = "is kept, and not put in service" if kept else "would not be put in service"
    if not kept and verdict.better:
        unused = "would be put in service"
    done = "is in service" if promoted else unused
    screen.print(f"policy {version} {done}: {verdict.reason}", markup=False, soft_wrap=True)
    if verdict.better and kept and not promoted:
        screen.print(f"put it in service with: rheostat policy promote {version}")


def _table(verdict: Verdict) -> object:
    table = plain_table("", "new", "rival", "difference", "95 %")
    for name, figure in verdict.figures.items():
        table.add_row(
            name.replace("_usd", " in USD"),
            _shown(figure.new.estimate),
            _shown(figure.rival.estimate),
            _shown(figure.difference.estimate),
            _interval(figure.difference),
        )
    return table


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _interval(value: OffPolicyValue) -> str:
    known = math.isfinite(value.low)
    return f"{_shown(value.low)} to {_shown(value.high)}" if known else "not known"
