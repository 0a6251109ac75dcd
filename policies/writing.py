"""Outcome tables as files that `policies.outcomes.read_outcomes` reads again."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from policies.cells import safe_cell
from policies.errors import OutcomeError
from policies.outcomes import COLUMNS, TEXT_COLUMNS, WHOLE_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable

MOST_WHOLE = 2.0**53
"""Whole numbers below this are exact in a float."""


def write_outcomes(table: OutcomeTable, path: Path) -> None:
    """Write JSONL (``.jsonl``, ``.jsonl.gz``), CSV (``.csv``) or Parquet (``.parquet``).

    Columns without any value are left out; in CSV, absent and empty text are the same, and text
    that a spreadsheet would run as a formula is marked as text. A file that is there is replaced,
    once the new one is whole. Raises OutcomeError for another ending, or where the file cannot be
    written.
    """
    writers: dict[str, Callable[[OutcomeTable, Path], None]] = {
        ".jsonl": lambda kept, place: kept.write_jsonl(place),
        ".jsonl.gz": lambda kept, place: kept.write_jsonl(place),
        ".csv": _write_csv,
        ".parquet": _write_parquet,
    }
    ending = next((end for end in reversed(writers) if path.name.endswith(end)), None)
    if ending is None:
        msg = f"the name must end in one of {', '.join(writers)}"
        raise OutcomeError(str(path), msg)
    part = path.with_name(f".{path.name}.part{ending}")
    try:
        writers[ending](table, part)
        part.replace(path)
    except OSError as error:
        msg = f"cannot be written: {error}"
        raise OutcomeError(str(path), msg) from error
    finally:
        part.unlink(missing_ok=True)


def _present(table: OutcomeTable) -> list[str]:
    some = {name for row in table.rows() for name in row}
    return [name for name in COLUMNS if name in some]


def _write_csv(table: OutcomeTable, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, _present(table), restval="")
        writer.writeheader()
        writer.writerows(
            {name: safe_cell(v) if isinstance(v, str) else v for name, v in row.items()}
            for row in table.rows()
        )


def _is_whole(values: NDArray[np.float64]) -> bool:
    """Whether a column fits whole numbers of 64 bits; mean tokens of a derived arm do not."""
    known = values[~np.isnan(values)]
    return bool(((known % 1.0 == 0) & (np.abs(known) < MOST_WHOLE)).all())


def _write_parquet(table: OutcomeTable, path: Path) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra; loaded by those who write Parquet
        import pyarrow.parquet as pq  # noqa: PLC0415 - as above
    except ImportError as error:
        msg = "writing Parquet needs pyarrow; install it with: pip install 'rheostat[data]'"
        raise OutcomeError(str(path), msg) from error
    kinds = {
        name: pa.string()
        if name in TEXT_COLUMNS
        else pa.int64()
        if name in WHOLE_COLUMNS and _is_whole(table.numbers[name])
        else pa.float64()
        for name in _present(table)
    }
    rows = list(table.rows())
    columns = {name: [row.get(name) for row in rows] for name in kinds}
    pq.write_table(pa.table(columns, schema=pa.schema(list(kinds.items()))), path)
