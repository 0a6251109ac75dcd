"""Outcome tables as files, read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from planted import planted

from policies.errors import OutcomeError
from policies.outcomes import OutcomeTable, read_outcomes
from policies.writing import write_outcomes

if TYPE_CHECKING:
    from pathlib import Path

ODD = OutcomeTable.from_rows(
    [
        {
            "query_id": "1,2",
            "query": 'Say "a,\nb"\r\nand ü',
            "model": "m",
            "strategy": "s",
            "score": 1 / 3,
            "sample_index": 7,
            "propensity": 0.1,
        },
        {"query_id": "2", "query": "x", "model": "m", "strategy": "s", "correct": 1, "task": "t"},
    ]
)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
@pytest.mark.parametrize(
    "table", [pytest.param(planted(9), id="planted"), pytest.param(ODD, id="odd")]
)
def test_a_written_table_is_read_again(tmp_path: Path, ending: str, table: OutcomeTable) -> None:
    """Every value is the same, in every kind of file, and no part of a file is left behind.

    CSV has no absent text: it comes back empty.
    """
    path = tmp_path / f"outcomes{ending}"
    path.write_text("an old file")
    write_outcomes(table, path)
    found = [{k: v for k, v in row.items() if v != ""} for row in read_outcomes(path).rows()]
    assert found == list(table.rows())
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_or_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """The file is named, with what to do."""
    with pytest.raises(OutcomeError, match=r"must end in one of \.jsonl"):
        write_outcomes(ODD, tmp_path / "outcomes.txt")
    with pytest.raises(OutcomeError, match="cannot be written"):
        write_outcomes(ODD, tmp_path / "nowhere" / "outcomes.csv")


def test_mean_tokens_of_a_derived_arm_survive_parquet(tmp_path: Path) -> None:
    """They need not be whole numbers."""
    pytest.importorskip("pyarrow")
    row = {"query_id": "q", "query": "?", "model": "m", "strategy": "vote", "correct": 1}
    table = OutcomeTable.from_rows([{**row, "prompt_tokens": 100, "completion_tokens": 32.5}])
    write_outcomes(table, tmp_path / "o.parquet")
    again = read_outcomes(tmp_path / "o.parquet")
    assert again.numbers["completion_tokens"].tolist() == [32.5]
    assert next(again.rows())["prompt_tokens"] == 100
