"""Days on which a series of spend left its habit, by enough money and by enough of a share.

A day is held against the median of the days before it, weekends apart, in robust standard
deviations of the logarithm (1.4826 times the median absolute deviation; Leys et al. 2013). Of what
stands out only what also exceeds an absolute and a relative floor is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEEK = 7
LOOK_BACK = 21
LEAST_BACK = 10
THRESHOLD = 4.0
MAD_TO_SD = 1.4826
LEAST_SD = 0.08
"""In logs: what moves by less than that in a usual day is not held to be steadier."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A day (its number), what was spent and expected in USD, and how unusual that is."""

    day: int
    spent_usd: float
    expected_usd: float
    score: float

    @property
    def impact_usd(self) -> float:
        """What was spent more than expected, below 0 for less."""
        return self.spent_usd - self.expected_usd

    @property
    def impact_share(self) -> float:
        """The same as a share of what was expected."""
        return self.impact_usd / self.expected_usd


def anomalies(
    daily_usd: NDArray[np.float64],
    first_weekday: int,
    *,
    at_least_usd: float = 1.0,
    at_least_share: float = 0.3,
) -> list[Anomaly]:
    """Find the days of a series of shape (n_days,) that stand out, up or down, in order.

    Days come one after the other, the first on ``first_weekday`` (0 is Monday). The first
    `LEAST_BACK` days are never told of: there is no habit yet.
    """
    n = len(daily_usd)
    floor = max(1e-9, float(daily_usd.max(initial=0.0)) * 1e-3)
    logs = np.log(np.maximum(daily_usd, floor))
    weekday = (first_weekday + np.arange(n)) % WEEK
    weekend = weekday >= 5  # noqa: PLR2004 - Saturday
    found = []
    for day in range(LEAST_BACK, n):
        back = slice(max(0, day - LOOK_BACK), day)
        same = logs[back][weekend[back] == weekend[day]]
        if len(same) < 3:  # noqa: PLR2004 - a middle and something on either side
            continue
        middle = float(np.median(same))
        spread = max(LEAST_SD, MAD_TO_SD * float(np.median(np.abs(same - middle))))
        seen = Anomaly(
            day,
            float(daily_usd[day]),
            float(np.exp(middle)),
            float(logs[day] - middle) / spread,
        )
        big = abs(seen.impact_usd) >= at_least_usd and abs(seen.impact_share) >= at_least_share
        if big and abs(seen.score) >= THRESHOLD:
            found.append(seen)
    return found
