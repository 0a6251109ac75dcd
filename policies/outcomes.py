"""Outcome tables: what every arm answered to every query, and how good that was.

One table feeds fitting, tuning, evaluation and reports. It is read whole or not at all: the first
row that cannot be used ends the reading, with its file, row and column.
"""

from __future__ import annotations

import gzip
import json
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.types import Arm
from policies.errors import OutcomeError, OutcomeWarning
from policies.posing import Posing, posed
from policies.reading import Read, read_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Row = dict[str, Any]

TEXT_COLUMNS = ("query_id", "query", "posing", "model", "strategy", "answer", "gold", "task")
NUMBER_COLUMNS = (
    "correct",
    "score",
    "sample_index",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_s",
    "machine_s",
    "propensity",
    "fold",
)
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
"""All columns of a table; other columns of a file are left out."""
REQUIRED = ("query_id", "query", "model", "strategy")
WHOLE_COLUMNS = frozenset({"sample_index", "fold", "prompt_tokens", "completion_tokens"})
NOT_NEGATIVE = (
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "latency_s",
    "machine_s",
    "sample_index",
)
METERED = ("prompt_tokens", "completion_tokens", "cost_usd")
MAX_SHOWN = 80
MAX_BITS = 256
WORDS = {
    "true": 1.0,
    "false": 0.0,
    **dict.fromkeys(("", "null", "none", "nan"), float("nan")),
}


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Recorded outcomes, one row a sample.

    Text columns are lists of text or None, number columns float arrays with NaN for absent
    (``numbers`` has every name in NUMBER_COLUMNS). Make one with `from_columns`, `from_rows` or
    `read_outcomes`, which check it.

    Attributes
    ----------
    source : str
        Where it came from, for messages.
    texts : dict of str to list of str or None
    numbers : dict of str to ndarray of shape (n_rows,)
    query_ids : tuple of str, length n_queries
        In the order of their first rows.
    queries : tuple of str, length n_queries
        Their texts, each with its posing (see `policies.posing`).
    arms : tuple of Arm, length n_arms
        Sorted.
    """

    source: str
    texts: dict[str, list[str | None]]
    numbers: dict[str, NDArray[np.float64]]
    query_ids: tuple[str, ...] = field(init=False)
    queries: tuple[str, ...] = field(init=False)
    arms: tuple[Arm, ...] = field(init=False)
    _query: NDArray[np.intp] = field(init=False, repr=False)
    _arm: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ids, texts, posing = (self.texts[name] for name in ("query_id", "query", "posing"))
        first: dict[str, str] = {}
        for query_id, text, told in zip(ids, texts, posing, strict=True):
            if (query_id or "") not in first:
                first[query_id or ""] = posed(text or "", told or "")
        pairs = list(zip(self.texts["model"], self.texts["strategy"], strict=True))
        of_pair = {pair: Arm(pair[0] or "", pair[1] or "") for pair in set(pairs)}
        arms = tuple(sorted(of_pair.values()))
        arm_number = {arm: i for i, arm in enumerate(arms)}
        pair_number = {pair: arm_number[arm] for pair, arm in of_pair.items()}
        query_number = {query_id: i for i, query_id in enumerate(first)}
        derived = {
            "query_ids": tuple(first),
            "queries": tuple(first.values()),
            "arms": arms,
            "_query": np.array([query_number[i or ""] for i in ids], dtype=np.intp),
            "_arm": np.array([pair_number[pair] for pair in pairs], dtype=np.intp),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self._query)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], source: str = "rows") -> OutcomeTable:
        """Check and build a table from one mapping a row; OutcomeError names row and column."""
        rows = list(rows)
        present = [name for name in COLUMNS if any(name in row for row in rows)]
        columns = {name: [row.get(name) for row in rows] for name in present}
        return _checked(Read(source, columns, range(1, len(rows) + 1)))

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Sequence[Any]], source: str = "columns"
    ) -> OutcomeTable:
        """Check and build a table from columns of equal length."""
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            msg = f"columns differ in length: {lengths}"
            raise OutcomeError(source, msg)
        n_rows = next(iter(lengths.values()), 0)
        return _checked(Read(source, columns, range(1, n_rows + 1)))

    @property
    def cells(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Number of each row's query and of its arm, both of shape (n_rows,)."""
        return self._query, self._arm

    @property
    def quality(self) -> NDArray[np.float64]:
        """``correct`` of each row, or else ``score``, in [0, 1]; shape (n_rows,)."""
        correct = self.numbers["correct"]
        return np.where(np.isnan(correct), self.numbers["score"], correct)

    def quality_matrix(self) -> NDArray[np.float64]:
        """Mean quality over samples, shape (n_queries, n_arms); NaN where there is none."""
        return self._mean(self.quality)

    def matrix(self, column: str) -> NDArray[np.float64]:
        """Mean of a number column over samples, shape (n_queries, n_arms); NaN where unknown."""
        return self._mean(self.numbers[column])

    def _mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        known = ~np.isnan(values)
        shape = (len(self.query_ids), len(self.arms))
        cell = (self._query * shape[1] + self._arm)[known]
        size = shape[0] * shape[1]
        count = np.bincount(cell, minlength=size)
        total = np.bincount(cell, weights=values[known], minlength=size)
        mean = np.where(count > 0, total / np.maximum(1, count), np.nan)
        return np.asarray(mean.reshape(shape))

    def where(self, keep: NDArray[np.bool_]) -> OutcomeTable:
        """Keep the rows where ``keep``, of shape (n_rows,), is True."""
        index = np.flatnonzero(keep)
        return OutcomeTable(
            self.source,
            {name: [values[i] for i in index] for name, values in self.texts.items()},
            {name: values[index] for name, values in self.numbers.items()},
        )

    def of_queries(self, query_ids: Iterable[str]) -> OutcomeTable:
        """Keep the rows of some queries."""
        wanted = set(query_ids)
        chosen = np.array([query_id in wanted for query_id in self.query_ids], dtype=bool)
        return self.where(chosen[self._query])

    def of_arms(self, arms: Iterable[Arm]) -> OutcomeTable:
        """Keep the rows of some arms."""
        wanted = set(arms)
        chosen = np.array([arm in wanted for arm in self.arms], dtype=bool)
        return self.where(chosen[self._arm])

    def of_tasks(self, tasks: Iterable[str]) -> OutcomeTable:
        """Keep the rows of some tasks; a task names itself and those below it (``mmlu``)."""
        wanted = tuple(tasks)
        keep = [_is_below(task or "", wanted) for task in self.texts["task"]]
        return self.where(np.array(keep, dtype=bool))

    def rows(self) -> Iterator[Row]:
        """Yield each row as a mapping of the columns that it has."""
        for i in range(len(self)):
            row: Row = {name: self.texts[name][i] for name in TEXT_COLUMNS}
            for name in NUMBER_COLUMNS:
                value = float(self.numbers[name][i])
                whole = name in WHOLE_COLUMNS and value.is_integer()
                row[name] = None if np.isnan(value) else int(value) if whole else value
            yield {name: row[name] for name in COLUMNS if row[name] is not None}

    def write_jsonl(self, path: Path) -> None:
        """Write one JSON object a row; compressed when the name ends in ``.gz``."""
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "wt", encoding="utf-8") as sink:
            for row in self.rows():
                sink.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def concatenate(tables: Sequence[OutcomeTable]) -> OutcomeTable:
    """Put tables one after the other; OutcomeError if a sample is in two of them."""
    source = " + ".join(table.source for table in tables)
    texts = {name: [v for t in tables for v in t.texts[name]] for name in TEXT_COLUMNS}
    numbers = {
        name: np.concatenate([np.zeros(0), *(t.numbers[name] for t in tables)])
        for name in NUMBER_COLUMNS
    }
    n_rows = sum(map(len, tables))
    _check_unique(source, texts, numbers["sample_index"], range(1, n_rows + 1))
    return OutcomeTable(source, texts, numbers)


