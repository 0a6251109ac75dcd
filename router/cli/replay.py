"""``rheostat replay``: run recorded thoughts through the real search."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path  # noqa: TC003 - the command line reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail

if TYPE_CHECKING:
    from policies.types import AnswerKind
    from router.jobs.replay import Replay

replay_app = typer.Typer(
    help="Run recorded thoughts through the real strategies.", no_args_is_help=True
)


@replay_app.callback()
def _replay() -> None:
    """Keep ``tot`` a command of its own."""


@replay_app.command("tot")
def replay_tot(
    log: Annotated[Path, typer.Argument(help="A log of princeton-nlp/tree-of-thought-llm.")],
    breadth: Annotated[
        int | None,
        typer.Option("--breadth", "-b", min=1, help="States kept; those of the log if not given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay Tree of Thoughts (BFS) over recorded proposals and values; no model is asked."""
    with errors_shown():
        from router.jobs.replay import replay
        from router.trees.recorded import read_log

        done = asyncio.run(replay(read_log(log), breadth))
        if as_json:
            typer.echo(json.dumps(_shown(done), indent=2))
            return
        _print(done)


@replay_app.command("samples")
def replay_recorded_samples(
    outcomes: Annotated[Path, typer.Argument(help="Recorded samples (JSONL, CSV or Parquet).")],
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", help="The strategy, as in a configuration.")
    ] = "self_consistency(samples=40)",
    kind: Annotated[str, typer.Option(help="number, choice or expression.")] = "expression",
    task: Annotated[
        list[str] | None, typer.Option(help="Only these tasks (repeat the option).")
    ] = None,
    orders: Annotated[int, typer.Option(min=1, help="Orders of the samples to average.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the further orders and the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a strategy over recorded samples; no model is asked."""
    with errors_shown():
        from dataclasses import asdict

        from policies.outcomes import read_outcomes
        from router.jobs.replay_samples import replay_samples
        from router.strategies.registry import parse_strategy

        answer_kind = _kind(kind)
        table = read_outcomes(outcomes, task or ())
        made = parse_strategy(strategy)
        done = asyncio.run(replay_samples(made, table, answer_kind, orders=orders, seed=seed))
        if as_json:
            typer.echo(json.dumps({**asdict(done), "saved": done.saved}, indent=2))
            return
        console().print(
            f"{done.strategy}: {done.accuracy:.1%} right with {done.drawn:.1f} samples a query "
            f"({done.saved:.0%} fewer than {done.recorded:.0f}); the vote over all "
            f"{done.vote:.1%}, one sample {done.single:.1%}"
        )
        console().print(
            f"against the vote {done.accuracy - done.vote:+.1%} "
            f"(95 %: {done.low:+.1%} to {done.high:+.1%}); {done.n_queries} queries, "
            f"{done.orders} orders"
        )


@replay_app.command("cascade")
def replay_recorded_cascade(
    outcomes: Annotated[Path, typer.Argument(help="Recorded samples (JSONL, CSV or Parquet).")],
    cascade: Annotated[
        str,
        typer.Option("--cascade", "-c", help="The cascade; its models are MODEL/STRATEGY."),
    ],
    against: Annotated[str, typer.Option(help="The recorded MODEL/STRATEGY to compare with.")],
    kind: Annotated[str, typer.Option(help="number, choice or expression.")] = "expression",
    task: Annotated[
        list[str] | None, typer.Option(help="Only these tasks (repeat the option).")
    ] = None,
    orders: Annotated[int, typer.Option(min=1, help="Orders of the samples to average.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the further orders and the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a cascade over recorded samples of several models; no model is asked."""
    with errors_shown():
        from dataclasses import asdict

        from policies.outcomes import read_outcomes
        from router.jobs.replay_cascade import replay_cascade
        from router.strategies.escalation import parse_escalation

        answer_kind = _kind(kind)
        made = parse_escalation(cascade)
        table = read_outcomes(outcomes, task or ())
        done = asyncio.run(
            replay_cascade(made, table, answer_kind, against, orders=orders, seed=seed)
        )
        if as_json:
            typer.echo(json.dumps({**asdict(done), "cost_share": done.cost_share}, indent=2))
            return
        console().print(
            f"{done.cascade}: {done.accuracy:.1%} right at {done.cost_usd:.6f} USD a query, "
            f"{done.cost_share:.1%} of {done.against} with {done.against_accuracy:.1%}"
        )
        console().print(
            f"difference {done.accuracy - done.against_accuracy:+.1%} "
            f"(95 %: {done.low:+.1%} to {done.high:+.1%}); the last stage ran in "
            f"{done.escalated:.0%}; {done.n_queries} queries, {done.orders} orders"
        )


def _kind(kind: str) -> AnswerKind:
    from policies.types import AnswerKind
    from router.jobs.replay_samples import WRITTEN

    known = {str(one): one for one in WRITTEN}
    if kind not in known:
        fail(f"samples of kind {kind!r} cannot be replayed; use one of: {', '.join(known)}")
    return AnswerKind(kind)


def _shown(done: Replay) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "n": len(done.puzzles),
        "breadth": done.breadth,
        "solved_first": done.n_solved_first,
        "solved_any": done.n_solved_any,
        "calls": done.calls,
        "same_path": sum(puzzle.same_path for puzzle in done.puzzles),
        "recorded_first": sum(puzzle.recorded_first for puzzle in done.puzzles),
        "recorded_any": sum(puzzle.recorded_any for puzzle in done.puzzles),
        "sampled": sum(not puzzle.greedy for puzzle in done.puzzles),
        "rule_disagrees": sum(puzzle.rule_disagrees for puzzle in done.puzzles),
        "puzzles": [asdict(puzzle) for puzzle in done.puzzles],
    }


def _print(done: Replay) -> None:
    from rich.table import Table

    table = Table("puzzle", "numbers", "first", "any", "recorded", "calls", "same path")
    for puzzle in done.puzzles:
        table.add_row(
            puzzle.name,
            puzzle.puzzle[:40],
            "yes" if puzzle.solved_first else "no",
            "yes" if puzzle.solved_any else "no",
            f"{int(puzzle.recorded_first)} / {int(puzzle.recorded_any)}",
            str(puzzle.calls),
            "yes" if puzzle.same_path else "no",
        )
    console().print(table)
    console().print(
        f"{done.n_solved_first} of {len(done.puzzles)} solved by the best state, "
        f"{done.n_solved_any} by any; {done.calls} calls replayed"
    )
