"""Several files of outcomes as one table: the same text is the same query, whatever its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.outcomes import OutcomeTable, concatenate, read_outcomes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_all(paths: Sequence[Path], tasks: Sequence[str] = ()) -> OutcomeTable:
    """Read and `merge` files; OutcomeError, and nothing read, if any of them is unusable."""
    return merge([read_outcomes(path, tasks) for path in paths])


def merge(tables: Sequence[OutcomeTable]) -> OutcomeTable:
    """Put tables together.

    Queries of different tables with the same text become one, under the id that it had first; ids
    that different texts have in common are told apart by the number of their table. Raises
    OutcomeError if a sample of an arm on a query is in two tables.
    """
    if len(tables) == 1:
        return tables[0]
    id_of_text: dict[str, str] = {}
    taken: dict[str, str] = {}
    renamed = []
    for number, table in enumerate(tables, start=1):
        new: dict[str, str] = {}
        for query_id, text in zip(table.query_ids, table.queries, strict=True):
            chosen = id_of_text.get(text)
            if chosen is None:
                chosen = query_id if taken.get(query_id, text) == text else f"{query_id}#{number}"
                id_of_text[text] = chosen
                taken[chosen] = text
            new[query_id] = chosen
        ids: list[str | None] = [new[query_id or ""] for query_id in table.texts["query_id"]]
        texts = {**table.texts, "query_id": ids}
        renamed.append(OutcomeTable(table.source, texts, table.numbers))
    return concatenate(renamed)


def with_task(table: OutcomeTable) -> OutcomeTable:
    """Put the task of each row before its query text, so that a policy can see it."""
    queries: list[str | None] = [
        f"[{task}]\n{query or ''}" if task else query
        for task, query in zip(table.texts["task"], table.texts["query"], strict=True)
    ]
    return OutcomeTable(table.source, {**table.texts, "query": queries}, table.numbers)
