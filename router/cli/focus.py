"""``rheostat export --format focus``: what was charged, for tools that read bills."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from cost_models.errors import UnknownPriceError
from cost_models.money import format_usd
from router.cli.console import console, fail, say_warning
from router.cli.facts import simulated_prices

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from pathlib import Path

    from sqlalchemy.orm import Session

    from cost_models.charges import Charges
    from cost_models.focus import PriceOf, Row, Version
    from cost_models.pricing import Price, PriceBook
    from router.gateway.config import Config


class Grain(StrEnum):
    """How long the charge period of a row is."""

    HOUR = "hour"
    DAY = "day"


LENGTH = {Grain.HOUR: timedelta(hours=1), Grain.DAY: timedelta(days=1)}


def export_focus(
    loaded: Config,
    output: Path,
    version: Version,
    grain: Grain,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Write the charges of [``since``, ``until``) as FOCUS, and say what is not itemised."""
    from cost_models.focus import Mapping
    from router.cli.build import open_ledger, utc_now
    from router.jobs.focus import write_focus

    end = until or utc_now().replace(microsecond=0) + timedelta(seconds=1)
    ledger = open_ledger(loaded)
    try:
        charges, prices = ledger.read(
            lambda session: (
                _charges(session, since, end, LENGTH[grain]),
                _prices(session, loaded),
            )
        )
    finally:
        ledger.close()
    rows = [] if charges is None else Mapping(version, prices).rows(charges)
    if charges is None or not rows:
        fail("nothing was charged in that time; widen --since and --until")
    write_focus(rows, version, output)
    billed = sum(c.cost_nano_usd for c in charges.usage)
    billed += sum(c.amount_nano_usd for c in charges.corrections)
    console().print(
        f"{len(rows):,} rows of FOCUS {version}, {format_usd(billed, 9)} billed, "
        f"written to {output}",
        markup=False,
        soft_wrap=True,
    )
    _warn(rows)


def _charges(
    session: Session, since: datetime | None, until: datetime, length: timedelta
) -> Charges | None:
    from storage.charges import floor, read_charges
    from storage.facts import first_start

    first = first_start(session)
    begin = since if since or first is None else floor(first, length)
    return None if begin is None or begin >= until else read_charges(session, begin, until, length)


def _prices(session: Session, loaded: Config) -> PriceOf:
    """Give the prices that were charged: the configuration's, or those of the simulated world."""
    if (made_up := simulated_prices(session)) is not None:
        return partial(_listed, made_up)
    return partial(_configured, loaded, loaded.price_book())


def _listed(book: PriceBook, model: str, _provider: str, on: date) -> Price | None:
    try:
        return book.price(model, on)
    except UnknownPriceError:
        return None


def _configured(
    loaded: Config, book: PriceBook, model: str, provider: str, on: date
) -> Price | None:
    """Give a model's price; where deployments have their own, the only one of the provider."""
    served = next((m for m in loaded.models if m.name == model and m.has_own_prices), None)
    if served is None:
        return _listed(book, model, provider, on)
    found = {
        loaded.deployment_price(served, each)
        for each in served.deployments
        if (each.model or served.model).partition("/")[0] == provider
    }
    return found.pop() if len(found) == 1 else None


def _warn(rows: Sequence[Row]) -> None:
    """Say on standard error how much has no unit price, and why."""
    sums: dict[str, Decimal] = {}
    for row in rows:
        source, cost = row["x_CostSource"], row["BilledCost"]
        if isinstance(source, str) and isinstance(cost, Decimal):
            sums[source] = sums.get(source, Decimal(0)) + cost
    told = {
        "not_itemised": "of models whose price on the day is not in the configuration",
        "not_at_list_price": "beside tokens at the listed price (calls in doubt, or another price)",
        "lost": "held by processes that died",
    }
    for source, why in told.items():
        if sums.get(source):
            say_warning(f"{sums[source]:,.6f} USD {why}: Adjustment rows without a unit price")
