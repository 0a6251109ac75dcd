"""``rheostat evaluate``: what a fitted policy is worth on outcomes that it has not seen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003 - read when the command is built
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.console import console, errors_shown, usd
from router.cli.fit import ArmsOption, JsonOption, OutcomesArgument, TasksOption, read_table
from router.cli.token_prices import PricesOption  # noqa: TC001 - read when the command is built

if TYPE_CHECKING:
    from collections.abc import Mapping

N_SHOWN = 12


class VerifierName(StrEnum):
    """What a stage of a cascade may see of its answer."""

    NONE = "none"
    EXACT = "exact"


def evaluate(
    directory: Annotated[Path, typer.Argument(help="Directory of a fitted policy.")],
    outcomes: OutcomesArgument,
    sweep: Annotated[bool, typer.Option("--sweep", help="Show the frontier.")] = False,
    arms: ArmsOption = None,
    tasks: TasksOption = None,
    verifier: Annotated[
        VerifierName,
        typer.Option(help="With 'exact', a stage sees whether its answer is right; all are paid."),
    ] = VerifierName.NONE,
    prices: PricesOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge a fitted policy on recorded outcomes, without exploration, against plain rivals."""
    with errors_shown():
        from policies import artifacts
        from policies.assessment import Offer, assess

        fitted = artifacts.load(directory)
        task_column = bool(fitted.manifest.get("task_column", False))
        table = read_table(outcomes, tasks, arms, task_column=task_column, prices=prices)
        document = assess(fitted, table, Offer(verified=verifier is VerifierName.EXACT), seed)
        if not sweep:
            document["frontier"] = []
        document["version"] = fitted.version
        if as_json:
            import json

            typer.echo(json.dumps(document, sort_keys=True))
        else:
            _show(document)


def _show(document: Mapping[str, Any]) -> None:
    from rich.table import Table

    shown = Table("", "accuracy", "95 %", "USD per query", title=f"{document['n_queries']} queries")
    for name, value in {"policy": document["policy"], **document["baselines"]}.items():
        low, high = value["accuracy_interval"]
        cost = value["cost_usd_per_query"]
        shown.add_row(
            name.replace("_", " "),
            f"{value['accuracy']:.3f}",
            f"{low:.3f} to {high:.3f}",
            "-" if cost is None else usd(cost),
        )
    console().print(shown)
    figures = {
        "AIQ": document["aiq"],
        "APGR": document["apgr"],
        "CPT50": document["cpt50"],
        "CPT80": document["cpt80"],
        "saving at the best fixed arm's accuracy": document["iso_quality_saving"],
    }
    known = [f"{name} {value:.3f}" for name, value in figures.items() if value is not None]
    if known:
        console().print(", ".join(known))
    if document["accuracy_only"]:
        console().print("no arm has a recorded cost: accuracy alone was judged")
    elif document["unpriced_arms"]:
        console().print(
            f"left out, without cost: {', '.join(document['unpriced_arms'])}", markup=False
        )
    cheap = document["cheap"]
    if cheap is not None:
        wrong = "-" if cheap["error"] is None else f"{cheap['error']:.3f}"
        console().print(
            f"cheap arms get {cheap['share']:.1%} of the queries, error {wrong} among them "
            f"(at most {cheap['allowance']:g} was asked for)"
        )
    points = document["frontier"]
    if points:
        frontier = Table("shadow price", "accuracy", "USD per query", title="Frontier")
        step = max(1, len(points) // N_SHOWN)
        for point in points[::step]:
            cost = point["cost_usd_per_query"]
            frontier.add_row(
                f"{point['shadow_price']:.3g}",
                f"{point['accuracy']:.3f}",
                "-" if cost is None else usd(cost),
            )
        console().print(frontier)
