"""Money owed: exact Decimal USD in code, whole nano-USD where it is stored.

One nano-USD is 1e-9 USD. Amounts are rounded up once, when they are written, so that a sum of
stored amounts is never below the exact sum.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

NANO_PER_USD = 1_000_000_000


def to_nano_usd(usd: Decimal) -> int:
    """Whole nano-USD for an exact amount in USD, rounded up; ValueError below zero."""
    if not usd.is_finite() or usd < 0:
        msg = f"an amount of money must be finite and at least 0, got {usd}"
        raise ValueError(msg)
    return int((usd * NANO_PER_USD).to_integral_value(rounding=ROUND_CEILING))


def to_usd(nano_usd: int) -> Decimal:
    """Exact USD for whole nano-USD."""
    return Decimal(nano_usd) / NANO_PER_USD


def format_usd(nano_usd: int, places: int = 6) -> str:
    """``$0.000123``: for people; ``places`` digits after the point, rounded half even."""
    return f"${to_usd(nano_usd):,.{places}f}"
