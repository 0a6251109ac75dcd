"""A simulated world that reports are made of, and how one is asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from cost_models.budgets import Budget, Period
from cost_models.money import NANO_PER_USD
from policies.synthetic import World
from router.reports.document import report_document
from router.reports.periods import named_period
from router.reports.reading import Material, ReportQuestion, read_material

if TYPE_CHECKING:
    from storage.store import Ledger

WORLD = World(date(2026, 8, 16), days=33, requests_per_day=150, seed=5, epsilon=0.4)
LIMIT_USD = 6
AS_OF = datetime(2026, 9, 18, tzinfo=UTC)
BUDGET = Budget("organisation", Period.MONTH, LIMIT_USD * NANO_PER_USD)


def question(name: str = "2026-09", as_of: datetime = AS_OF) -> ReportQuestion:
    """Ask for a period in UTC, as it stood on the morning of 18 September."""
    period = named_period(name, UTC, AS_OF)
    before = period.earlier(UTC)
    earlier = (before.since, before.end)
    return ReportQuestion(period, as_of, earlier, target=0.6, prices=WORLD.prices)


def material_of(ledger: Ledger, asked: ReportQuestion | None = None) -> Material:
    """Read the material of a report."""
    told = asked or question()
    return ledger.read(lambda session: read_material(session, told))


def document_of(ledger: Ledger, asked: ReportQuestion | None = None) -> dict[str, Any]:
    """Give the document of a report."""
    return report_document(material_of(ledger, asked))
