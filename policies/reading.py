"""Outcome files as columns: JSONL, CSV and Parquet, row by row, equal texts kept once."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from policies.cells import plain_cell
from policies.errors import OutcomeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

MAX_FIELD = 2**31 - 1
"""Characters that one value of a CSV file may have."""
ROWS_AT_ONCE = 65_536


class Read(NamedTuple):
    """Columns as they were read, all of one length, absent values None or NaN.

    ``rows`` counts them; ``named`` are all columns of the file, also those that are left out.
    """

    source: str
    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[int]
    named: Sequence[str] = ()


def read_columns(path: Path, wanted: Collection[str]) -> Read:
    """Read the ``wanted`` columns of a file, as far as it has them; its name says its format.

    Rows are counted from 1; a CSV's header does not count, an empty line does, and holds nothing.
    Raises OutcomeError for a file that cannot be read, with its row where one is at fault.
    """
    readers: dict[str, Callable[[Path, Collection[str]], Read]] = {
        ".jsonl": _read_jsonl,
        ".jsonl.gz": _read_jsonl,
        ".csv": _read_csv,
        ".csv.gz": _read_csv,
        ".parquet": _read_parquet,
    }
    reader = next((read for end, read in readers.items() if path.name.endswith(end)), None)
    if reader is None:
        msg = f"the name must end in one of {', '.join(readers)}"
        raise OutcomeError(str(path), msg)
    if not path.is_file():
        msg = "it is a directory, not a file" if path.is_dir() else "there is no such file"
        raise OutcomeError(str(path), msg)
    try:
        return reader(path, wanted)
    except OSError as error:
        msg = f"cannot be read: {error}"
        raise OutcomeError(str(path), msg) from error


class _Pool:
    """Texts that were met, so that equal ones are one object."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def __call__(self, value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        return self._seen.setdefault(value, value) if isinstance(value, str) else value


def _lines(path: Path) -> Iterator[str]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as lines:
            for line in lines:
                number += 1
                yield line
    except UnicodeDecodeError as error:
        msg = f"is not UTF-8 text, save it as UTF-8: {error}"
        raise OutcomeError(str(path), msg) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"cannot be read, it is damaged after line {number}: {error}"
        raise OutcomeError(str(path), msg) from error


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = f"not JSON: {error}"
        raise OutcomeError(str(path), msg, row=number) from error
    if not isinstance(row, dict):
        msg = f"a row must be a JSON object, got {type(row).__name__}"
        raise OutcomeError(str(path), msg, row=number)
    return row


def _read_jsonl(path: Path, wanted: Collection[str]) -> Read:
    columns: dict[str, list[Any]] = {}
    named: dict[str, None] = {}
    rows: list[int] = []
    pool = _Pool()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        row = _object(path, number, line)
        named.update(dict.fromkeys(row))
        for name in wanted:
            if name in row and name not in columns:
                columns[name] = [None] * len(rows)
        for name, values in columns.items():
            values.append(pool(row.get(name)))
        rows.append(number)
    return Read(str(path), columns, rows, tuple(named))


def _read_csv(path: Path, wanted: Collection[str]) -> Read:
    before = csv.field_size_limit(MAX_FIELD)
    number = 0
    try:
        reader = csv.reader(_lines(path), strict=True)
        header = next(reader, [])
        _check_names(path, header, wanted)
        places = {name: i for i, name in enumerate(header) if name in wanted}
        columns: dict[str, list[Any]] = {name: [] for name in places}
        rows: list[int] = []
        pool = _Pool()
        for number, row in enumerate(reader, start=1):
            if not row:
                continue
            if len(row) != len(header):
                msg = f"{len(row)} values under {len(header)} column names"
                raise OutcomeError(str(path), msg, row=number)
            for name, i in places.items():
                columns[name].append(pool(plain_cell(row[i])))
            rows.append(number)
    except csv.Error as error:
        msg = f"cannot be read as CSV: {error}"
        raise OutcomeError(str(path), msg, row=number + 1) from error
    finally:
        csv.field_size_limit(before)
    return Read(str(path), columns, rows, tuple(header))


def _read_parquet(path: Path, wanted: Collection[str]) -> Read:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra; loaded by those who read Parquet
        import pyarrow.parquet as pq  # noqa: PLC0415 - as above
    except ImportError as error:
        msg = "reading Parquet needs pyarrow; install it with: pip install 'rheostat[data]'"
        raise OutcomeError(str(path), msg) from error
    pool = _Pool()
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_names(path, names, wanted)
            columns: dict[str, list[Any]] = {name: [] for name in names if name in wanted}
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
                for name in columns:
                    columns[name] += _values(batch[name], pool)
            n_rows = file.metadata.num_rows
    except (pa.ArrowException, UnicodeDecodeError) as error:
        msg = f"cannot be read as Parquet: {error}"
        raise OutcomeError(str(path), msg) from error
    return Read(str(path), columns, range(1, n_rows + 1), tuple(names))


def _values(array: Any, pool: _Pool) -> list[Any]:  # noqa: ANN401 - of pyarrow, which has no types
    from pyarrow import types  # noqa: PLC0415 - the caller has it

    kind = array.type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)):
        found: list[Any] = array.to_pylist()
        return found
    encoded = array.dictionary_encode()
    words = [pool(word) for word in encoded.dictionary.to_pylist()]
    return [None if i is None else words[i] for i in encoded.indices.to_pylist()]


def _check_names(path: Path, names: Sequence[str], wanted: Collection[str]) -> None:
    twice = [name for name, n in Counter(names).items() if n > 1 and name in wanted]
    if twice:
        msg = "the file has this column twice; keep one of them"
        raise OutcomeError(str(path), msg, column=twice[0])
