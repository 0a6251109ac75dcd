"""Text in CSV cells that a spreadsheet must not run as a formula.

A cell that begins like a formula gets an apostrophe before it, which a spreadsheet takes for "this
is text" (OWASP, CSV injection). So does one that has the apostrophe already, so that it can be told
which ones to take away again: what is read is what was written.
"""

from __future__ import annotations

import re

FORMULA = re.compile(r"'* *[=+\-@\t\r\n]")
"""How a cell begins that needs one more apostrophe."""


def safe_cell(text: str) -> str:
    """Give a text as it is put into a cell."""
    return f"'{text}" if FORMULA.match(text) else text


def plain_cell(cell: str) -> str:
    """Give the text of a cell that `safe_cell` made; any other cell is its own text."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
