"""``rheostat report --format``: one document of a period, rendered and written to files."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import typer

from router.cli.console import console, errors_shown, fail, say_error
from router.cli.facts import earlier_period, simulated_prices, zone_called

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from router.gateway.config import Config
    from router.reports.gates import Gate
    from router.reports.periods import ReportPeriod
    from router.reports.reading import Material, ReportQuestion

EXIT_GATE = 3
EXIT_UNDECIDED = 4
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
INSTANT = timedelta(microseconds=1)


class Format(StrEnum):
    """How a report may be written."""

    TERMINAL = "terminal"
    HTML = "html"
    PDF = "pdf"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What was typed; times are in UTC, and None where nothing was.

    ``ledger`` is a URL in place of what the file ``config`` says: no file is read then.
    """

    config: Path
    ledger: str | None
    period: str | None
    since: datetime | None
    until: datetime | None
    as_of: datetime | None
    time_zone: str
    compare: str | None
    formats: tuple[Format, ...]
    output: Path | None
    scenario: Path | None
    fail_on: str | None


def parse_formats(text: str) -> tuple[Format, ...]:
    """Read ``html,pdf``."""
    try:
        return tuple(dict.fromkeys(Format(part.strip()) for part in text.split(",")))
    except ValueError:
        names = ", ".join(each.value for each in Format)
        fail(f"--format takes {names}, separated by commas, got {text!r}")


def names_two(compare: str) -> bool:
    """Whether ``--compare`` names two periods, and not the dates that bound one."""
    parts = compare.split("..")
    return len(parts) == 2 and not any(DATE.match(part) for part in parts)  # noqa: PLR2004


def write_report(asked: FileRequest, now: datetime) -> None:
    """Make a report, write it in each format, and end with 3 or 4 where a gate says so."""
    from router.cli.build import open_database, open_ledger
    from router.gateway.config import load
    from router.reports.document import report_document
    from router.reports.gates import parse_gates

    gates = [] if asked.fail_on is None else parse_gates(asked.fail_on)
    _check_output(asked)
    loaded = load(asked.config) if asked.ledger is None else None
    if asked.ledger is not None:
        _check_is_there(asked.ledger)
    question = _question(asked, loaded, now)
    ledger = open_database(asked.ledger or "") if loaded is None else open_ledger(loaded)
    try:
        document = report_document(ledger.read(lambda session: _material(session, question)))
    finally:
        ledger.close()
    for each in asked.formats:
        _write(document, each, asked)
    _hold(document, gates)


def _material(session: Session, question: ReportQuestion) -> Material:
    """Read the material of a report; a simulated ledger has prices of its own."""
    from router.reports.reading import read_material

    prices = simulated_prices(session) or question.prices
    return read_material(session, replace(question, prices=prices))


def _question(asked: FileRequest, config: Config | None, now: datetime) -> ReportQuestion:
    from router.reports.reading import ReportQuestion

    period, earlier = _periods(asked, now)
    as_of = asked.as_of or (now if now >= period.end else _whole_hours(now))
    if as_of <= period.since:
        fail(f"{period.name} has no whole hour that is over yet; ask for an earlier period")
    if earlier is None:
        before = period.earlier(zone_called(asked.time_zone))
        length = min(as_of, period.end) - period.since
        over = as_of >= period.end
        earlier = (before.since, before.end if over else min(before.end, before.since + length))
    machines, ranges = _machines(asked.scenario)
    return ReportQuestion(
        period=period,
        as_of=as_of,
        earlier=earlier,
        time_zone=asked.time_zone,
        target=None if config is None else config.accuracy_target,
        prices=None if config is None else config.price_book(),
        machines=machines,
        ranges=ranges,
        reproduce=_reproduce(asked, period, as_of),
    )


def _periods(
    asked: FileRequest, now: datetime
) -> tuple[ReportPeriod, tuple[datetime, datetime] | None]:
    """Give the period and what it is compared with, None for the one before it."""
    from router.reports.periods import ReportPeriod, named_period

    tz = zone_called(asked.time_zone)
    names = [] if asked.compare is None else asked.compare.split("..")
    if asked.compare is not None and names_two(asked.compare):
        old, new = (named_period(name, tz, now) for name in names)
        if asked.period is not None or asked.since is not None or asked.until is not None:
            fail("--compare A..B names the period itself: leave out --period, --since and --until")
        if old.since >= new.since:
            fail(f"--compare A..B takes the earlier period first, got {asked.compare!r}")
        return new, (old.since, old.end)
    earlier = None
    if len(names) == 1:
        before = named_period(names[0], tz, now)
        earlier = (before.since, before.end)
    elif asked.compare is not None:
        earlier = earlier_period(asked.compare, asked.time_zone)
    if asked.period is not None:
        if asked.since is not None or asked.until is not None:
            fail("--period says when: leave out --since and --until")
        return named_period(asked.period, tz, now), earlier
    if asked.since is None:
        return named_period("this-month", tz, now), earlier
    end = asked.until or _whole_hours(now)
    if end <= asked.since:
        fail(f"--until has to be after --since, got {asked.since} to {end}")
    first = asked.since.astimezone(tz).date().isoformat()
    last = (end - INSTANT).astimezone(tz).date().isoformat()
    return ReportPeriod(f"{first} to {last}", None, asked.since, end), earlier


