"""The door to the database: engines for SQLite and PostgreSQL, schema changes, vendor errors.

Whatever the database raises leaves here as a `storage.errors.LedgerError`, with the vendor's
error as its cause.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from storage.errors import (
    LedgerBusyError,
    LedgerConflictError,
    LedgerError,
    LedgerUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

JITTER = SystemRandom()
READ_ONLY = "rheostat_read_only"
"""Execution option: the transaction only reads, so on SQLite it need not take the write lock."""

VERSION_TABLE = "ledger_version"
"""Apart from alembic's own name, which Optuna's tables in the same database use."""

VERSIONS = Path(__file__).parent / "migrations" / "versions"
POOL_SIZE = 10
WAIT_S = 10.0
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 60
SQLITE_PRIMARY_CODE = 0xFF
WAL_RETRY_S = 0.02
LOCK_RETRY_S = 0.001
"""Pause between tries at SQLite's write lock; half to three halves of it, so that two that wait
do not keep step."""

SQLITE_ADVICE: dict[int, tuple[type[LedgerError], str]] = {
    sqlite3.SQLITE_BUSY: (LedgerBusyError, "another process keeps it locked; try again"),
    sqlite3.SQLITE_LOCKED: (LedgerBusyError, "another process keeps it locked; try again"),
    sqlite3.SQLITE_NOTADB: (
        LedgerError,
        "the file is not a ledger; point `ledger` at another file, or restore a backup",
    ),
    sqlite3.SQLITE_CORRUPT: (LedgerError, "the file is damaged; restore it from a backup"),
    sqlite3.SQLITE_READONLY: (LedgerUnavailableError, "allow writing to the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        LedgerUnavailableError,
        "check that the path is right and its folder may be written",
    ),
    sqlite3.SQLITE_FULL: (LedgerUnavailableError, "the disk is full; make room"),
    sqlite3.SQLITE_IOERR: (LedgerUnavailableError, "the disk failed; check it, then try again"),
}

POSTGRES_ADVICE: dict[str, tuple[type[LedgerError], str]] = {
    "40001": (LedgerConflictError, "another transaction was in the way; try again"),
    "40P01": (LedgerConflictError, "another transaction was in the way; try again"),
    "55P03": (LedgerBusyError, "another transaction holds a lock for too long; try again"),
    "57014": (LedgerUnavailableError, "a statement took too long; look at the server's load"),
    "53100": (LedgerUnavailableError, "the server's disk is full; make room"),
    "53300": (LedgerUnavailableError, "the server has no connection left; raise max_connections"),
    "57P01": (LedgerUnavailableError, "the server is shutting down; start it, then try again"),
    "57P03": (LedgerUnavailableError, "the server is starting up; try again"),
    "25006": (LedgerUnavailableError, "the server is read-only; point `ledger` at the primary"),
    "28P01": (LedgerError, "the server refuses the password; check `ledger` in the config"),
    "28000": (LedgerError, "the server refuses the user; check `ledger` in the config"),
    "3D000": (LedgerError, "there is no such database; create it with `createdb`"),
    "42501": (LedgerError, "the user lacks rights; grant it all on the schema"),
}


def create_ledger_engine(url: str, *, pool_size: int = POOL_SIZE, wait_s: float = WAIT_S) -> Engine:
    """Make the engine for ``sqlite:///FILE`` or ``postgresql+psycopg://...``; connects to nothing.

    At most ``pool_size`` connections are open at once. A transaction waits up to ``wait_s`` for a
    connection or a lock, then ends in LedgerBusyError. Raises LedgerError for a URL that is
    malformed, of another database, or in a folder that is missing.
    """
    try:
        parsed = make_url(url)
        build = BACKENDS[parsed.get_backend_name()]
        return build(parsed, pool_size, wait_s)
    except (ArgumentError, NoSuchModuleError, KeyError) as error:
        msg = "`ledger` must be sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
        raise LedgerError(msg) from error


def _sqlite_engine(url: URL, pool_size: int, wait_s: float) -> Engine:
    if not url.database or url.database == ":memory:":
        msg = "a ledger in memory would be lost at exit; give a file, as in sqlite:///rheostat.db"
        raise LedgerError(msg)
    path = Path(url.database)
    if not path.parent.is_dir():
        msg = f"the ledger's folder {str(path.parent)!r} does not exist; create it"
        raise LedgerUnavailableError(msg)
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=wait_s,
        connect_args={"timeout": wait_s, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        _switch_to_wal(cursor.execute, time.monotonic() + wait_s)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(READ_ONLY, False):
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_write(connection, wait_s)

    _translate_errors(engine)
    return engine


def _begin_write(connection: Connection, wait_s: float) -> None:
    """Take SQLite's write lock within ``wait_s``.

    SQLite itself asks for the lock every 100 ms once it has waited for a while. Beside processes
    that write one transaction after the other it may then ask in vain until its time is over, so
    here it is asked for as often from the first try to the last.
    """
    until_s = time.monotonic() + wait_s
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < until_s:
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _sqlite_code(error) != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(LOCK_RETRY_S * JITTER.uniform(0.5, 1.5))
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the last try, whose error is translated
    finally:
        cursor.execute(f"PRAGMA busy_timeout={int(wait_s * 1000)}")
        cursor.close()


def _postgresql_engine(url: URL, pool_size: int, wait_s: float) -> Engine:
    options = {
        "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT_S}s",
        "lock_timeout": f"{int(wait_s * 1000)}ms",
        "timezone": "UTC",
    }
    try:
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=wait_s,
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "rheostat",
                "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
            },
        )
    except ModuleNotFoundError as error:
        msg = "PostgreSQL needs a driver: pip install 'rheostat[postgres]'"
        raise LedgerError(msg) from error
    _translate_errors(engine)
    return engine


BACKENDS = {"sqlite": _sqlite_engine, "postgresql": _postgresql_engine}


def migrate(engine: Engine) -> None:
    """Bring the schema to what this code knows; does nothing when it is there already.

    Safe when several processes start at once: one changes the schema, the others wait for it.
    All or nothing. Raises LedgerSchemaError for tables that are newer or another program's.
    """
    if schema_of(engine) != newest_schema():
        from storage.migrating import upgrade  # noqa: PLC0415 - alembic, only where there is a change

        upgrade(engine)


def schema_of(engine: Engine) -> str | None:
    """Read which schema a database has; None for none of ours."""
    with engine.execution_options(**{READ_ONLY: True}).connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - our own name


def newest_schema() -> str:
    """Name the schema that this code knows, by the file of its last change."""
    return max(path.name[1:5] for path in VERSIONS.glob("v[0-9]*.py"))


def _switch_to_wal(execute: Callable[[str], object], deadline: float) -> None:
    """Set the write-ahead log; several processes that make one new file take turns at it."""
    while True:
        try:
            execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if _sqlite_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(WAL_RETRY_S)
        else:
            return


def _translate_errors(engine: Engine) -> None:
    where = location(engine.url)

    @event.listens_for(engine, "handle_error", retval=True)
    def translate(context: ExceptionContext) -> LedgerError | None:
        if not isinstance(context.sqlalchemy_exception, DBAPIError):
            return None
        error = context.original_exception
        kind, advice = _advice(error, disconnected=context.is_disconnect)
        return kind(f"the ledger {where} failed: {str(error).strip()}; {advice}")


def _advice(error: BaseException, *, disconnected: bool) -> tuple[type[LedgerError], str]:
    if isinstance(error, sqlite3.Error):
        known = SQLITE_ADVICE.get(_sqlite_code(error))
    else:
        state = getattr(error, "sqlstate", None)
        known = POSTGRES_ADVICE.get(state or "")
        if known is None and (disconnected or state is None):
            return LedgerUnavailableError, "check that the server runs and can be reached"
    return known or (LedgerError, "this is a defect, or the ledger was changed by hand")


def _sqlite_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & SQLITE_PRIMARY_CODE


def location(url: URL) -> str:
    """Say which database it is, without its password."""
    return url.render_as_string(hide_password=True)
