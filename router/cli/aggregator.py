"""``rheostat fit-aggregator``: learn from recorded samples which of several answers to take."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - the command line reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail, plain_table

if TYPE_CHECKING:
    from policies.aggregation import Standing
    from policies.outcomes import OutcomeTable


def fit_aggregator(
    output: Annotated[Path, typer.Option("--output", "-o", help="The aggregator (JSON).")],
    outcomes: Annotated[
        list[Path] | None, typer.Argument(help="Recorded samples (JSONL, CSV or Parquet).")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="A ledger whose graded answers are the samples.")
    ] = None,
    set_size: Annotated[int, typer.Option(min=2, help="Samples of one set.")] = 5,
    with_score: Annotated[
        bool,
        typer.Option("--with-score", help="The column score is a verifier's, not a grade."),
    ] = False,
    task: Annotated[
        list[str] | None, typer.Option(help="Only these tasks (repeat the option).")
    ] = None,
    strength: Annotated[float, typer.Option(min=0.0001, help="Inverse penalty.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit a trained aggregator on graded samples and measure it on held-out folds."""
    with errors_shown():
        from dataclasses import asdict

        from policies.aggregation import cross_validate
        from policies.aggregation import fit_aggregator as fit
        from policies.outcomes import read_outcomes
        from policies.sample_sets import sets_of

        files = outcomes or []
        if bool(files) == (database is not None):
            fail("give files of recorded samples, or --database with a ledger's URL")
        if database is not None and (with_score or task):
            fail("a ledger has grades and no tasks: leave out --with-score and --task")
        tables = [read_outcomes(path, task or ()) for path in files]
        if database is not None:
            tables = [_graded(database)]
        sets = [one for table in tables for one in sets_of(table, set_size, with_score=with_score)]
        try:
            standing = cross_validate(sets, strength=strength, seed=seed)
            manifest = {
                "outcomes": [path.name for path in files] or ["ledger"],
                "tasks": task or [],
                "set_size": set_size,
                "with_score": with_score,
                "strength": strength,
                "held_out": asdict(standing),
            }
            fitted = fit(sets, strength=strength, manifest=manifest)
        except ValueError as error:
            fail(str(error))
        try:
            fitted.write(output)
        except OSError as error:
            fail(f"{output} cannot be written: {error.strerror or error}")
        if as_json:
            shown = {
                **asdict(standing),
                "gap_closed": standing.gap_closed,
                "is_vote": fitted.manifest["is_vote"],
                "file": str(output),
            }
            typer.echo(json.dumps(shown, indent=2))
            return
        _print(standing, output)
        if fitted.manifest["is_vote"]:
            console().print("nothing learned beats the vote on held-out folds: it is the vote")


def _graded(database: str) -> OutcomeTable:
    """Read a ledger's graded answers; requests with the same text are samples of one question."""
    from policies.outcomes import OutcomeTable
    from router.cli.build import open_database
    from storage.history import read_history

    ledger = open_database(database)
    try:
        history = ledger.read(read_history)
    finally:
        ledger.close()
    rows = [
        {**row, "query_id": row["query"], "sample_index": i}
        for i, row in enumerate(history.rows)
        if "correct" in row
    ]
    if not rows:
        fail("this ledger has no graded answers whose question was kept; see POST /v1/feedback")
    return OutcomeTable.from_rows(rows, "the ledger")


def _print(standing: Standing, output: Path) -> None:
    table = plain_table("held-out folds", "right")
    for name, share in (
        ("one sample", standing.single),
        ("majority vote", standing.vote),
        ("highest score", standing.best_score),
        ("trained aggregator", standing.trained),
        ("any right sample (oracle)", standing.oracle),
    ):
        if share is not None:
            table.add_row(name, f"{share:.1%}")
    console().print(table)
    closed = standing.gap_closed
    gap = (
        "there is no gap between vote and oracle"
        if closed is None
        else (f"{closed:.0%} of the gap between vote and oracle closed")
    )
    console().print(
        f"{standing.n_sets} sets of {standing.n_queries} queries; {gap}; against the vote "
        f"{standing.trained - standing.vote:+.1%} "
        f"(95 %: {standing.low:+.1%} to {standing.high:+.1%})"
    )
    console().print(f"written to {output}")
