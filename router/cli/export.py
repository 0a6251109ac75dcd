"""``rheostat export``: graded answers, to fit on or fine-tune with, or what was charged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cost_models.focus import Version
from router.cli.console import console, errors_shown, fail
from router.cli.focus import Grain, export_focus

if TYPE_CHECKING:
    from policies.finetuning import Groups

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


class Format(StrEnum):
    """What the file is for."""

    OUTCOMES = "outcomes"
    GRPO = "grpo"
    DPO = "dpo"
    KTO = "kto"
    SFT = "sft"
    FOCUS = "focus"


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    since: Annotated[
        datetime | None, typer.Option(formats=TIMES, help="From this time on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=TIMES, help="Before this time (UTC).")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="Outcomes, groups to fine-tune a model, or costs.")
    ] = Format.OUTCOMES,
    focus_version: Annotated[
        Version, typer.Option("--focus-version", help="Of FOCUS, with --format focus.")
    ] = Version.V1_4,
    grain: Annotated[
        Grain, typer.Option("--grain", help="Charge periods, with --format focus.")
    ] = Grain.DAY,
) -> None:
    """Write graded answers as outcomes or for fine-tuning (TRL), or what was charged as FOCUS."""
    with errors_shown():
        from policies.finetuning import Form, groups
        from policies.outcomes import OutcomeTable
        from policies.writing import write_outcomes
        from router.cli.build import open_ledger
        from router.gateway.config import load
        from storage.history import read_history

        begin, end = in_utc(since), in_utc(until)
        if form == Format.FOCUS:
            export_focus(load(config), output, focus_version, grain, begin, end)
            return
        if form != Format.OUTCOMES and output.suffix != ".jsonl":
            fail(f"groups for {form} are JSONL: give --output a name that ends in .jsonl")
        loaded = load(config)
        ledger = open_ledger(loaded)
        try:
            history = ledger.read(lambda session: read_history(session, begin, end))
        finally:
            ledger.close()
        left_out = {
            "answers without a grade": history.n_ungraded,
            "graded answers whose question was not kept": history.n_without_text,
        }
        if not history.rows:
            fail(
                f"there is no graded answer to export{_told(left_out)}; grade answers with "
                "POST /v1/feedback, or widen --since and --until"
            )
        table = OutcomeTable.from_rows(history.rows, loaded.ledger_shown)
        if form == Format.OUTCOMES:
            write_outcomes(table, output)
            written = f"{len(table):,} outcomes of {len(table.query_ids):,} questions"
        else:
            made = groups(table, Form(form.value))
            _write(made, output)
            written = f"{len(made.rows):,} rows for {form}"
            left_out |= {f"questions of which {why}": n for why, n in made.left_out.items()}
        console().print(
            f"{written} written to {output}{_told(left_out)}", markup=False, soft_wrap=True
        )


def in_utc(time: datetime | None) -> datetime | None:
    """Take a time that was typed for one in UTC."""
    return None if time is None else time.replace(tzinfo=UTC)


def _told(left_out: dict[str, int]) -> str:
    told = [f"{n:,} {what}" for what, n in left_out.items() if n]
    return f" (left out: {', '.join(told)})" if told else ""


def _write(made: Groups, output: Path) -> None:
    try:
        with output.open("w", encoding="utf-8") as sink:
            sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in made.rows)
    except OSError as error:
        fail(f"{output} cannot be written: {error}")
