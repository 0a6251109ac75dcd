"""A PostgreSQL server of our own, for the tests that must hold on both kinds of database."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

import storage
from storage.engine import create_ledger_engine, migrate

CONTENDER = Path(__file__).parent / "storage" / "contender.py"
ROOT = Path(storage.__file__).parents[1]
TEMPLATE = "rheostat_template"


class Postgres:
    """A PostgreSQL server that hands out databases with the schema in place."""

    def __init__(self, uri: str) -> None:
        self._url = make_url(uri).set(drivername="postgresql+psycopg")
        self._names = (f"ledger_{i}" for i in count())
        self._run(f"CREATE DATABASE {TEMPLATE}")
        engine = create_ledger_engine(self.url(TEMPLATE))
        migrate(engine)
        engine.dispose()

    def url(self, database: str) -> str:
        """Give the URL of one database."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    def new_database(self, *, template: str = TEMPLATE) -> str:
        """Make a database and give its URL."""
        name = next(self._names)
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def _run(self, statement: str) -> None:
        engine = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


def contender(*arguments: str) -> subprocess.Popen[str]:
    """Start another process on a ledger."""
    return subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, str(CONTENDER), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
