"""Pay by token, or own the machines? A monthly bill against a staircase, at equal accuracy.

Owned capacity comes in whole machines, and they have to carry the busiest hour: the owned bill is
a staircase over volume, the token bill a line. The line may cross the staircase several times.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOURS_PER_MONTH = 730.0
S_PER_HOUR = 3600.0
MAX_MACHINES = 100_000
COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class Machines:
    """What owning costs and carries; amounts in USD, all at least 0.

    Attributes
    ----------
    usd_per_query : float, > 0
        What a query costs when it is paid by token, at the accuracy that the machines reach.
    s_per_query : float, > 0
        Busy seconds of one machine that a query takes.
    usd_per_machine_month : float
        Rent, or the purchase price over the months of its life.
    kw, usd_per_kwh : float
        Power that one machine draws, cooling included, and what it costs.
    usd_fixed_month : float
        Staff and whatever else does not grow with volume.
    usd_setup, setup_months : float
        What it takes to get going, spread over so many months (> 0).
    utilisation : float in (0, 1]
        How busy a machine may be in the busiest hour.
    peak_to_mean : float, >= 1
        Load of the busiest hour over the mean.
    """

    usd_per_query: float
    s_per_query: float
    usd_per_machine_month: float
    kw: float = 0.0
    usd_per_kwh: float = 0.0
    usd_fixed_month: float = 0.0
    usd_setup: float = 0.0
    setup_months: float = 36.0
    utilisation: float = 0.7
    peak_to_mean: float = 2.0

    def __post_init__(self) -> None:
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        for name, value in values.items():
            if not isfinite(value) or value < 0:
                msg = f"{name} must be a finite number of at least 0, got {value}"
                raise ValueError(msg)
        for name in ("usd_per_query", "s_per_query", "setup_months", "utilisation"):
            if values[name] == 0:
                msg = f"{name} must be above 0"
                raise ValueError(msg)
        if self.utilisation > 1 or self.peak_to_mean < 1:
            msg = "utilisation is at most 1 and peak_to_mean at least 1"
            raise ValueError(msg)

    @property
    def queries_per_machine(self) -> float:
        """Queries a month that one machine carries, the busiest hour included."""
        busy = HOURS_PER_MONTH * S_PER_HOUR * self.utilisation / self.peak_to_mean
        return busy / self.s_per_query

    @property
    def usd_per_machine(self) -> float:
        """What one more machine costs a month, its power included."""
        return self.usd_per_machine_month + self.kw * HOURS_PER_MONTH * self.usd_per_kwh

    @property
    def usd_base(self) -> float:
        """What owning costs a month before the first machine."""
        return self.usd_fixed_month + self.usd_setup / self.setup_months

    def needed(self, queries_per_month: float) -> int:
        """Give the number of whole machines, at least one."""
        return max(1, ceil(queries_per_month / self.queries_per_machine))

    def owned_usd(self, queries_per_month: float) -> float:
        """Monthly cost of owning."""
        return self.usd_base + self.needed(queries_per_month) * self.usd_per_machine

    def bought_usd(self, queries_per_month: float) -> float:
        """Monthly cost of paying by token."""
        return self.usd_per_query * queries_per_month

    def busy_share(self, queries_per_month: float) -> float:
        """Mean share of the time that the machines work."""
        available = self.needed(queries_per_month) * HOURS_PER_MONTH * S_PER_HOUR
        return queries_per_month * self.s_per_query / available


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Queries a month from which owning is no dearer; infinite where it always is.

    ``first`` is the least such volume. From ``always`` on owning stays cheaper: just after a new
    machine it may be dearer again in between. ``busy_share`` is the machines' at ``first``.
    """

    first: float
    always: float
    busy_share: float


def break_even(machines: Machines) -> BreakEven:
    """Find where the line of tokens crosses the staircase of machines."""
    capacity, step = machines.queries_per_machine, machines.usd_per_machine
    gain = machines.usd_per_query * capacity - step
    if gain <= 0 and machines.usd_base + step > machines.usd_per_query * capacity:
        return BreakEven(inf, inf, 0.0)
    count = 1 if gain <= 0 else max(1, ceil(machines.usd_base / gain))
    if count > MAX_MACHINES:
        return BreakEven(inf, inf, 0.0)
    at = max((machines.usd_base + count * step) / machines.usd_per_query, (count - 1) * capacity)
    return BreakEven(at, _always(machines, at, gain), machines.busy_share(at))


def _always(machines: Machines, first: float, gain: float) -> float:
    """Give the volume after which no new machine makes owning dearer again."""
    if gain <= 0:
        return inf
    count = max(1, ceil((machines.usd_base + machines.usd_per_machine) / gain))
    crossing = (machines.usd_base + count * machines.usd_per_machine) / machines.usd_per_query
    return max(first, crossing)


@dataclass(frozen=True, slots=True)
class Range:
    """What a quantity may be: low, likely and high; drawn from a triangle over them."""

    low: float
    likely: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.likely <= self.high:
            msg = f"a range is written low <= likely <= high, got {self}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Break-even under uncertainty: an interval of ``first``, and how often there is none.

    ``low`` and ``high`` bound the middle 90 % of all draws; infinite where that many draws never
    break even.
    """

    low: float
    median: float
    high: float
    never: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a tornado: break-even with one quantity at either end, all others likely."""

    name: str
    at_low: float
    at_high: float

    @property
    def span(self) -> float:
        """How far the two ends lie apart; infinite where one of them never breaks even."""
        if self.at_low == self.at_high:
            return 0.0
        return abs(self.at_high - self.at_low)


def simulate(
    machines: Machines, ranges: Mapping[str, Range], n_draws: int = 2000, seed: int = 0
) -> Uncertain:
    """Draw the quantities in ``ranges`` independently, and break even with each draw."""
    rng = np.random.default_rng(seed)
    drawn = {
        name: rng.triangular(r.low, r.likely, r.high, n_draws)
        if r.low < r.high
        else np.full(n_draws, r.likely)
        for name, r in sorted(ranges.items())
    }
    found = np.sort(
        [
            break_even(replace(machines, **{name: float(v[i]) for name, v in drawn.items()})).first
            for i in range(n_draws)
        ]
    )
    places = (np.array([(1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2]) * (n_draws - 1)).round()
    low, median, high = (float(found[int(i)]) for i in places)
    return Uncertain(low, median, high, float(np.isinf(found).mean()))


def tornado(machines: Machines, ranges: Mapping[str, Range]) -> Sequence[Bar]:
    """Vary one quantity at a time; the one that matters most comes first."""
    bars = [
        Bar(
            name,
            break_even(replace(machines, **{name: r.low})).first,
            break_even(replace(machines, **{name: r.high})).first,
        )
        for name, r in ranges.items()
    ]
    return sorted(bars, key=lambda bar: (-bar.span, bar.name))


def payback_months(machines: Machines, queries_per_month: float) -> float:
    """Give the months until saved tokens have paid for the setup; infinite where nothing is."""
    running = machines.owned_usd(queries_per_month) - machines.usd_setup / machines.setup_months
    saved = machines.bought_usd(queries_per_month) - running
    return machines.usd_setup / saved if saved > 0 else inf
