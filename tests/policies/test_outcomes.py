"""Outcome tables are read whole or not at all, and averaged as stated."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cost_models.types import Arm
from policies.errors import OutcomeError, OutcomeWarning
from policies.outcomes import OutcomeTable, concatenate, read_outcomes

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"query_id": "a", "query": "1+1?", "model": "m", "strategy": "direct", "correct": 1}
OTHER = {**ROW, "query_id": "b", "query": "2+2?", "correct": 0, "cost_usd": 0.5}


def test_samples_of_one_query_and_arm_are_kept_and_averaged() -> None:
    """Three samples, two right: the cell is 2/3, the rows are still three."""
    rows = [{**ROW, "sample_index": i, "correct": right} for i, right in enumerate([1, 0, 1])]
    table = OutcomeTable.from_rows([*rows, OTHER])
    assert len(table) == 4
    assert table.quality_matrix()[:, 0] == pytest.approx([2 / 3, 0.0])


def test_what_was_not_recorded_is_nan_in_the_dense_views() -> None:
    """An arm that never met a query has NaN there, not 0."""
    table = OutcomeTable.from_rows([ROW, {**OTHER, "strategy": "cot"}])
    assert table.arms == (Arm("m", "cot"), Arm("m", "direct"))
    expected = [[np.nan, 1.0], [0.0, np.nan]]
    np.testing.assert_array_equal(table.quality_matrix(), expected)
    np.testing.assert_array_equal(table.matrix("cost_usd"), [[np.nan, np.nan], [0.5, np.nan]])


def test_score_counts_where_correct_is_absent() -> None:
    """A graded score is a quality only where nobody said right or wrong."""
    graded = {**ROW, "correct": None, "score": 0.25}
    reward = {**OTHER, "score": -7.5}
    table = OutcomeTable.from_rows([graded, reward])
    assert table.quality.tolist() == [0.25, 0.0]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        pytest.param({"correct": 2}, "correct", id="correct above 1"),
        pytest.param({"correct": -0.1}, "correct", id="correct below 0"),
        pytest.param({"correct": "yes"}, "correct", id="correct is a word"),
        pytest.param({"correct": None}, "correct", id="neither correct nor score"),
        pytest.param({"correct": None, "score": 9}, "score", id="score above 1 alone"),
        pytest.param({"cost_usd": -1}, "cost_usd", id="negative cost"),
        pytest.param({"latency_s": float("inf")}, "latency_s", id="infinite latency"),
        pytest.param({"completion_tokens": [3]}, "completion_tokens", id="tokens are a list"),
        pytest.param({"propensity": 0}, "propensity", id="propensity 0"),
        pytest.param({"model": None}, "model", id="no model"),
        pytest.param({"query_id": ""}, "query_id", id="empty query id"),
        pytest.param({"strategy": "a|b"}, "strategy", id="a strategy with a bar"),
        pytest.param({"query_id": "a"}, "sample_index", id="the same sample twice"),
    ],
)
def test_a_bad_row_is_named_with_row_and_column(
    tmp_path: Path, change: dict[str, object], column: str
) -> None:
    """The error says which file, which row, which column; nothing is read."""
    path = tmp_path / "outcomes.jsonl"
    rows = [ROW, {**OTHER, **change}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(OutcomeError) as caught:
        read_outcomes(path)
    assert (caught.value.source, caught.value.row, caught.value.column) == (str(path), 2, column)


def test_usage_of_a_reset_counter_is_unknown_and_the_grade_stays() -> None:
    """Tokens and cost that are all negative measure nothing; the warning names file and row."""
    reset = {**OTHER, "prompt_tokens": -9, "completion_tokens": -2, "cost_usd": -0.5}
    sound = {**ROW, "prompt_tokens": 9, "completion_tokens": 2, "cost_usd": 0.5}
    with pytest.warns(OutcomeWarning, match="mine: 1 rows, the first of them row 2,"):
        table = OutcomeTable.from_rows([sound, reset], "mine")
    for name, value in (("prompt_tokens", 9.0), ("completion_tokens", 2.0), ("cost_usd", 0.5)):
        np.testing.assert_array_equal(table.numbers[name], [value, np.nan])
    assert len(table.quality) == 2


def test_a_negative_cost_beside_sound_tokens_is_an_error() -> None:
    """Only usage that is negative throughout is taken for a reset counter."""
    odd = {**OTHER, "prompt_tokens": 9, "completion_tokens": 2, "cost_usd": -0.5}
    with pytest.raises(OutcomeError, match="must be at least 0"):
        OutcomeTable.from_rows([ROW, odd])


@pytest.mark.parametrize("column", ["query_id", "query", "model", "strategy", "correct"])
def test_a_missing_column_is_named(column: str) -> None:
    """Without a required column there is nothing to learn."""
    with pytest.raises(OutcomeError) as caught:
        OutcomeTable.from_rows([{k: v for k, v in ROW.items() if k != column}])
    assert caught.value.column == column


def test_every_format_gives_the_same_table(tmp_path: Path) -> None:
    """JSONL, compressed JSONL, CSV and Parquet differ in form only."""
    rows = [{**ROW, "cost_usd": 0.25}, OTHER]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as sink:
        sink.write(lines)
    header = ",".join(OTHER)
    body = "\n".join(",".join(str(row[name]) for name in OTHER) for row in rows)
    (tmp_path / "a.csv").write_text(f"{header},ignored\n" + body.replace("\n", ",x\n") + ",x\n")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    names = ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"]
    tables = [list(read_outcomes(tmp_path / name).rows()) for name in names]
    assert tables[1:] == tables[:1] * 3


def test_written_rows_read_back_the_same(tmp_path: Path) -> None:
    """Writing and reading gives the same rows, compressed or not."""
    table = OutcomeTable.from_rows([{**ROW, "sample_index": 3, "answer": "2"}, OTHER])
    for name in ("out.jsonl", "out.jsonl.gz"):
        table.write_jsonl(tmp_path / name)
        assert list(read_outcomes(tmp_path / name).rows()) == list(table.rows())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        pytest.param("a.txt", b"", "must end in", id="unknown ending"),
        pytest.param("a.jsonl", b"", "no rows", id="empty"),
        pytest.param("a.jsonl", b'{"query_id": 1}\n{', "row 2", id="torn JSON"),
        pytest.param("a.jsonl", b"[1]\n", "JSON object", id="not an object"),
        pytest.param("a.jsonl.gz", b"not gzip", "cannot be read", id="not gzip"),
        pytest.param("a.csv", b"query_id,query\n1\n", "row 1", id="short CSV row"),
        pytest.param("a.parquet", b"PAR1", "cannot be read", id="broken Parquet"),
    ],
)
def test_an_unusable_file_says_what_is_wrong(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """Broken files end in an OutcomeError that names the file."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(OutcomeError, match=said) as caught:
        read_outcomes(path)
    assert caught.value.source == str(path)


