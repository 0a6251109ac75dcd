"""The report as a print: the page, laid out on A4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.reports.errors import ExtraNeededError, ReportError
from router.reports.page import report_page

if TYPE_CHECKING:
    from collections.abc import Mapping


def report_pdf(document: Mapping[str, Any]) -> bytes:
    """Give a report as PDF; ReportError names the extra, or what the system lacks."""
    try:
        from weasyprint import HTML  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        msg = "prints"
        raise ExtraNeededError(msg, "pdf") from error
    except OSError as error:
        msg = (
            f"prints need the library Pango of the system ({error}); install it, or print the "
            "HTML report from a browser"
        )
        raise ReportError(msg) from error
    identifier = document["header"]["snapshot"].encode()
    printed = HTML(string=report_page(document, for_print=True), url_fetcher=_refused)
    return bytes(printed.write_pdf(pdf_identifier=identifier))


def _refused(url: str) -> dict[str, Any]:
    msg = f"a report loads nothing, and this one asked for {url}"
    raise ReportError(msg)