def read_outcomes(path: Path, tasks: Sequence[str] = ()) -> OutcomeTable:
    """Read ``.jsonl``, ``.csv`` (both also with ``.gz``) or ``.parquet``.

    Rows are counted from 1, without a CSV's header. ``tasks`` keeps only some tasks (see
    `OutcomeTable.of_tasks`); the rows of others are not checked. Raises OutcomeError.
    """
    return _checked(read_columns(path, COLUMNS), tasks)


def _checked(read: Read, tasks: Sequence[str] = ()) -> OutcomeTable:
    source, columns = read.source, read.columns
    if not len(read.rows):
        msg = "there are no rows"
        raise OutcomeError(source, msg)
    missing = [name for name in REQUIRED if name not in columns]
    if "correct" not in columns and "score" not in columns:
        missing.append("correct")
    if missing:
        told = f"; the file has: {', '.join(read.named)}" if read.named else ""
        msg = f"the column is missing; needed are {', '.join(REQUIRED)} and correct or score{told}"
        raise OutcomeError(source, msg, column=missing[0])
    if tasks:
        read = _of_tasks(read, tasks)
    n_rows = len(read.rows)
    if not n_rows:
        msg = f"there are no rows of {', '.join(tasks)}"
        raise OutcomeError(source, msg)
    texts: dict[str, list[str | None]] = {
        name: _texts(read, name) if name in columns else [None] * n_rows for name in TEXT_COLUMNS
    }
    numbers = {
        name: _numbers(read, name) if name in columns else np.full(n_rows, np.nan)
        for name in NUMBER_COLUMNS
    }
    _check_posing(read, texts["posing"])
    _drop_broken_meters(read, numbers)
    _check_ranges(read, numbers)
    _check_unique(source, texts, numbers["sample_index"], read.rows)
    return OutcomeTable(source, texts, numbers)


