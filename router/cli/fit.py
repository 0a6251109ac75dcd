"""``rheostat fit``: recorded outcomes in, a policy out, with what it is worth."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.types import PolicyKind
from router.cli.console import console, errors_shown, fail, progress_console, usd
from router.cli.token_prices import PricesOption, with_costs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from policies.artifacts import FittedPolicy
    from policies.outcomes import OutcomeTable
    from policies.training import Training

OutcomesArgument = Annotated[
    list[Path], typer.Argument(help="Outcome files: .parquet, .csv, .jsonl or .jsonl.gz.")
]
ArmsOption = Annotated[
    list[str] | None,
    typer.Option(help="Only arms MODEL|STRATEGY that match, e.g. 'gpt*|*' (repeatable)."),
]
TasksOption = Annotated[
    list[str] | None, typer.Option(help="Only rows of these tasks and those below (repeatable).")
]
STUDY_FILE = "study.db"
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

N_NAMED = 5
"""How many arms without a cost are named."""


def fit(
    outcomes: OutcomesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the policy.")],
    arms: ArmsOption = None,
    tasks: TasksOption = None,
    accuracy_target: Annotated[
        float | None, typer.Option(help="Least cost at this accuracy, in (0, 1].")
    ] = None,
    budget_usd_per_query: Annotated[
        float | None, typer.Option(help="Most accuracy at this mean cost.")
    ] = None,
    shadow_price: Annotated[
        float | None, typer.Option(help="Right answers that one USD has to buy.")
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="Certify the accuracy target: it is missed with at most this chance."),
    ] = None,
    cheap_error: Annotated[
        float | None,
        typer.Option(help="Most error among queries sent to other arms than the safe one."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of the study.")] = 30,
    seed: Annotated[int, typer.Option()] = 0,
    task_column: Annotated[
        bool,
        typer.Option("--task-column", help="Let the policy see the task; live requests have none."),
    ] = False,
    prices: PricesOption = None,
    derived: Annotated[
        bool, typer.Option(help="Also consider cascades and votes over the recorded samples.")
    ] = True,
    max_seconds: Annotated[float, typer.Option(min=1, help="No trial starts after this.")] = 240.0,
    database: Annotated[
        str | None,
        typer.Option(help="Keep the study here, e.g. in the ledger; else in a file in --output."),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study to make, resume or join.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that run trials.")] = 1,
    policy: Annotated[
        PolicyKind, typer.Option(help="What learns to choose; 'best': the higher score.")
    ] = PolicyKind.UTILITY,
    as_json: JsonOption = False,
) -> None:
    """Fit a policy on recorded outcomes and write it, with a manifest, into a directory."""
    with errors_shown():
        from policies import artifacts
        from policies.training import Training
        from policies.tuning import Goal
        from router.jobs.studies import study_place

        if delta is not None and accuracy_target is cheap_error is None:
            fail("--delta is for a promise: give --accuracy-target or --cheap-error too")
        if cheap_error is not None and not 0.0 < cheap_error < 1.0:
            fail(f"--cheap-error must be in (0, 1), got {cheap_error:g}")
        try:
            goal = Goal(accuracy_target, budget_usd_per_query, shadow_price)
        except ValueError:
            fail(
                "give at most one of --accuracy-target in (0, 1], --budget-usd-per-query above 0 "
                "and --shadow-price of at least 0"
            )
        if delta is not None and not 0.0 < delta < 1.0:
            fail(f"--delta must be in (0, 1), got {delta:g}")
        table = read_table(outcomes, tasks, arms, task_column=task_column, prices=prices)
        url = database or _study_file(output)
        with study_place(url, study, workers=workers) as place:
            training = Training(
                goal,
                trials,
                seed,
                study=place,
                derived=derived,
                max_tuning_s=max_seconds,
                kind=policy,
            )
            fitted = _fitted(
                table, training, delta, cheap_error, quiet=as_json, task_column=task_column
            )
        artifacts.save(fitted, output)
        _tell(fitted.manifest, output, as_json=as_json)


def _study_file(output: Path) -> str:
    """Give the URL of the file beside the policy in which a study is kept, to resume if killed."""
    output.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{output / STUDY_FILE}"


def read_table(
    paths: Sequence[Path],
    tasks: Sequence[str] | None,
    globs: Sequence[str] | None,
    *,
    task_column: bool,
    prices: str | None = None,
) -> OutcomeTable:
    """Read outcome files as one table of the wanted tasks and arms, priced where asked for."""
    from policies.merging import read_all, with_task

    table = read_all(paths, tasks or ())
    if globs:
        wanted = [arm for arm in table.arms if any(fnmatchcase(str(arm), glob) for glob in globs)]
        if not wanted:
            fail(f"no arm matches {list(globs)}; the arms are: {', '.join(map(str, table.arms))}")
        table = table.of_arms(wanted)
    table = with_costs(table, prices)
    return with_task(table) if task_column else table


def _fitted(
    table: OutcomeTable,
    training: Training,
    delta: float | None,
    cheap_error: float | None,
    *,
    quiet: bool,
    task_column: bool,
) -> FittedPolicy:
    from datetime import UTC, datetime

    from rich.progress import Progress

    from policies.guarantee import train_certified
    from policies.training import train

    now, extra = datetime.now(UTC), {"task_column": task_column}
    shown = progress_console()
    with Progress(console=shown, disable=quiet or not shown.is_terminal, transient=True) as bars:
        bar = bars.add_task("tuning", total=training.trials)

        def progress(done: int, _trials: int, _loss: float) -> None:
            bars.update(bar, completed=done)

        if delta is not None or cheap_error is not None:
            return train_certified(
                table,
                training,
                delta,
                cheap_error=cheap_error,
                created_at=now,
                progress=progress,
                extra=extra,
            )
        return train(table, training, created_at=now, progress=progress, extra=extra)


def _tell(manifest: Mapping[str, Any], output: Path, *, as_json: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps({"output": str(output), **manifest}, sort_keys=True))
        return
    from rich.table import Table

    metrics = manifest["metrics"]
    shown = Table("", "accuracy", "95 %", "USD per query", title="Cross-validated")
    for name, value in {"policy": metrics["policy"], **metrics["baselines"]}.items():
        low, high = value["accuracy_interval"]
        shown.add_row(
            name.replace("_", " "),
            f"{value['accuracy']:.3f}",
            f"{low:.3f} to {high:.3f}",
            "-" if manifest["accuracy_only"] else usd(value["cost_usd_per_query"]),
        )
    console().print(shown)
    if manifest["accuracy_only"]:
        console().print("no arm has a cost: the policy goes by accuracy alone")
    elif manifest["unpriced_arms"]:
        n_unpriced, some = len(manifest["unpriced_arms"]), manifest["unpriced_arms"][:N_NAMED]
        rest = ", ..." if n_unpriced > len(some) else ""
        console().print(
            f"{n_unpriced} arms have no cost: fitted, but never chosen ({', '.join(some)}{rest})",
            markup=False,
            soft_wrap=True,
        )
    calibration = metrics["calibration"]
    console().print(
        f"calibration: ECE {calibration['ece']:.3f}, Brier {calibration['brier']:.3f}; "
        f"{manifest['n_queries']} queries, {len(manifest['arms'])} arms and "
        f"{len(manifest['derived_arms'])} derived ones"
    )
    console().print(_told(manifest), soft_wrap=True)
    for promise in ("certificate_text", "gate_text"):
        if promise in manifest:
            console().print(manifest[promise], soft_wrap=True)
    console().print(f"policy {manifest['version']} written to {output}")


def _told(manifest: Mapping[str, Any]) -> str:
    """Say which policy it is and, where two were compared, by what it won."""
    kind, contest = manifest["policy_kind"], manifest.get("contest")
    if contest is None:
        return f"policy: {kind}"
    return (
        f"policy: {kind}; on {contest['n_queries']} queries that neither was fitted on, at "
        f"{contest['shadow_price_per_usd']:g} right answers per USD, group-relative scored "
        f"{contest['group_relative']:.4f} and utility {contest['utility']:.4f} (difference "
        f"{contest['gain']:+.4f}, standard error {contest['gain_error']:.4f})"
    )
