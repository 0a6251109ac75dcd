"""Why spend changed from one period to the next: parts that add up to the change, to the nano-USD.

Each part is the difference of two whole amounts along one path from the old spend to the new one,
so that rounding cannot open a gap (Laspeyres' order: quantities at old prices first, prices last).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class CellKey(NamedTuple):
    """What spend is told apart by: bin of difficulty, and the arm that was picked for it."""

    difficulty: int
    model: str
    strategy: str


@dataclass(frozen=True, slots=True)
class Cell:
    """Decisions of one key: how many, and what they cost.

    ``at_old_prices_nano_usd`` is what the same usage would have cost at the earlier period's
    prices, None where nobody knows; the earlier period itself needs none.
    """

    n: int
    cost_nano_usd: int
    at_old_prices_nano_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """The change of spend in nano-USD and its parts.

    ``volume``: more or fewer questions of the same kind. ``questions``: another mix of difficulty.
    ``choices``: other arms for the same difficulty. ``prices``: other prices for what was used,
    None where they are unknown, and then part of ``usage``: more or fewer tokens or calls per
    decision. ``added`` and ``retired``: keys in one period alone.
    """

    before: int
    volume: int
    questions: int
    choices: int
    usage: int
    prices: int | None
    added: int
    retired: int
    after: int

    @property
    def parts(self) -> dict[str, int]:
        """The parts by name; they add up to ``after - before``."""
        ends = ("before", "after")
        return {k: v for k, v in asdict(self).items() if k not in ends and v is not None}

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {f"{name}_nano_usd": value for name, value in asdict(self).items()}


def bridge(old: Mapping[CellKey, Cell], new: Mapping[CellKey, Cell]) -> Bridge:
    """Split the change of spend between two periods; it always closes exactly."""
    both = [key for key in old if key in new and old[key].n > 0 and new[key].n > 0]
    kept = set(both)
    before = sum(cell.cost_nano_usd for cell in old.values())
    after = sum(cell.cost_nano_usd for cell in new.values())
    was = sum(old[key].cost_nano_usd for key in both)
    now = sum(new[key].cost_nano_usd for key in both)
    by_volume = _scaled(both, old, new, lambda _key: 0)
    by_question = _scaled(both, old, new, lambda key: key.difficulty)
    by_choice = _scaled(both, old, new, lambda key: key)
    repriced = [new[key].at_old_prices_nano_usd for key in both]
    known = [cost for cost in repriced if cost is not None]
    prices = now - sum(known) if len(known) == len(repriced) else None
    return Bridge(
        before=before,
        volume=by_volume - was,
        questions=by_question - by_volume,
        choices=by_choice - by_question,
        usage=now - (prices or 0) - by_choice,
        prices=prices,
        added=sum(c.cost_nano_usd for key, c in new.items() if key not in kept),
        retired=-sum(c.cost_nano_usd for key, c in old.items() if key not in kept),
        after=after,
    )


def _scaled(
    keys: list[CellKey],
    old: Mapping[CellKey, Cell],
    new: Mapping[CellKey, Cell],
    group: Callable[[CellKey], object],
) -> int:
    """Give the new questions at the old cost of one, by group; whole nano-USD."""
    sums: dict[object, list[int]] = {}
    for key in keys:
        of_group = sums.setdefault(group(key), [0, 0, 0])
        of_group[0] += new[key].n
        of_group[1] += old[key].cost_nano_usd
        of_group[2] += old[key].n
    return sum((2 * n * cost + old_n) // (2 * old_n) for n, cost, old_n in sums.values())
