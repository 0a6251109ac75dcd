"""Rows of FOCUS as files: CSV that a spreadsheet opens safely, Parquet with exact decimals."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from cost_models.errors import RheostatError
from cost_models.focus import columns
from policies.cells import safe_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cost_models.focus import Row, Value, Version

DIGITS, PLACES = 38, 18
"""Of decimals in Parquet: the most that readers have in common, and what prices need."""


class ExportError(RheostatError):
    """A file could not be written; the message says why."""


def write_focus(rows: Sequence[Row], version: Version, path: Path) -> None:
    """Write ``.csv`` or ``.parquet``; a file that is there is replaced once the new one is whole.

    ExportError for another ending, where the file cannot be written, and for a number that does
    not fit `PLACES` places in Parquet.
    """
    writers: dict[str, Callable[[Sequence[Row], Version, Path], None]] = {
        ".csv": _write_csv,
        ".parquet": _write_parquet,
    }
    writer = writers.get(path.suffix)
    if writer is None:
        msg = f"FOCUS is written as .csv or .parquet, got {str(path)!r}"
        raise ExportError(msg)
    part = path.with_name(f".{path.name}.part")
    try:
        writer(rows, version, part)
        part.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error}"
        raise ExportError(msg) from error
    finally:
        part.unlink(missing_ok=True)


def _write_csv(rows: Sequence[Row], version: Version, path: Path) -> None:
    names = list(columns(version))
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(names)
        writer.writerows([_cell(row[name]) for name in names] for row in rows)


def _cell(value: Value) -> str:
    """Write a number in full, a time in UTC to the second, and nothing for what is null."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        written = f"{value:f}"
        return written.rstrip("0").rstrip(".") if "." in written else written
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return safe_cell(value)


def _write_parquet(rows: Sequence[Row], version: Version, path: Path) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra; loaded by those who write Parquet
        import pyarrow.parquet as pq  # noqa: PLC0415 - as above
    except ImportError as error:
        msg = "writing Parquet needs pyarrow; install it with: pip install 'rheostat[data]'"
        raise ExportError(msg) from error
    kinds = {
        str: pa.string(),
        Decimal: pa.decimal128(DIGITS, PLACES),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns(version).items()])
    values = {name: [row[name] for row in rows] for name in schema.names}
    try:
        table = pa.table(values, schema=schema)
    except pa.ArrowInvalid as error:
        msg = f"a number does not fit {PLACES} places in Parquet, write .csv: {error}"
        raise ExportError(msg) from error
    pq.write_table(table, path)
