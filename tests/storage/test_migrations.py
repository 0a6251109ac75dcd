"""Schema changes: every released schema, with data in it, becomes the present one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, func, insert, inspect, select

from cost_models.budgets import EPOCH
from storage.engine import (
    VERSION_TABLE,
    create_ledger_engine,
    migrate,
    newest_schema,
    schema_of,
)
from storage.ledger import SettleEntry
from storage.models import Base
from storage.reports import totals
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.ledger import Call, OpenEntry

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def migrate_to(engine: Engine, revision: str) -> None:
    """Bring a database to an old schema."""
    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    config.attributes["version_table"] = VERSION_TABLE
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


ROWS: dict[str, list[dict[str, Any]]] = {
    "replicas": [
        {
            "id": "r1",
            "host": "h",
            "pid": 1,
            "started": "",
            "registered_at": NOW,
            "heartbeat_at": NOW,
        }
    ],
    "budgets": [
        {
            "scope": "organisation",
            "period": "total",
            "limit_nano_usd": 100,
            "time_zone": "UTC",
            "active": True,
        }
    ],
    "requests": [
        {
            "id": "q1",
            "tenant": "default",
            "model_asked": "auto",
            "answer_kind": "text",
            "query_sha256": "0" * 64,
            "query_text": "what?",
            "received_at": NOW,
        }
    ],
    "budget_windows": [
        {
            "budget_id": 1,
            "window_start": EPOCH,
            "spent_nano_usd": 0,
            "held_nano_usd": 60,
            "overshoot_nano_usd": 0,
            "highest_limit_nano_usd": 100,
        }
    ],
    "entries": [
        {
            "request_id": "q1",
            "attempt": 0,
            "replica_id": "r1",
            "model": "small",
            "strategy": "direct",
            "propensity": 1.0,
            "policy_version": "p1",
            "reason": "",
            "held_nano_usd": 60,
            "status": "open",
            "started_at": NOW,
        }
    ],
    "holds": [
        {"entry_id": 1, "budget_id": 1, "window_start": EPOCH, "amount_nano_usd": 60},
    ],
}
"""An open entry of 60 in a budget of 100, as the first schema had it."""


def test_the_first_schema_with_data_becomes_the_present_one(
    empty_url: str,
    opening: Callable[..., OpenEntry],
    call: Callable[..., Call],
) -> None:
    """Nothing is lost, and what was open is settled by the new code."""
    engine = create_ledger_engine(empty_url)
    migrate_to(engine, "0001")
    old = MetaData()
    old.reflect(engine)
    with engine.begin() as connection:
        for table, rows in ROWS.items():
            connection.execute(insert(old.tables[table]), rows)
    migrate(engine)
    with engine.connect() as connection:
        for table, rows in ROWS.items():
            kept = connection.scalar(select(func.count()).select_from(old.tables[table]))
            assert kept == len(rows), table
    ledger = Ledger(engine)
    assert ledger.examine() == []
    ledger.settle(SettleEntry(1, (call(10),), latency_s=1), NOW + timedelta(seconds=1))
    assert ledger.open(opening("q2", 90), NOW)
    (status,) = ledger.budget_status(NOW)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (10, 90)
    assert ledger.read(totals).n_entries == 2
    assert ledger.examine() == []
    ledger.close()


def test_the_migrations_make_what_the_models_describe(empty_url: str) -> None:
    """Tables, columns, and which of them may be empty."""
    engine = create_ledger_engine(empty_url)
    migrate(engine)
    found = inspect(engine)
    assert set(found.get_table_names()) == {*Base.metadata.tables, VERSION_TABLE}
    for table in Base.metadata.sorted_tables:
        columns = {c["name"]: c["nullable"] for c in found.get_columns(table.name)}
        assert columns == {c.name: c.nullable for c in table.columns}, table.name
        indexes = {str(index["name"]) for index in found.get_indexes(table.name)}
        assert {str(index.name) for index in table.indexes} <= indexes, table.name
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert context.get_current_revision() is not None
    engine.dispose()


def test_the_newest_schema_is_known_without_alembic(empty_url: str) -> None:
    """The files' numbers are the revisions: a start with nothing to change loads no alembic."""
    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == newest_schema()
    engine = create_ledger_engine(empty_url)
    assert schema_of(engine) is None
    migrate(engine)
    assert schema_of(engine) == newest_schema()
    engine.dispose()