def _of_tasks(read: Read, tasks: Sequence[str]) -> Read:
    named = read.columns.get("task", [None] * len(read.rows))
    keep = [i for i, task in enumerate(named) if _is_below(task or "", tasks)]
    columns = {name: [values[i] for i in keep] for name, values in read.columns.items()}
    return Read(read.source, columns, [read.rows[i] for i in keep])


def _is_below(task: str, tasks: Sequence[str]) -> bool:
    return any(task == above or task.startswith(f"{above}/") for above in tasks)


def _texts(read: Read, column: str) -> list[str | None]:
    values: list[str | None] = []
    for row, value in zip(read.rows, read.columns[column], strict=True):
        if isinstance(value, (list, tuple, dict, bytes)):
            msg = f"must be text, got {type(value).__name__} {value!r}"
            raise OutcomeError(read.source, msg, row=row, column=column)
        values.append(value if isinstance(value, str) else _plain(value))
    if column in {"query_id", "model", "strategy"}:
        for row, value in zip(read.rows, values, strict=True):
            if not value or (column == "strategy" and "|" in value):
                msg = f"must be text{' without |' if value else ''}, got {value!r}"
                raise OutcomeError(read.source, msg, row=row, column=column)
    return values


def _plain(value: Any) -> str | None:  # noqa: ANN401 - whatever the file holds
    """Text of a value that is none; absent where it is None or NaN."""
    return None if value is None or value != value else str(value)  # noqa: PLR0124 - NaN


def _numbers(read: Read, column: str) -> NDArray[np.float64]:
    values = read.columns[column]
    try:
        plain = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        plain = None
    if plain is not None and plain.ndim == 1:
        return plain
    numbers = np.empty(len(values))
    for i, (row, value) in enumerate(zip(read.rows, values, strict=True)):
        try:
            numbers[i] = _number(value)
        except (TypeError, ValueError, OverflowError) as error:
            msg = f"must be a number, got {_short(value)}"
            raise OutcomeError(read.source, msg, row=row, column=column) from error
    return numbers


