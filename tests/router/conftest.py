"""Ledgers that reports are made of, one simulated and one empty, and their reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from made_reports import BUDGET, WORLD, document_of

from router.cli.build import open_database
from router.jobs.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.store import Ledger


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Simulate thirty-three days: the end of August, and the first half of September."""
    ledger = open_database(f"sqlite:///{tmp_path_factory.mktemp('reports') / 'made.db'}")
    simulate(ledger, WORLD)
    ledger.declare_budgets([BUDGET])
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Give a ledger that nobody used."""
    ledger = open_database(f"sqlite:///{tmp_path_factory.mktemp('reports') / 'empty.db'}")
    ledger.declare_budgets([BUDGET])
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def september(made: Ledger) -> dict[str, Any]:
    """Give the report of a month that goes on."""
    return document_of(made)


@pytest.fixture(scope="session")
def nothing(empty: Ledger) -> dict[str, Any]:
    """Give the report of an empty ledger."""
    return document_of(empty)
