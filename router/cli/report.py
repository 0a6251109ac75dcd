"""``rheostat report``: what was spent and what it bought, from the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cost_models.money import NANO_PER_USD, format_usd
from router.cli.console import console, errors_shown, fail, plain_table, usd
from router.cli.facts import Wanted, earlier_period, facts_and_change, in_zone, show_facts
from router.cli.report_files import FileRequest, Format, names_two, parse_formats, run_report

if TYPE_CHECKING:
    from router.gateway.config import Config
    from storage.budgets import BudgetStatus
    from storage.reliability import Reliability
    from storage.reports import ArmTotal, Part, Totals

PLACES = 9
FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]


class By(StrEnum):
    """What the spend may be split by."""

    MODEL = "model"
    STRATEGY = "strategy"
    PROVIDER = "provider"
    TENANT = "tenant"
    TEAM = "team"
    ROLE = "role"
    STATUS = "status"


def report(
    config: Annotated[Path, typer.Option("--config", "-c", help="The YAML file.")] = Path(
        "rheostat.yaml"
    ),
    since: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="From this time on (UTC).")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=FORMATS, help="Before this time (UTC).")
    ] = None,
    by: Annotated[
        By | None, typer.Option("--by", help="Split the spend by this, over all calls.")
    ] = None,
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Days are those of this zone (IANA).")
    ] = "UTC",
    compare: Annotated[
        str | None,
        typer.Option("--compare", help="Why spend changed since an earlier time, DATE..DATE."),
    ] = None,
    forecast_to: Annotated[
        datetime | None,
        typer.Option(formats=FORMATS, help="Forecast the spend from --since to this day."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    period: Annotated[
        str | None,
        typer.Option("--period", help="The report of 2026-10, 2026-Q4, 2026-W40, last-month, ..."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="terminal, html, pdf, json, csv; commas between.")
    ] = "terminal",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.", dir_okay=False)
    ] = None,
    ledger_url: Annotated[
        str | None,
        typer.Option("--ledger", help="The ledger's URL, in place of --config, for a period."),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=FORMATS, help="The period as it stood at this time."),
    ] = None,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", help="Machines that could be owned (YAML).")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", help="End with 3 on over-budget, accuracy; commas between."),
    ] = None,
) -> None:
    """Show what was spent and what it bought, by arm, to the nano-USD."""
    wanted = parse_formats(formats)
    named = (
        period is not None or ledger_url is not None or (compare is not None and names_two(compare))
    )
    if named or wanted != (Format.TERMINAL,) or as_of or scenario or fail_on or output:
        from router.cli.build import utc_now

        if by is not None or forecast_to is not None:
            fail("--by and --forecast-to belong to the plain report: leave out --period")
        if as_json:
            wanted = tuple(Format.JSON if each is Format.TERMINAL else each for each in wanted)
        run_report(
            FileRequest(
                config,
                ledger_url,
                period,
                in_zone(since, time_zone),
                in_zone(until, time_zone),
                in_zone(as_of, time_zone),
                time_zone,
                compare,
                wanted,
                output,
                scenario,
                fail_on,
            ),
            utc_now(),
        )
        return
    with errors_shown():
        from router.cli.build import open_ledger, utc_now
        from router.gateway.config import load
        from storage.reliability import read_reliability
        from storage.reports import parts, totals, totals_by_arm

        loaded = load(config)
        begin, end = in_zone(since, time_zone), in_zone(until, time_zone)
        earlier = None if compare is None else earlier_period(compare, time_zone)
        coming = in_zone(forecast_to, time_zone)
        now = utc_now()
        ledger = open_ledger(loaded)
        try:
            whole, arms, split, judges, facts, change = ledger.read(
                lambda session: (
                    totals(session, begin, end),
                    totals_by_arm(session, begin, end),
                    parts(session, by.value, begin, end) if by else [],
                    read_reliability(session, begin, end),
                    *facts_and_change(
                        session, loaded, Wanted(begin, end or now, time_zone, earlier, coming)
                    ),
                )
            )
            budgets = ledger.budget_status(now)
        finally:
            ledger.close()
        if as_json:
            document = _document(loaded, whole, arms, budgets)
            if by is not None:
                document["parts"] = {"by": by.value, "parts": [asdict(part) for part in split]}
            document["judges"] = [
                {
                    **asdict(judge),
                    "sensitivity": judge.sensitivity,
                    "specificity": judge.specificity,
                    "precision": judge.precision,
                }
                for judge in judges
            ]
            document["facts"] = None if facts is None else facts.to_dict()
            if change is not None:
                document["change"] = change.to_dict()
            typer.echo(json.dumps(document, indent=2))
        else:
            _show(loaded, whole, arms, budgets)
            if by is not None:
                _show_parts(by, split)
            _show_judges(judges)
            show_facts(facts, change)


def as_utc(time: datetime | None) -> datetime | None:
    """Take a time from the command line as UTC."""
    return None if time is None else time.replace(tzinfo=UTC)


def simulated_names(config: Config) -> frozenset[str]:
    """Names of the configured models that are simulated."""
    return frozenset(model.name for model in config.models if model.is_simulated)


def _show(config: Config, whole: Totals, arms: list[ArmTotal], budgets: list[BudgetStatus]) -> None:
    simulated = simulated_names(config)
    screen = console()
    table = plain_table("arm", "answers", "right", "cost", "a right one", "seconds")
    for total in arms:
        label = " (simulated)" if total.arm.model in simulated else ""
        coverage = "" if total.n_graded == total.n_entries else f" of {total.n_graded:,}"
        table.add_row(
            f"{total.arm.model}{label}\n  {total.arm.strategy}",
            f"{total.n_entries:,}",
            "-" if total.quality is None else f"{total.quality:.1%}{coverage}",
            "-" if total.cost_nano_usd is None else format_usd(total.cost_nano_usd, PLACES),
            "-" if total.usd_per_correct is None else usd(total.usd_per_correct),
            "-" if total.latency_s is None else f"{total.latency_s:.2f}",
        )
    if arms:
        screen.print(table)
    screen.print(
        f"{whole.n_requests:,} requests, {whole.n_refused:,} refused; {whole.n_entries:,} answers "
        f"from {whole.n_calls:,} calls; {whole.n_open:,} open, {whole.n_in_doubt:,} in doubt"
    )
    screen.print(
        f"spent {format_usd(whole.cost_nano_usd, PLACES)}, ledger {config.ledger_shown}",
        soft_wrap=True,
    )
    for status in budgets:
        facts = status.facts
        screen.print(
            f"budget of {facts.scope} per {facts.period}: "
            f"{format_usd(facts.spent_nano_usd, PLACES)} spent, "
            f"{format_usd(facts.held_nano_usd, PLACES)} held "
            f"of {usd(facts.limit_nano_usd / NANO_PER_USD)}",
            markup=False,
            soft_wrap=True,
        )
    if whole.n_imported:
        screen.print(f"{whole.n_imported:,} imported answers are in none of these figures")
    n_graded = sum(total.n_graded for total in arms)
    if n_graded < whole.n_entries:
        screen.print(
            f"{n_graded:,} of {whole.n_entries:,} answers are graded; grade the others with "
            "POST /v1/feedback",
            style="dim",
        )


def _show_parts(by: By, split: list[Part]) -> None:
    """Show the spend split by one dimension; the parts add up to what was spent."""
    table = plain_table(by.value, "calls", "in doubt", "tokens in", "cached", "out", "cost")
    for part in split:
        table.add_row(
            part.name or "-",
            f"{part.n_calls:,}",
            f"{part.n_in_doubt:,}",
            f"{part.prompt_tokens:,}",
            f"{part.cached_prompt_tokens:,}",
            f"{part.completion_tokens:,}",
            format_usd(part.cost_nano_usd, PLACES),
        )
    console().print(table)


def _show_judges(judges: list[Reliability]) -> None:
    """Show how far the judges of cascades could be trusted."""
    if not judges:
        return
    table = plain_table(
        "judge of a cascade", "right ones trusted", "wrong ones not", "trusted right"
    )
    for judge in judges:
        shares = (judge.sensitivity, judge.specificity, judge.precision)
        counts = (judge.right, judge.wrong, judge.right_trusted + judge.wrong_trusted)
        told = (
            "-" if s is None else f"{s:.0%} of {n}" for s, n in zip(shares, counts, strict=True)
        )
        table.add_row(f"{judge.judge}\n  {judge.model}", *told)
    console().print(table)


def _document(
    config: Config, whole: Totals, arms: list[ArmTotal], budgets: list[BudgetStatus]
) -> dict[str, Any]:
    simulated = simulated_names(config)
    return {
        "ledger": config.ledger_shown,
        "totals": asdict(whole),
        "arms": [
            {
                **asdict(total),
                "arm": str(total.arm),
                "usd_per_correct": total.usd_per_correct,
                "simulated": total.arm.model in simulated,
            }
            for total in arms
        ],
        "budgets": [
            {
                "scope": status.facts.scope,
                "period": status.facts.period,
                "limit_nano_usd": status.facts.limit_nano_usd,
                "spent_nano_usd": status.facts.spent_nano_usd,
                "held_nano_usd": status.facts.held_nano_usd,
                "overshoot_nano_usd": status.overshoot_nano_usd,
            }
            for status in budgets
        ],
    }
