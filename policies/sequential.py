"""Intervals for a mean that hold at every look at once: an experiment may be watched and stopped.

Of values in [0, 1] the empirical-Bernstein confidence sequence with predictable plug-in
(Waudby-Smith and Ramdas 2024, arXiv:2010.09686, theorem 2); of others, such as costs, the
asymptotic one (Waudby-Smith et al. 2024, arXiv:2103.06476, theorem 2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_BET = 0.5
FEWEST = 30
"""Below this many values without bounds nothing is said of their mean."""
TIGHTEST_AT = 500
"""Number of values at which the asymptotic sequence is narrowest for its kind."""

Interval = tuple[float, float]


def bounded_mean(values: NDArray[np.float64], delta: float) -> Interval:
    """Bound the mean of ``values`` in [0, 1], shape (n,), in the order in which they came.

    At all n together it is missed with chance at most ``delta`` in (0, 1): whatever was excluded
    at an earlier n stays so.
    """
    n = len(values)
    if not n:
        return 0.0, 1.0
    t = np.arange(1, n + 1)
    mean = (0.5 + values.cumsum()) / (t + 1.0)
    variance = (0.25 + ((values - mean) ** 2).cumsum()) / (t + 1.0)
    before_mean = np.concatenate([[0.5], mean[:-1]])
    before_variance = np.concatenate([[0.25], variance[:-1]])
    log = np.log(2.0 / delta)
    bet = np.minimum(np.sqrt(2.0 * log / (before_variance * t * np.log1p(t))), LARGEST_BET)
    spread = (values - before_mean) ** 2 * (-np.log1p(-bet) - bet)
    total = bet.cumsum()
    centre = (bet * values).cumsum() / total
    reach = (log + spread.cumsum()) / total
    return max(0.0, float((centre - reach).max())), min(1.0, float((centre + reach).min()))


def unbounded_mean(values: NDArray[np.float64], delta: float) -> Interval:
    """Bound the mean of ``values`` of any size, shape (n,); infinite for fewer than 30.

    It holds at all n together as far as means are nearly normal.
    """
    n = len(values)
    if n < FEWEST:
        return -np.inf, np.inf
    log = -2.0 * np.log(delta)
    rho = (log + np.log(log + 1.0)) / TIGHTEST_AT
    scale = n * rho + 1.0
    reach = np.sqrt(2.0 * scale / (n * n * rho) * np.log(np.sqrt(scale) / delta))
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    return mean - spread * float(reach), mean + spread * float(reach)
