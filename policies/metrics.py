"""Figures of merit of routers, each as its paper defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_POINTS = 2
HALF = 0.5
MOST = 0.8


@dataclass(frozen=True, slots=True)
class GapRecovery:
    """How fast a two-arm router closes the gap (Ong et al. 2024, RouteLLM, arXiv:2406.18665).

    With PGR(x) = (accuracy(x) - weak) / (strong - weak) at a share x of queries sent to the strong
    arm: ``apgr`` is the area under PGR over x in [0, 1] (0.5 at random), ``cpt50`` and ``cpt80``
    the least x with PGR of at least 0.5 and 0.8.
    """

    apgr: float
    cpt50: float
    cpt80: float


def gap_recovery(
    score: NDArray[np.float64], weak: NDArray[np.float64], strong: NDArray[np.float64]
) -> GapRecovery | None:
    """Send queries to the strong arm by descending ``score``, one after the other.

    Queries of equal score go together, in the mean of all orders. None when the strong arm is not
    better on average. All arguments have shape (n,); qualities in [0, 1].
    """
    gain = strong - weak
    total = float(gain.sum())
    if not len(gain) or total <= 0:
        return None
    _, group = np.unique(-score, return_inverse=True)
    gained = np.bincount(group, weights=gain)
    count = np.bincount(group)
    share = np.concatenate([[0.0], np.cumsum(count) / len(gain)])
    recovered = np.concatenate([[0.0], np.cumsum(gained) / total])
    return GapRecovery(
        apgr=float(np.trapezoid(recovered, share)),
        cpt50=_first_share(share, recovered, HALF),
        cpt80=_first_share(share, recovered, MOST),
    )


def _first_share(
    share: NDArray[np.float64], recovered: NDArray[np.float64], wanted: float
) -> float:
    """Least share at which the broken line through the points reaches ``wanted``."""
    reached = int(np.argmax(recovered >= wanted - 1e-12))
    if reached == 0:
        return 0.0
    low, high = recovered[reached - 1], recovered[reached]
    part = (wanted - low) / (high - low)
    return float(share[reached - 1] + part * (share[reached] - share[reached - 1]))


def hull(
    cost: NDArray[np.float64], quality: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Non-decreasing upper convex hull of points, as costs and qualities, both ascending.

    Any point of it is reached by mixing two policies at random (RouterBench, Hu et al. 2024,
    arXiv:2403.12031, section 3).
    """
    order = np.lexsort((-quality, cost))
    points: list[tuple[float, float]] = []
    for x, y in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if points and y <= points[-1][1]:
            continue
        while len(points) >= MIN_POINTS and _below(points[-2], points[-1], (x, y)):
            points.pop()
        points.append((x, y))
    xs, ys = np.array(points).T
    return xs, ys


def _below(
    left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Whether ``middle`` is on or below the line from ``left`` to ``right``."""
    rise = (middle[1] - left[1]) * (right[0] - left[0])
    return rise <= (right[1] - left[1]) * (middle[0] - left[0])


def average_improvement(
    cost: NDArray[np.float64], quality: NDArray[np.float64], low: float, high: float
) -> float | None:
    """AIQ of RouterBench: mean of the hull over costs in [``low``, ``high``].

    Beyond its ends the hull is level. None unless ``low`` < ``high``.
    """
    if not low < high:
        return None
    xs, ys = hull(cost, quality)
    inside = (xs > low) & (xs < high)
    at = np.concatenate([[low], xs[inside], [high]])
    return float(np.trapezoid(np.interp(at, xs, ys), at) / (high - low))


def iso_quality_saving(
    cost: NDArray[np.float64],
    quality: NDArray[np.float64],
    plain_cost: float,
    plain_quality: float,
) -> float | None:
    """1 - (least cost of a point at least as good as the plain arm) / (that arm's cost).

    None where no point is as good or the plain arm costs nothing; negative where it costs more.
    """
    reached = quality >= plain_quality - 1e-12
    if not reached.any() or plain_cost <= 0:
        return None
    return float(1.0 - cost[reached].min() / plain_cost)
