"""Tuning studies in the ledger's database, in tables of Optuna's own.

Optuna's schema has a version table of its own name, and none of its tables has the name of one of
ours, so neither disturbs the changes that the other makes to its schema.
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from storage.engine import CONNECT_TIMEOUT_S, create_ledger_engine
from storage.errors import LedgerSchemaError, LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

HEARTBEAT_S = 10
GRACE_S = 60
WAIT_S = 60.0
ATTEMPTS = 8
RETRY_S = 0.25


@contextmanager
def open_studies(url: str) -> Iterator[RDBStorage]:
    """Open the studies in the database of a ledger, or in one without a ledger.

    A trial whose process has not been heard of for ``GRACE_S`` seconds counts as failed. Raises
    LedgerError for a URL that cannot be used, LedgerSchemaError for tables of another Optuna.
    """
    probe = create_ledger_engine(url)
    with probe.connect():  # tells what is wrong, and switches SQLite to its write-ahead log
        pass
    probe.dispose()
    storage = _patiently(url)
    if storage.engine.dialect.name == "sqlite":
        # Reading first and writing later in one transaction fails at once where another process
        # wrote in between; taking the lock at the start makes it wait its turn.
        @event.listens_for(storage.engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        # A power cut may cost the last trial, a kill costs nothing; the ledger's own stay as safe.
        @event.listens_for(storage.engine, "connect")
        def set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
            connection.cursor().execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()

    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        msg = f"the tuning study cannot be kept in {_shown(url)}: {error}; try again"
        raise LedgerUnavailableError(msg) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _patiently(url: str) -> RDBStorage:
    """Make the tables where they are missing; of several processes that do so all but one retry."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _opened(url)
        except (SQLAlchemyError, StorageInternalError) as error:
            if attempt == ATTEMPTS:
                msg = f"no tuning study can be kept in {_shown(url)}: {error}"
                raise LedgerUnavailableError(msg) from error
            time.sleep(RETRY_S)
        except RuntimeError as error:
            msg = f"the tuning studies in {_shown(url)} do not fit this Optuna: {error}"
            raise LedgerSchemaError(msg) from error
    raise AssertionError


def _opened(url: str) -> RDBStorage:
    parsed = make_url(url)
    options: dict[str, Any] = {"timeout": WAIT_S, "isolation_level": None}
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        options = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "rheostat study"}
    # Optuna takes the URL for a format string.
    text = parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            text,
            engine_kwargs={"pool_pre_ping": True, "connect_args": options},
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
        )


def _shown(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)
