"""Files put together: texts decide which queries are the same."""

from __future__ import annotations

import pytest

from policies.errors import OutcomeError
from policies.merging import merge, with_task
from policies.outcomes import OutcomeTable


def one(query_id: str, text: str, model: str, task: str | None = None) -> OutcomeTable:
    """Make a table of one row."""
    row = {"query_id": query_id, "query": text, "model": model, "strategy": "s", "correct": 1}
    return OutcomeTable.from_rows([row if task is None else {**row, "task": task}], model)


def test_the_same_text_is_the_same_query_whatever_its_id() -> None:
    """Two sources with ids of their own; the first id stays."""
    table = merge([one("game24-1", "1 2 3 4", "m"), one("GameOf24-7", "1 2 3 4", "n")])
    assert table.query_ids == ("game24-1",)
    assert table.quality_matrix().tolist() == [[1.0, 1.0]]


def test_an_id_that_two_sources_share_by_chance_stays_two_queries() -> None:
    """Different texts are told apart by the number of the file."""
    table = merge([one("7", "first", "m"), one("7", "second", "m")])
    assert table.query_ids == ("7", "7#2")
    assert table.queries == ("first", "second")


def test_a_sample_in_two_files_is_refused() -> None:
    """The same arm on the same text twice is a duplicate."""
    with pytest.raises(OutcomeError, match="already"):
        merge([one("a", "text", "m"), one("b", "text", "m")])


def test_the_task_is_seen_only_when_asked_for() -> None:
    """It is put before the text; rows without a task stay as they are."""
    assert with_task(one("a", "text", "m", "algebra")).queries == ("[algebra]\ntext",)
    assert with_task(one("a", "text", "m")).queries == ("text",)
    assert one("a", "text", "m", "algebra").queries == ("text",)