def _short(value: Any) -> str:  # noqa: ANN401 - as above
    text = f"a whole number of {value.bit_length()} bits" if _is_huge(value) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _is_huge(value: Any) -> bool:  # noqa: ANN401 - as above
    return isinstance(value, int) and value.bit_length() > MAX_BITS


def _number(value: Any) -> float:  # noqa: ANN401 - whatever the file holds
    if value is None:
        return float("nan")
    if isinstance(value, str):
        word = value.strip().lower()
        return WORDS[word] if word in WORDS else float(word)
    return float(value)


def _check_posing(read: Read, posing: Sequence[str | None]) -> None:
    for told in dict.fromkeys(posing):
        try:
            Posing.parse(told or "")
        except ValueError as error:
            row = read.rows[posing.index(told)]
            raise OutcomeError(read.source, str(error), row=row, column="posing") from error


def _drop_broken_meters(read: Read, numbers: Mapping[str, NDArray[np.float64]]) -> None:
    """Count the usage of rows as unknown where all of METERED are negative, and warn.

    That is the difference of two counters of which one started again: nothing was measured, and
    the grade still holds. A single negative number is a slip in the row and stays an error.
    """
    broken = np.all([numbers[name] < 0 for name in METERED], axis=0)
    if not broken.any():
        return
    for name in METERED:
        numbers[name][broken] = np.nan
    message = (
        f"{read.source}: {int(broken.sum())} rows, the first of them row "
        f"{read.rows[int(broken.argmax())]}, have negative tokens and a negative cost, as a "
        "counter that was reset gives; their usage counts as unknown, their grades are used"
    )
    warnings.warn(message, OutcomeWarning, stacklevel=2)


def _check_ranges(read: Read, numbers: Mapping[str, NDArray[np.float64]]) -> None:
    """Raise OutcomeError at the first number that is out of range.

    A ``score`` beside ``correct`` is not a quality and may be anything.
    """
    correct, score, propensity = (numbers[n] for n in ("correct", "score", "propensity"))
    ungraded = np.isnan(correct)
    checks = [
        ("correct", ungraded & np.isnan(score), "needs a value here or under 'score'"),
        ("correct", ~ungraded & ~((correct >= 0) & (correct <= 1)), "must be in [0, 1]"),
        (
            "score",
            ungraded & ~np.isnan(score) & ~((score >= 0) & (score <= 1)),
            "must be in [0, 1] where 'correct' is absent",
        ),
        (
            "propensity",
            ~np.isnan(propensity) & ~((propensity > 0) & (propensity <= 1)),
            "must be in (0, 1]",
        ),
        *(
            (name, ~np.isnan(numbers[name]) & ~(numbers[name] >= 0), "must be at least 0")
            for name in NOT_NEGATIVE
        ),
        *((name, np.isinf(numbers[name]), "must be finite") for name in NUMBER_COLUMNS),
        *(
            (name, numbers[name] % 1.0 > 0, "must be a whole number")
            for name in ("sample_index", "fold")
        ),
    ]
    for column, bad, problem in checks:
        if bad.any():
            i = int(bad.argmax())
            msg = f"{problem}, got {numbers[column][i]:g}"
            raise OutcomeError(read.source, msg, row=read.rows[i], column=column)


def _check_unique(
    source: str,
    texts: Mapping[str, Sequence[str | None]],
    sample_index: NDArray[np.float64],
    rows: Sequence[int],
) -> None:
    samples = np.where(np.isnan(sample_index), 0.0, sample_index).tolist()
    keys = zip(texts["query_id"], texts["model"], texts["strategy"], samples, strict=True)
    seen: dict[tuple[str | None, str | None, str | None, float], int] = {}
    for row, key in zip(rows, keys, strict=True):
        first = seen.setdefault(key, row)
        if first != row:
            query_id, model, strategy, sample = key
            msg = (
                f"sample {sample:g} of query {query_id!r} by {model}|{strategy} was in row {first} "
                "already; give each sample its own sample_index"
            )
            raise OutcomeError(source, msg, row=row, column="sample_index")
