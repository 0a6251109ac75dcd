"""Rows that are written past most of SQLAlchemy are the rows that it would have written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

from sqlalchemy import select

from policies.types import AnswerKind, Query
from storage import statements
from storage.ledger import Asked, request_values
from storage.models import RequestRow
from storage.prepared import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from storage.ledger import OpenEntry
    from storage.store import Ledger

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))


def values(name: str, text: str, tags: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give the columns of a request."""
    query = Query(name, text, AnswerKind.NUMBER, "acme")
    return request_values(Asked(query, tags=tags, end_user=None), NOON)


def test_it_writes_what_sqlalchemy_writes(ledger: Ledger) -> None:
    """Times in UTC, lists as JSON, None as NULL, and what cannot be stored replaced."""
    odd = "NUL \0 and half \ud83d"

    def both(session: Any) -> list[Any]:  # noqa: ANN401 - a session
        inserting = statements.insert_requests(session)
        write(session, inserting, [values("q1", odd, ("a", "b")), values("q2", "plain")])
        session.execute(inserting, [values("q3", odd, ("a", "b")), values("q4", "plain")])
        columns = [c for c in RequestRow.__table__.c if c.name != "id"]
        return list(session.execute(select(*columns).order_by(RequestRow.id)))

    first, second, third, fourth = ledger.write(both)
    assert (first, second) == (third, fourth)
    assert first.received_at == NOON.astimezone(UTC)
    assert first.tags == ["a", "b"]
    assert "\N{REPLACEMENT CHARACTER}" in first.query_text


def test_it_tells_whether_an_update_changed_a_row(
    ledger: Ledger, opening: Callable[..., OpenEntry]
) -> None:
    """A hold is known to have been taken by the one row that changed."""
    entry_id = ledger.open(opening("q1", 0), NOON)

    def both(session: Any) -> list[int]:  # noqa: ANN401 - a session
        asked = ({"of_entry": number, "latency_s": 1.5} for number in (entry_id, entry_id + 1))
        return [write(session, statements.SETTLE, one) for one in asked]

    assert ledger.write(both) == [1, 0]
