"""Changes of the schema, by alembic: loaded only where there is one to make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from storage.engine import VERSION_TABLE, location
from storage.errors import LedgerSchemaError
from storage.models import Base

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

MIGRATION_LOCK = 0x5265_6F73
"""Key of the PostgreSQL advisory lock under which one process at a time changes the schema."""


def upgrade(engine: Engine) -> None:
    """Bring the schema to what this code knows, as `storage.engine.migrate` says."""
    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    config.attributes["version_table"] = VERSION_TABLE
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        current = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE}
        ).get_current_revision()
        if current == script.get_current_head():
            return
        _check_usable(connection, current, {step.revision for step in script.walk_revisions()})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _check_usable(connection: Connection, current: str | None, known: set[str]) -> None:
    where = location(connection.engine.url)
    if current is not None and current not in known:
        msg = (
            f"the ledger {where} has schema {current}, this version knows up to {max(known)}; "
            "it was written by a newer Rheostat: upgrade this one"
        )
        raise LedgerSchemaError(msg)
    foreign = set(inspect(connection).get_table_names()) & set(Base.metadata.tables)
    if current is None and foreign:
        msg = (
            f"the database {where} has tables of the same name that are not a ledger's "
            f"({', '.join(sorted(foreign))}); point `ledger` at another database"
        )
        raise LedgerSchemaError(msg)
