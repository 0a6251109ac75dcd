"""A provider's bill as a CSV file: what it charged, by model and time, or by request."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import TYPE_CHECKING

from cost_models.money import to_nano_usd
from storage.errors import BillError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MOST_USD = Decimal(9_000_000_000)
"""Above this an amount in nano-USD does not fit its column."""
COLUMNS = ("start", "end", "model", "request_id", "cost_usd")


@dataclass(frozen=True, slots=True)
class Charge:
    """What was charged for a request, or for a model over [``start``, ``end``).

    ``model`` is None where a request's charge is for every model that it called; ``line`` is the
    first line of the file that is part of it.
    """

    line: int
    cost_nano_usd: int
    model: str | None = None
    request_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def subject(self) -> str:
        """Say what was charged for."""
        if self.request_id is not None:
            of_model = "" if self.model is None else f" on {self.model}"
            return f"request {self.request_id}{of_model}"
        begin, end = (f"{time:%Y-%m-%dT%H:%MZ}" for time in (self.start, self.end) if time)
        return f"{self.model} from {begin} to {end}"


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill by its file's name: charges by request first, then by time."""

    name: str
    charges: tuple[Charge, ...]


def read_bill(path: Path) -> Bill:
    """Read a CSV file with a ``cost_usd`` and, on each line, a request or a model and its time.

    ``request_id`` with or without ``model``; or ``model`` with ``start`` and ``end``, dates or ISO
    times, UTC where no zone is given. Lines about the same are one charge: providers bill token
    classes apart. Other columns are left alone. Raises BillError, with the line, for what is
    missing, no amount of at least 0, or times of one model that overlap in part.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "cost_usd" not in (reader.fieldnames or ()):
                msg = f"there is no column cost_usd; a bill has the columns {', '.join(COLUMNS)}"
                raise BillError(path.name, msg)
            charges = [_charge(path.name, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot be read as CSV in UTF-8: {error}"
        raise BillError(path.name, msg) from error
    if not charges:
        raise BillError(path.name, "there is no line below the header")
    summed = _summed(charges)
    _check(path.name, summed)
    return Bill(path.name, tuple(sorted(summed, key=lambda c: (c.request_id is None, c.line))))


def _charge(name: str, line: int, row: Mapping[str, str | None]) -> Charge:
    start, end, model, request_id, cost = ((row.get(c) or "").strip() for c in COLUMNS)
    try:
        cost_nano_usd = to_nano_usd(_amount(cost))
    except (InvalidOperation, ValueError):
        msg = f"cost_usd must be an amount of at least 0 in USD, as in 0.0123, got {cost!r}"
        raise BillError(name, msg, line) from None
    if request_id:
        return Charge(line, cost_nano_usd, model or None, request_id)
    if not (start and end and model):
        msg = "a line needs a request_id, or model, start and end"
        raise BillError(name, msg, line)
    begin, until = _time(name, line, "start", start), _time(name, line, "end", end)
    if until <= begin:
        msg = f"end must be after start, and is not part of the time, got {start} to {end}"
        raise BillError(name, msg, line)
    return Charge(line, cost_nano_usd, model, start=begin, end=until)


def _amount(text: str) -> Decimal:
    amount = Decimal(text)
    if amount > MOST_USD:
        raise ValueError(text)
    return amount


def _time(name: str, line: int, column: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"{column} must be a date or an ISO 8601 time, as in 2026-07-01, got {text!r}"
        raise BillError(name, msg, line) from None


def _summed(charges: Iterable[Charge]) -> list[Charge]:
    same: defaultdict[tuple[object, ...], list[Charge]] = defaultdict(list)
    for charge in charges:
        same[charge.model, charge.request_id, charge.start, charge.end].append(charge)
    return [
        Charge(
            lines[0].line,
            sum(charge.cost_nano_usd for charge in lines),
            lines[0].model,
            lines[0].request_id,
            lines[0].start,
            lines[0].end,
        )
        for lines in same.values()
    ]


def _check(name: str, charges: Iterable[Charge]) -> None:
    """Raise BillError where two charges are for the same calls."""
    times: defaultdict[str, list[tuple[datetime, datetime, int]]] = defaultdict(list)
    models: defaultdict[str, list[Charge]] = defaultdict(list)
    for charge in charges:
        if charge.request_id is not None:
            models[charge.request_id].append(charge)
        elif charge.model and charge.start and charge.end:
            times[charge.model].append((charge.start, charge.end, charge.line))
    for request_id, found in models.items():
        if len(found) > 1 and any(charge.model is None for charge in found):
            msg = f"request {request_id} has lines with and without a model; give each its model"
            raise BillError(name, msg, found[-1].line)
    for model, spans in times.items():
        for (_, end, first), (start, _, line) in pairwise(sorted(spans)):
            if start < end:
                msg = f"the time of {model} overlaps that of line {first}; make them equal or apart"
                raise BillError(name, msg, line)
