"""A budget over its window: what was to be spent by now, and where spending leads by the end."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from cost_models.budgets import Window

HOURS_PER_DAY = 24
HOUR = timedelta(hours=1)
LEAST_ELAPSED = 0.1
"""Share of a plan before which nothing is projected: the first minutes say little."""

LEAST_SPENT = 0.2
"""Share of a limit below which nothing is projected: so little may be a few dear requests."""


def planned_share(
    window: Window, now: datetime, tz: tzinfo, hours: tuple[float, ...] | None = None
) -> float:
    """Share of a window's limit, in [0, 1], that is planned to be spent at ``now``.

    ``hours`` are 24 weights >= 0, not all of them 0, of the hours of a day in ``tz``; None spreads
    evenly over time. ValueError for a window that never ends: there is nothing to plan.
    """
    start, end = window
    if end is None:
        msg = "a budget that never ends has no plan; give it a period of day, week or month"
        raise ValueError(msg)
    at = min(max(now, start), end) - start
    if hours is None:
        return at / (end - start)
    sums = _sums(start, end, tz, hours)
    n_whole, rest = divmod(at, HOUR)
    before = sums[n_whole]
    begun = sums[min(n_whole + 1, len(sums) - 1)] - before
    length = min(HOUR, end - start - n_whole * HOUR)
    return (before + begun * (rest / length if length else 0.0)) / sums[-1]


def projected(spent_nano_usd: int, limit_nano_usd: int, planned: float) -> int | None:
    """Project what will be spent when the window ends, in nano-USD; None where it is too early.

    Spending so far goes on as the plan does: spent by ``planned``, the share in [0, 1] of it that
    is over. Nothing is projected before a tenth of the plan, or with less than a fifth spent.
    """
    if planned < LEAST_ELAPSED or spent_nano_usd < LEAST_SPENT * limit_nano_usd:
        return None
    return int(spent_nano_usd / planned)


@lru_cache(maxsize=64)
def _sums(
    start: datetime, end: datetime, tz: tzinfo, hours: tuple[float, ...]
) -> tuple[float, ...]:
    """Give the weight of the time before each hour of a window, and of the whole."""
    n = -((start - end) // HOUR)
    steps = [start + i * HOUR for i in range(n)]
    weights = (hours[at.astimezone(tz).hour] * (min(HOUR, end - at) / HOUR) for at in steps)
    return tuple(accumulate(weights, initial=0.0))
