"""The report as a table for a spreadsheet: one figure a row, and nothing that one would run."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Row = tuple[str, str, str, object, str]

COLUMNS = ("section", "name", "figure", "value", "unit")
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_cell(value: object) -> object:
    """Give a value as it may stand in a cell: text that would be taken for a formula is quoted.

    Numbers stay numbers, also below 0; None is empty. See OWASP, CSV injection.
    """
    if value is None:
        return ""
    if isinstance(value, str) and value.lstrip(" ").startswith(RISKY):
        return f"'{value}"
    return value


def report_csv(document: Mapping[str, Any]) -> str:
    """Give a report as CSV (RFC 4180) with `COLUMNS`; exact amounts are whole nano-USD."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in _rows(document):
        writer.writerow([safe_cell(cell) for cell in row])
    return written.getvalue()


def _rows(document: Mapping[str, Any]) -> Iterator[Row]:
    header = document["header"]
    for name in ("period", "since", "until", "time_zone", "policy", "snapshot", "coverage"):
        yield "header", name, "text", header[name], ""
    yield "header", "simulated", "flag", header["simulated"] is not None, ""
    yield "decision", document["decision"]["kind"], "text", document["decision"]["text"], ""
    for tile in document["tiles"]:
        yield "tile", tile["name"], "value", tile["value"], ""
        yield "tile", tile["name"], "status", tile["status"], ""
        yield "tile", tile["name"], "detail", tile["detail"], ""
    facts = document["facts"]
    yield from _slice("whole", "", facts["whole"])
    for dimension, parts in facts["by"].items():
        for part in parts:
            yield from _slice(dimension, part["name"], part)
    for key in ("roles", "providers", "called_models", "compute"):
        for name, amount in facts[f"{key}_nano_usd"].items():
            yield key, name, "cost", amount, "nano-USD"
    for day in facts["days"]:
        yield "day", day["day"], "cost", day["cost_nano_usd"], "nano-USD"
    for name, amount in document["change"].items():
        yield "change", name.removesuffix("_nano_usd"), "cost", amount, "nano-USD"
    for event in document["events"]:
        yield "event", event["day"], event["kind"], event["text"], ""


def _slice(section: str, name: str, part: Mapping[str, Any]) -> Iterator[Row]:
    yield section, name, "cost", part["cost_nano_usd"], "nano-USD"
    for figure in ("n_closed", "n_open", "n_answered", "n_failed", "n_graded"):
        yield section, name, figure, part[figure], "answers"
    for figure, unit in (("accuracy", "share"), ("usd_per_correct", "USD")):
        found = part[figure] or {"value": None, "low": None, "high": None}
        for end in ("value", "low", "high"):
            yield section, name, f"{figure}_{end}", found[end], unit
