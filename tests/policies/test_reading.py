"""Files as users have them: what can be read is read, what cannot is told by row and column."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from policies.errors import OutcomeError
from policies.outcomes import read_outcomes

if TYPE_CHECKING:
    from pathlib import Path

ROW: dict[str, Any] = {"query_id": "q", "query": "t", "model": "m", "strategy": "s", "correct": 1}
HEAD = "query_id,query,model,strategy,correct"
LINE = json.dumps(ROW)


@pytest.mark.parametrize(
    ("name", "content", "n_rows"),
    [
        pytest.param("a.jsonl", LINE.encode("utf-8-sig"), 1, id="a byte order mark"),
        pytest.param("a.jsonl", f"{LINE}\n\n".encode(), 1, id="an empty last line"),
        pytest.param("a.csv", f"{HEAD}\nq,t,m,s,1\n\n".encode(), 1, id="an empty line of a CSV"),
        pytest.param("a.csv", f"{HEAD}\r\nq,t,m,s,1\r\n".encode(), 1, id="lines of Windows"),
        pytest.param("a.csv", f'{HEAD}\nq,"a\nb",m,s,True\n'.encode(), 1, id="a text of two lines"),
        pytest.param("a.csv", f"{HEAD}\nq,{'x' * 200_000},m,s,1".encode(), 1, id="a long text"),
        pytest.param("a.csv.gz", gzip.compress(f"{HEAD}\nq,t,m,s,1".encode()), 1, id="CSV, gzip"),
        pytest.param("a.jsonl.gz", gzip.compress(LINE.encode()), 1, id="JSONL, gzip"),
    ],
)
def test_files_that_are_fine(tmp_path: Path, name: str, content: bytes, n_rows: int) -> None:
    """What spreadsheets and editors make of a file does not stop it."""
    (tmp_path / name).write_bytes(content)
    table = read_outcomes(tmp_path / name)
    assert len(table) == n_rows
    assert table.quality.tolist() == [1.0]
    assert table.query_ids == ("q",)


def _line(**change: object) -> bytes:
    return f"{LINE}\n{json.dumps({**ROW, 'query_id': 'r', **change})}".encode()


BAD_GZIP = bytearray(gzip.compress(b"x" * 1000))
BAD_GZIP[12] ^= 0xFF


@pytest.mark.parametrize(
    ("name", "content", "place", "told"),
    [
        pytest.param(
            "a.jsonl", _line(prompt_tokens=10**400), (2, "prompt_tokens"), "bits", id="huge"
        ),
        pytest.param("a.jsonl", _line(cost_usd=[1]), (2, "cost_usd"), "[1]", id="a list"),
        pytest.param("a.jsonl", _line(answer={"a": 1}), (2, "answer"), "dict", id="an object"),
        pytest.param("a.jsonl", _line(correct="yes"), (2, "correct"), "'yes'", id="a word"),
        pytest.param("a.jsonl", _line(cost_usd="1,5"), (2, "cost_usd"), "'1,5'", id="a comma"),
        pytest.param("a.jsonl", _line(sample_index=0.5), (2, "sample_index"), "whole", id="half"),
        pytest.param(
            "a.jsonl", _line(query_id=float("nan")), (2, "query_id"), "None", id="a NaN id"
        ),
        pytest.param("a.jsonl", b"[" * 100_000, (1, None), "not JSON", id="nested without end"),
        pytest.param("a.jsonl", b'{"a":' + b"9" * 5000 + b"}", (1, None), "not JSON", id="digits"),
        pytest.param(
            "a.jsonl", LINE.encode("utf-16"), (None, None), "save it as UTF-8", id="UTF-16"
        ),
        pytest.param("a.jsonl", b"", (None, None), "no rows", id="empty"),
        pytest.param("a.csv", f"{HEAD}\n\nq,t,m,s,x".encode(), (2, "correct"), "'x'", id="CSV"),
        pytest.param(
            "a.csv", f"{HEAD}\nq,t\n".encode(), (1, None), "2 values under 5", id="ragged"
        ),
        pytest.param("a.csv", f'{HEAD}\nq,"t\n'.encode(), (1, None), "as CSV", id="an open quote"),
        pytest.param(
            "a.csv",
            HEAD.replace(",", ";").encode() + b"\nq;t;m;s;1",
            (None, "query_id"),
            "the file has: query_id;query",
            id="semicolons",
        ),
        pytest.param(
            "a.csv", f"{HEAD},correct\nq,t,m,s,1,0".encode(), (None, "correct"), "twice", id="twice"
        ),
        pytest.param("a.jsonl.gz", b"{}", (None, None), "damaged", id="not gzip"),
        pytest.param("a.jsonl.gz", bytes(BAD_GZIP), (None, None), "damaged", id="damaged gzip"),
        pytest.param(
            "a.jsonl.gz", gzip.compress(LINE.encode())[:-9], (None, None), "damaged", id="cut gzip"
        ),
        pytest.param("a.txt", b"", (None, None), ".csv.gz", id="an unknown ending"),
    ],
)
def test_files_that_are_not(
    tmp_path: Path, name: str, content: bytes, place: tuple[int | None, str | None], told: str
) -> None:
    """The file, the row and the column are named, and nothing else is raised."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OutcomeError) as caught:
        read_outcomes(tmp_path / name)
    error = caught.value
    assert (error.source, error.row, error.column) == (str(tmp_path / name), *place)
    assert told in str(error)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """It is said so."""
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(OutcomeError, match="a directory"):
        read_outcomes(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("change", "column"),
    [
        pytest.param({"answer": [{"a": 1}]}, "answer", id="an object for a text"),
        pytest.param({"query": [b"\xff"]}, "query", id="bytes for a text"),
        pytest.param({"correct": [[1]]}, "correct", id="a list for a number"),
        pytest.param({"cost_usd": [{"usd": 1}]}, "cost_usd", id="an object for a number"),
    ],
)
def test_nested_columns_of_parquet(tmp_path: Path, change: dict[str, Any], column: str) -> None:
    """A column that is not wanted may hold anything, the others one value a row."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    plain = {name: [value] for name, value in ROW.items()}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({**plain, "meta": [{"a": [1]}]}), path)
    assert len(read_outcomes(path)) == 1
    pq.write_table(pa.table({**plain, **change}), path)
    with pytest.raises(OutcomeError) as caught:
        read_outcomes(path)
    assert (caught.value.row, caught.value.column) == (1, column)


def test_parquet_with_a_column_twice_or_categories(tmp_path: Path) -> None:
    """Categories are text; which of two columns was meant cannot be known."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    plain = {name: pa.array([value, value]) for name, value in ROW.items()}
    plain |= {"query_id": pa.array(["q", "r"]), "model": plain["model"].dictionary_encode()}
    pq.write_table(pa.table({**plain, "answer": pa.array([None, "a"])}), path)
    table = read_outcomes(path)
    assert table.texts["model"] == ["m", "m"]
    assert table.texts["answer"] == [None, "a"]
    columns = [*plain.values(), plain["correct"]]
    pq.write_table(pa.Table.from_arrays(columns, names=[*plain, "correct"]), path)
    with pytest.raises(OutcomeError, match="'correct': the file has this column twice"):
        read_outcomes(path)