def test_a_file_that_is_not_there_is_an_outcome_error(tmp_path: Path) -> None:
    """A wrong path is told as such."""
    with pytest.raises(OutcomeError, match="no such file"):
        read_outcomes(tmp_path / "absent.csv")


def test_rows_of_other_tasks_are_not_checked(tmp_path: Path) -> None:
    """``tasks`` picks a task with all below it; a bad row elsewhere does not matter."""
    path = tmp_path / "a.jsonl"
    rows = [{**ROW, "task": "mmlu/law"}, {**OTHER, "task": "chat", "correct": 7}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_outcomes(path, ["mmlu"]).query_ids == ("a",)
    with pytest.raises(OutcomeError, match="no rows of law"):
        read_outcomes(path, ["law"])


def test_tables_are_cut_and_joined_by_query_arm_and_task() -> None:
    """What is cut apart and put together again is the same; a sample in both is refused."""
    table = OutcomeTable.from_rows([{**ROW, "task": "x"}, {**OTHER, "strategy": "cot"}])
    first, second = table.of_queries(["a"]), table.of_queries(["b"])
    assert list(concatenate([first, second]).rows()) == list(table.rows())
    assert table.of_arms([Arm("m", "cot")]).query_ids == ("b",)
    assert table.of_tasks(["x"]).query_ids == ("a",)
    with pytest.raises(OutcomeError, match="row 1"):
        concatenate([first, first])
