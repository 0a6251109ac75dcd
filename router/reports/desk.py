"""What the planning notebooks share: a ledger to read, and figures shown as tables and charts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from router.reports import charts, plan_charts
from router.reports.errors import ReportError
from storage.engine import create_ledger_engine, migrate
from storage.marks import hour_of
from storage.models import IMPORTED, EntryRow
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

HOW = (
    "point ledger_url at one, or make one up: "
    "rheostat simulate --days 45 --requests-per-day 400 --ledger sqlite:///simulated.db"
)


def open_desk(url: str) -> tuple[Ledger, datetime]:
    """Open a ledger, and give the hour after its last entry: the "now" of its figures.

    ReportError where it has no entry, with how to make one up.
    """
    engine = create_ledger_engine(url)
    migrate(engine)
    ledger = Ledger(engine)
    last = ledger.read(
        lambda session: session.scalar(
            select(func.max(EntryRow.started_at)).where(EntryRow.replica_id != IMPORTED)
        )
    )
    if last is None:
        ledger.close()
        msg = f"the ledger has no entry to plan from; {HOW}"
        raise ReportError(msg)
    return ledger, hour_of(last) + timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under their names: Markdown for a notebook, aligned text for a terminal."""

    names: Sequence[str]
    rows: Sequence[Sequence[object]]

    def _repr_markdown_(self) -> str:
        lines = [self.names, ["---"] * len(self.names), *self.rows]
        return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)

    def __str__(self) -> str:
        lines = [[str(cell) for cell in line] for line in (self.names, *self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.names))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its description, for those who cannot see it."""

    svg: str
    description: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.description


def chart(name: str, data: Mapping[str, Any]) -> Chart:
    """Draw a chart of the report or of planning; ``data`` has its title and description."""
    if name in charts.CHARTS:
        svg = charts.draw(name, data, literal=True)
    else:
        svg = plan_charts.draw_plan(name, data)
    return Chart(svg, data["description"])


def _plain(cell: object) -> str:
    return escape(str(cell), quote=False).replace("|", "\\|")
