"""The report as one page: a pure rendering of its document, with nothing to run or to load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.reports.charts import draw
from router.reports.errors import ExtraNeededError
from router.reports.words import money, money_range, nano, percent, share_range, signed

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent / "templates"
NANO = 1e9


def report_page(document: Mapping[str, Any], *, for_print: bool = False) -> str:
    """Give a report as one HTML file; ReportError where the extra ``report`` is missing.

    With ``for_print`` colours are literal and tables of data stay out: for a maker of PDF.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - an extra
        from markupsafe import Markup  # noqa: PLC0415 - comes with it
    except ModuleNotFoundError as error:
        msg = "pages"
        raise ExtraNeededError(msg, "report") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        money=money,
        nano=nano,
        percent=percent,
        signed_nano=lambda amount: signed(amount / NANO),
        money_range=money_range,
        share_range=share_range,
    )
    drawn = {
        name: Markup(draw(name, data, literal=for_print))  # noqa: S704 - written by the drawing
        for name, data in document["charts"].items()
        if data["empty"] is None
    }
    style = Markup((TEMPLATES / "report.css").read_text("utf-8"))  # noqa: S704 - shipped
    page = environment.get_template("report.html.j2")
    return page.render(report=document, charts=drawn, style=style, for_print=for_print)