def _whole_hours(now: datetime) -> datetime:
    """Give the start of the hour: a report of a period that goes on tells of whole hours."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _machines(path: Path | None) -> tuple[Any, Any]:
    if path is None:
        return None, None
    from router.cli.scenario import load_scenario

    form = load_scenario(path).machines
    if form is None:
        fail(f"{path} says nothing of machines; see docs/planning.md")
    return form.likely(), form.ranges()


def _reproduce(asked: FileRequest, period: ReportPeriod, as_of: datetime) -> str:
    """Give the command that makes the same report again; a password is not in it."""
    from sqlalchemy import make_url

    words = ["rheostat", "report"]
    if asked.ledger is not None:
        words += ["--ledger", make_url(asked.ledger).render_as_string(hide_password=True)]
    if period.kind is None:
        tz = zone_called(asked.time_zone)
        for option, at in (("--since", period.since), ("--until", period.end)):
            words += [option, at.astimezone(tz).strftime("%Y-%m-%dT%H:%M:%S")]
    elif asked.compare is None or ".." not in asked.compare or asked.period is not None:
        words += ["--period", period.name]
    if as_of < period.end:
        tz = zone_called(asked.time_zone)
        words += ["--as-of", as_of.astimezone(tz).strftime("%Y-%m-%dT%H:%M:%S")]
    if asked.compare is not None:
        words += ["--compare", asked.compare]
    if asked.time_zone != "UTC":
        words += ["--time-zone", asked.time_zone]
    if asked.scenario is not None:
        words += ["--scenario", asked.scenario.name]
    return shlex.join([*words, "--format", ",".join(asked.formats)])


def _check_is_there(url: str) -> None:
    """Refuse a SQLite file that is not there: a report would make an empty one in its place."""
    from pathlib import Path

    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        fail(f"--ledger takes a URL such as sqlite:///rheostat.db, got {url!r}")
    name = parsed.database
    if parsed.get_backend_name() == "sqlite" and (not name or not Path(name).exists()):
        fail(f"there is no ledger at {name}; `rheostat simulate --ledger {url}` makes one up")


def _check_output(asked: FileRequest) -> None:
    files = [each for each in asked.formats if each is not Format.TERMINAL]
    if asked.output is None and (len(files) > 1 or Format.PDF in files):
        fail("say with --output FILE where the report goes; its ending follows the format")


def _write(document: Mapping[str, Any], form: Format, asked: FileRequest) -> None:
    if form is Format.TERMINAL:
        _show(document)
        return
    content = _rendered(document, form)
    if asked.output is None:
        sys.stdout.buffer.write(content)
        return
    many = len([each for each in asked.formats if each is not Format.TERMINAL]) > 1
    path = asked.output.with_suffix(f".{form.value}") if many else asked.output
    try:
        path.write_bytes(content)
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
    typer.echo(f"wrote {path} ({len(content):,} bytes)", err=True)


def _rendered(document: Mapping[str, Any], form: Format) -> bytes:
    if form is Format.JSON:
        return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()
    if form is Format.CSV:
        from router.reports.sheets import report_csv

        return report_csv(document).encode()
    if form is Format.PDF:
        from router.reports.pdf import report_pdf

        return report_pdf(document)
    from router.reports.page import report_page

    return report_page(document).encode()


def _show(document: Mapping[str, Any]) -> None:
    """Print the heart of a report: the decision, the five figures, and why spend changed."""
    screen = console()

    def say(text: str, style: str | None = None) -> None:
        screen.print(text, style=style, soft_wrap=True, markup=False)

    header = document["header"]
    if header["simulated"] is not None:
        say("SIMULATED: a made-up history, no model ran and nothing was paid")
    say(f"{header['period']}: {header['days']} ({header['time_zone']})", "bold")
    say(header["coverage"], "dim")
    say(f"\n{document['decision']['text']}")
    for other in document["decision"]["also"]:
        say(f"Also: {other}")
    say("")
    for tile in document["tiles"]:
        word = "" if tile["status"] is None else f" [{tile['status']}]"
        say(f"{tile['title']}: {tile['value'] or 'not known'}{word}; {tile['detail']}")
    for name in ("change", "compute"):
        chart = document["charts"][name]
        say(f"\n{chart['title']}: {chart['empty'] or chart['description']}")
        for row in [] if chart["empty"] else chart["table"]["rows"]:
            say("  " + "  ".join(row))
    _show_difficulty(document["difficulty"], say)
    say(f"\n{document['buy_or_rent']['text']}")
    for event in document["events"]:
        say(f"{event['day']} {event['kind']}: {event['text']}")


def _show_difficulty(told: Mapping[str, Any], say: Callable[[str], None]) -> None:
    from router.reports.words import percent

    say(f"\n{told['title']}: " + (told["empty"] or "by how hard they were expected to be."))
    for row in told["rows"]:
        right = row["accuracy"]
        accuracy = "too few grades" if right is None else f"{percent(right['value'])} right"
        word = "" if row["standing"] is None else f" [{row['standing']}]"
        say(f"  {row['name']}  {row['n_answered']:,} answers  {accuracy}{word}")


def _hold(document: Mapping[str, Any], gates: Sequence[Gate]) -> None:
    from router.reports.gates import Verdict, judge

    worst = 0
    for gate in gates:
        verdict, told = judge(document, gate)
        if verdict is Verdict.FAILED:
            say_error(f"{gate}: {told}")
            worst = EXIT_GATE
        elif verdict is Verdict.UNDECIDED:
            say_error(f"{gate} cannot be decided: {told}")
            worst = worst or EXIT_UNDECIDED
    if worst:
        raise typer.Exit(worst)


def run_report(asked: FileRequest, now: datetime) -> None:
    """Make a report, with errors raised on purpose shown as one line."""
    with errors_shown():
        write_report(asked, now)
