"""How figures are written for people: money, shares and intervals, the same on every surface."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NANO = 1e9
UNKNOWN = "not known"
SIGNIFICANT = 4


def money(usd: float | None) -> str:
    """``$1,234.50``; below a dollar four significant digits; what is not known says so."""
    if usd is None or not math.isfinite(usd):
        return UNKNOWN
    sign, size = ("-" if usd < 0 else ""), abs(usd)
    if size >= 1 or size == 0:
        return f"{sign}${size:,.2f}"
    places = min(12, SIGNIFICANT - 1 - math.floor(math.log10(size)))
    short = f"{size:.{places}f}".rstrip("0")
    whole, _, rest = short.partition(".")
    return f"{sign}${whole}.{rest:0<2}"


def signed(usd: float) -> str:
    """``+$3.10`` or ``-$3.10``."""
    return money(usd) if usd < 0 else f"+{money(usd)}"


def nano(amount: int | None) -> str:
    """Write whole nano-USD as money."""
    return money(None if amount is None else amount / NANO)


def percent(share: float | None, places: int = 1) -> str:
    """``12.3%``; what is not known says so."""
    return UNKNOWN if share is None else f"{100 * share:.{places}f}%"


def points(difference: float) -> str:
    """Write a difference of two shares: ``-1.2 points``."""
    return f"{100 * difference:+.1f} points"


def money_range(estimate: Mapping[str, Any]) -> str:
    """``$1.00 to $2.00``, of a 95 % interval that may be open."""
    low, high = estimate["low"], estimate["high"]
    if low is None and high is None:
        return "not bounded by the data"
    if high is None:
        return f"at least {money(low)}"
    return f"at most {money(high)}" if low is None else f"{money(low)} to {money(high)}"


def share_range(estimate: Mapping[str, Any]) -> str:
    """``62.6% to 68.5%``."""
    return f"{percent(estimate['low'])} to {percent(estimate['high'])}"


def count(n: int, one: str, many: str | None = None) -> str:
    """``1 answer``, ``1,234 answers``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
