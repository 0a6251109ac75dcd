"""What accuracy a budget buys: points of a frontier, and what lies between them.

Between two points lies their mixture: a share of the queries by one, the rest by the other. So
what can be had is the concave envelope of the points, and the next dollar never buys more than
the last one did.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One way to serve: mean USD of a query, and the share of right answers in [0, 1].

    ``low`` is a lower bound of that share, the share itself where none is known.
    """

    cost_usd: float
    accuracy: float
    low: float | None = None

    def __post_init__(self) -> None:
        bound = self.accuracy if self.low is None else self.low
        if not 0.0 <= bound <= self.accuracy <= 1.0 or not 0.0 <= self.cost_usd < float("inf"):
            msg = f"a point has a cost of at least 0 and 0 <= low <= accuracy <= 1, got {self}"
            raise ValueError(msg)

    @property
    def bound(self) -> float:
        """The lower bound."""
        return self.accuracy if self.low is None else self.low


@dataclass(frozen=True, slots=True)
class Step:
    """From one corner of the envelope to the next: what it costs and buys, per query."""

    cost_usd: float
    accuracy: float

    @property
    def usd_per_right(self) -> float:
        """What one more right answer costs on this step."""
        return self.cost_usd / self.accuracy


@dataclass(frozen=True, slots=True)
class BudgetCurve:
    """Accuracy against mean cost of a query; make one with `of`.

    ``corners`` are those of the upper concave envelope, from the cheapest to the most accurate.
    """

    corners: tuple[Point, ...]

    @classmethod
    def of(cls, points: Iterable[Point]) -> BudgetCurve:
        """Take the envelope; ValueError without a point."""
        best: list[Point] = []
        for point in sorted(points, key=lambda p: (p.cost_usd, -p.accuracy)):
            if best and point.accuracy <= best[-1].accuracy:
                continue
            while len(best) > 1 and _slope(best[-2], best[-1]) <= _slope(best[-1], point):
                best.pop()
            best.append(point)
        if not best:
            msg = "a budget curve needs at least one point"
            raise ValueError(msg)
        return cls(tuple(best))

    @property
    def steps(self) -> tuple[Step, ...]:
        """What each corner adds to the one before; each dearer per right answer than the last."""
        return tuple(
            Step(after.cost_usd - before.cost_usd, after.accuracy - before.accuracy)
            for before, after in pairwise(self.corners)
        )

    @property
    def least_usd(self) -> float:
        """Mean cost of the cheapest way to serve a query at all."""
        return self.corners[0].cost_usd

    def at(self, usd_per_query: float) -> Point | None:
        """Give what a budget buys; None where it does not pay for the cheapest way."""
        first, last = self.corners[0], self.corners[-1]
        if usd_per_query < first.cost_usd:
            return None
        for before, after in pairwise(self.corners):
            if usd_per_query < after.cost_usd:
                return _between(before, after, usd_per_query)
        return last

    def cost_of(self, accuracy: float) -> float | None:
        """Give the mean USD of a query at which an accuracy is reached; None where it is not."""
        if accuracy <= self.corners[0].accuracy:
            return self.corners[0].cost_usd
        for before, after in pairwise(self.corners):
            if accuracy <= after.accuracy:
                share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
                return before.cost_usd + share * (after.cost_usd - before.cost_usd)
        return None

    def cost_of_bound(self, accuracy: float) -> float | None:
        """Give the least mean USD of a query at which the lower bound reaches an accuracy.

        None where it does not. Wide intervals may make the bound fall from a corner to the next.
        """
        if accuracy <= self.corners[0].bound:
            return self.corners[0].cost_usd
        for before, after in pairwise(self.corners):
            if before.bound < accuracy <= after.bound:
                share = (accuracy - before.bound) / (after.bound - before.bound)
                return before.cost_usd + share * (after.cost_usd - before.cost_usd)
        return None

    def usd_per_right_at(self, usd_per_query: float) -> float | None:
        """Give what one more right answer costs at a budget; None at the end of the curve."""
        for corner, step in zip(self.corners[1:], self.steps, strict=True):
            if usd_per_query < corner.cost_usd:
                return step.usd_per_right
        return None

    def repriced(self, factor: float) -> BudgetCurve:
        """Give the curve after all prices changed by a factor above 0."""
        return BudgetCurve(
            tuple(Point(c.cost_usd * factor, c.accuracy, c.low) for c in self.corners)
        )


def _slope(before: Point, after: Point) -> float:
    if after.cost_usd == before.cost_usd:
        return float("inf")
    return (after.accuracy - before.accuracy) / (after.cost_usd - before.cost_usd)


def _between(before: Point, after: Point, usd: float) -> Point:
    share = (usd - before.cost_usd) / (after.cost_usd - before.cost_usd)

    def mixed(first: float, second: float) -> float:
        return first + share * (second - first)

    accuracy = mixed(before.accuracy, after.accuracy)
    return Point(usd, accuracy, min(accuracy, mixed(before.bound, after.bound)))
