"""What a correct answer costs, and what one more would: ratios, with intervals that can be open."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import ndtri

from cost_models.accuracy import COVERAGE, Estimate, GradeSums, accuracy
from cost_models.money import NANO_PER_USD

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """An action's mean USD a question and its accuracy, each with its standard error."""

    name: str
    cost_usd: float
    cost_error: float
    accuracy: float
    accuracy_error: float
    n: int


@dataclass(frozen=True, slots=True)
class Step:
    """From one action of the frontier to the next dearer one: USD for each more right answer.

    The interval is open (infinite) where the gain in accuracy is not told from none.
    """

    start: str
    end: str
    usd_per_correct: Estimate


def cost_per_correct(cost_nano_usd: int, n_answers: int, grades: GradeSums) -> Estimate | None:
    """USD of one right answer: all that was spent over ``n_answers`` times their accuracy.

    ``cost_nano_usd`` is everything that the answers cost, failures, discarded samples and judges
    too, and is known; only the accuracy is estimated, so the interval is its interval turned over.
    None with too few grades, without an answer, or where nothing was right.
    """
    found = accuracy(grades)
    if found is None or n_answers < 1 or found.value <= 0:
        return None
    each = cost_nano_usd / NANO_PER_USD / n_answers
    high = each / found.low if found.low > 0 else math.inf
    return Estimate(each / found.value, each / found.high, high, found.n)


def fieller(  # noqa: PLR0913, PLR0917 - two means and how they vary
    over: float, under: float, over_var: float, under_var: float, covariance: float, n: int
) -> Estimate:
    """Ratio of two means with Fieller's interval (1954, J. R. Stat. Soc. B 16, 175).

    Holds where the lower mean is uncertain too. The whole line where that is not told from 0: then
    the data do not bound the ratio.
    """
    z2 = float(ndtri((1.0 + COVERAGE) / 2.0)) ** 2
    a = under * under - z2 * under_var
    value = over / under if under else math.nan
    if a <= 0:
        return Estimate(value, -math.inf, math.inf, n)
    b = over * under - z2 * covariance
    c = over * over - z2 * over_var
    reach = math.sqrt(max(0.0, b * b - a * c))
    return Estimate(value, (b - reach) / a, (b + reach) / a, n)


def frontier(points: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    """Give the actions that no mix of others beats, cheapest first: the upper convex hull."""
    hull: list[FrontierPoint] = []
    for point in sorted(points, key=lambda p: (p.cost_usd, -p.accuracy)):
        if hull and point.accuracy <= hull[-1].accuracy:
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-2], point):
            hull.pop()
        hull.append(point)
    return hull


def marginal_costs(points: Sequence[FrontierPoint]) -> list[Step]:
    """USD per extra right answer along the frontier of independently measured actions.

    An action whose accuracy is not told from that of the step's start is passed over, unless it is
    the last one.
    """
    hull = frontier(points)
    steps: list[Step] = []
    start = 0
    for i in range(1, len(hull)):
        step = _step(hull[start], hull[i])
        if math.isfinite(step.usd_per_correct.high) or i == len(hull) - 1:
            steps.append(step)
            start = i
    return steps


def _step(start: FrontierPoint, end: FrontierPoint) -> Step:
    ratio = fieller(
        end.cost_usd - start.cost_usd,
        end.accuracy - start.accuracy,
        end.cost_error**2 + start.cost_error**2,
        end.accuracy_error**2 + start.accuracy_error**2,
        0.0,
        min(start.n, end.n),
    )
    return Step(start.name, end.name, ratio)


def _gain(start: FrontierPoint, end: FrontierPoint) -> float:
    rise = end.cost_usd - start.cost_usd
    return (end.accuracy - start.accuracy) / rise if rise > 0 else math.inf
