"""``rheostat questions`` and ``rheostat collect``: graded outcomes of every arm, to learn from."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import console, errors_shown, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.types import Arm
    from router.jobs.collect import CollectSettings
    from router.questions.base import Question
    from router.routing.catalog import Catalog


def questions(
    output: Annotated[Path, typer.Argument(help="The JSONL file to write.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many questions.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed gives other questions.")] = 0,
    family: Annotated[
        list[str] | None, typer.Option(help="Only these families (repeat the option).")
    ] = None,
) -> None:
    """Generate verifiable questions: arithmetic, word problems, comparisons, logic, countdown."""
    with errors_shown():
        from router.questions.base import write_questions
        from router.questions.registry import FAMILIES, generate

        unknown = sorted(set(family or ()) - set(FAMILIES))
        if unknown:
            fail(f"there is no question family {unknown[0]!r}; use: {', '.join(FAMILIES)}")
        write_questions(output, generate(count, seed, family))
        console().print(f"wrote {count} questions to {output}")


def collect(
    file: Annotated[Path, typer.Argument(help="Questions (JSONL), see `rheostat questions`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Outcomes (JSONL), appended to.")],
    config: Annotated[Path, typer.Option("--config", "-c")] = Path("rheostat.yaml"),
    arms: Annotated[
        list[str] | None, typer.Option(help="Only arms that match, e.g. 'small|*' (repeatable).")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Cap of one sample.")] = 256,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Run every arm over a question file, grade the answers, append them as outcomes."""
    with errors_shown():
        from router.cli.build import load_catalog
        from router.gateway.config import load
        from router.jobs.collect import CollectSettings
        from router.questions.base import read_questions

        asked = read_questions(file)
        settings = CollectSettings(output=output, max_tokens=max_tokens, seed=seed)

        async def run() -> int:
            async with load_catalog(load(config), asked) as catalog:
                wanted = matching(catalog, arms)
                return await collect_with_progress(catalog, asked, wanted, settings)

        n_run = asyncio.run(run())
        console().print(f"{n_run} answers appended to {output}")


def matching(catalog: Catalog, globs: Sequence[str] | None) -> list[Arm]:
    """Arms whose name matches one of the globs; all arms without globs."""
    found = [
        arm
        for arm in catalog.arms
        if not globs or any(fnmatchcase(str(arm), glob) for glob in globs)
    ]
    if not found:
        fail(f"no arm matches {globs}; the arms are: {', '.join(map(str, catalog.arms))}")
    return found


async def collect_with_progress(
    catalog: Catalog, asked: Sequence[Question], arms: Sequence[Arm], settings: CollectSettings
) -> int:
    """Collect behind one progress bar an arm."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from router.jobs.collect import collect as run_collect

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console()) as bars:
        tasks = {arm: bars.add_task(str(arm), total=len(asked), start=False) for arm in arms}

        def progress(arm: Arm, done: int, total: int) -> None:
            bars.start_task(tasks[arm])
            bars.update(tasks[arm], completed=done, total=total)

        return await run_collect(catalog, asked, arms, settings, progress)
