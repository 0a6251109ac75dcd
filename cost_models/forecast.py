"""What will be spent by the end of a period, with an interval and how wrong it was before.

Daily spend is a level times the usual share of the weekday; the logarithm of the level follows
simple exponential smoothing (Hyndman et al. 2008, *Forecasting with Exponential Smoothing*), its
smoothing picked by one-day-ahead errors. Intervals come from paths that draw these errors anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cost_models.accuracy import COVERAGE, Estimate
from cost_models.errors import NotEnoughDataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_DAYS = 14
WEEK = 7
SMOOTHINGS = (0.05, 0.1, 0.2, 0.35, 0.5)
N_PATHS = 2000
DEGREES = 8
"""Figures that are fitted: seven weekdays and the smoothing."""
SMALLEST = 1e-9
DAYS = "complete days of spend"


@dataclass(frozen=True, slots=True)
class Forecast:
    """Spend by the end of the period, USD, what is spent already in it.

    ``daily`` are the middle values of the days to come, and ``fan`` what is spent by the end of
    each in all: the interval's low end, the middle, and its high end. ``over`` is the probability
    that ``limit`` is exceeded and ``days_left`` after how many whole days the middle path
    exceeds it; None without a limit or where it does not. ``backtest_error`` is by how much the
    forecast of the last ``backtest_days`` days, made before them, was off, as a share; None
    with too few days before.
    """

    total_usd: Estimate
    daily: tuple[float, ...]
    fan: tuple[tuple[float, float, float], ...]
    over: float | None
    days_left: int | None
    backtest_error: float | None
    backtest_days: int

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "total_usd": self.total_usd.to_dict(),
            "daily_usd": list(self.daily),
            "fan_usd": [list(ends) for ends in self.fan],
            "probability_over": self.over,
            "days_left": self.days_left,
            "backtest_error": self.backtest_error,
            "backtest_days": self.backtest_days,
        }


def forecast(  # noqa: PLR0913 - a history, a horizon, and what it is held against
    daily_usd: Floats,
    first_weekday: int,
    horizon: int,
    rng: np.random.Generator,
    *,
    spent_usd: float = 0.0,
    limit_usd: float | None = None,
) -> Forecast:
    """Forecast what is spent in ``horizon`` >= 0 days after complete ones.

    ``daily_usd`` of shape (n_days,) are complete days one after the other, days without a request
    being 0; ``first_weekday`` is the first one's, 0 for Monday. NotEnoughDataError below
    `MIN_DAYS`.
    """
    paths = _paths(daily_usd, first_weekday, horizon, rng)
    totals = spent_usd + paths.sum(axis=1)
    tail = 100.0 * (1.0 - COVERAGE) / 2.0
    low, middle, high = np.percentile(totals, [tail, 50.0, 100.0 - tail])
    daily = np.median(paths, axis=0) if horizon else np.zeros(0)
    fan = spent_usd + np.percentile(np.cumsum(paths, axis=1), [tail, 50.0, 100.0 - tail], axis=0)
    over = None if limit_usd is None else float((totals > limit_usd).mean())
    passed = np.flatnonzero(spent_usd + np.cumsum(daily) > (limit_usd or np.inf))
    held_out = min(horizon, len(daily_usd) - MIN_DAYS)
    error = None
    if held_out > 0:
        before = _paths(daily_usd[:-held_out], first_weekday, held_out, rng)
        actual = float(daily_usd[-held_out:].sum())
        error = float(np.median(before.sum(axis=1))) / actual - 1.0 if actual > 0 else None
    return Forecast(
        total_usd=Estimate(float(middle), float(low), float(high), len(daily_usd)),
        daily=tuple(float(day) for day in daily),
        fan=tuple((float(low), float(mid), float(high)) for low, mid, high in fan.T),
        over=over,
        days_left=int(passed[0]) + 1 if len(passed) else None,
        backtest_error=error,
        backtest_days=max(0, held_out),
    )


def _paths(daily: Floats, first_weekday: int, horizon: int, rng: np.random.Generator) -> Floats:
    """Draw what may be spent on each of the days to come; shape (N_PATHS, horizon)."""
    n = len(daily)
    if n < MIN_DAYS:
        raise NotEnoughDataError(DAYS, n, MIN_DAYS)
    floor = max(SMALLEST, float(daily.max()) * 1e-3)
    logs = np.log(np.maximum(daily, floor))
    weekday = (first_weekday + np.arange(n)) % WEEK
    season = _season(logs, weekday)
    rest = logs - season[weekday]
    fits = [(_errors(rest, smoothing), smoothing) for smoothing in SMOOTHINGS]
    (errors, level), smoothing = min(fits, key=lambda fit: float((fit[0][0] ** 2).sum()))
    inflated = errors * np.sqrt(n / max(1.0, n - DEGREES))
    drawn = rng.choice(inflated - inflated.mean(), (N_PATHS, horizon))
    start = level + rng.normal(0.0, inflated.std() * np.sqrt(smoothing), (N_PATHS, 1))
    levels = start + smoothing * (np.cumsum(drawn, axis=1) - drawn)
    coming = (first_weekday + n + np.arange(horizon)) % WEEK
    return np.asarray(np.exp(levels + season[coming] + drawn))


def _season(logs: Floats, weekday: NDArray[np.int64]) -> Floats:
    """Give each weekday's usual distance from its week, in logs; shape (7,)."""
    around = np.convolve(logs, np.ones(WEEK) / WEEK, mode="valid")
    half = WEEK // 2
    centre = np.concatenate([np.full(half, around[0]), around, np.full(half, around[-1])])
    season = np.array([np.median((logs - centre)[weekday == day]) for day in range(WEEK)])
    return np.asarray(season - season.mean())


def _errors(rest: Floats, smoothing: float) -> tuple[Floats, float]:
    """Give the one-day-ahead errors of exponential smoothing, and the level at the end."""
    level = float(rest[:WEEK].mean())
    errors = np.empty(len(rest))
    for i, value in enumerate(rest):
        errors[i] = value - level
        level += smoothing * errors[i]
    return errors, level
