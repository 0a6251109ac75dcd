"""Why spend changed between two periods, from the rollups and, for prices, a price book."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cost_models.bridge import Bridge, Cell, CellKey, bridge
from cost_models.errors import UnknownPriceError
from cost_models.money import to_nano_usd
from cost_models.types import Usage
from storage.rollups import DECISION_KEYS
from storage.sums import call_sums, decision_sums, sources

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy.orm import Session

    from cost_models.pricing import PriceBook
    from storage.sums import Figures, Sums

    Period = tuple[datetime, datetime]

INSTANT = timedelta(microseconds=1)
USED = (
    "n_calls",
    "prompt_tokens",
    "cached_prompt_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "machine_ns",
)


def read_bridge(
    session: Session, old: Period, new: Period, prices: PriceBook | None = None
) -> Bridge:
    """Split the change of spend from the ``old`` period [since, until) to the ``new`` one.

    With ``prices`` the calls of the new period are priced anew at the prices of the old one's last
    day; an arm's difference is shared out over its bins by their cost. Where a model has no price
    there, prices are None and what they changed is in ``usage``.
    """
    was = decision_sums(session, sources(session, *old), DECISION_KEYS)
    where = sources(session, *new)
    now = decision_sums(session, where, DECISION_KEYS)
    calls = call_sums(session, where, ("model", "strategy")) if prices is not None else {}
    repriced = {} if prices is None else _repriced(calls, prices, (old[1] - INSTANT).date())
    return bridge(
        {_key(key): Cell(f["n_entries"], f["cost_nano_usd"]) for key, f in was.items()},
        {_key(key): _cell(key, f, repriced) for key, f in now.items()},
    )


def _key(key: tuple[object, ...]) -> CellKey:
    model, strategy, difficulty = key
    return CellKey(int(str(difficulty)), str(model), str(strategy))


def _cell(
    key: tuple[object, ...], figures: Figures, repriced: dict[tuple[str, str], tuple[int, int]]
) -> Cell:
    """Give a cell with its share of what its arm's calls would have cost."""
    cost = figures["cost_nano_usd"]
    found = repriced.get((str(key[0]), str(key[1])))
    if found is None:
        return Cell(figures["n_entries"], cost)
    then, charged = found
    return Cell(figures["n_entries"], cost, cost * then // charged if charged else cost)


def _repriced(calls: Sums, prices: PriceBook, on: date) -> dict[tuple[str, str], tuple[int, int]]:
    """Give for each model and strategy what its calls would have cost, and what they did.

    What is in doubt, or corrected by a bill, moves with the rest of its arm.
    """
    found = {}
    for (model, strategy), figures in calls.items():
        try:
            price = prices.price(model, on)
        except UnknownPriceError:
            continue
        used = {name: int(figures[name] or 0) for name in USED}
        usage = Usage(estimated=False, **used)
        cost = figures["cost_nano_usd"] or 0
        found[model, strategy] = (to_nano_usd(price.cost_usd(usage)), cost)
    return found
