"""``--prices``: costs from tokens, for outcomes that were recorded without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.console import say_warning

if TYPE_CHECKING:
    from cost_models.pricing import Price
    from policies.outcomes import OutcomeTable

LISTED = "listed"
PricesOption = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="FILE|listed",
        help="Price rows that have tokens and no cost: a YAML file of prices by model, "
        "or 'listed' for those of the LiteLLM package.",
    ),
]


def with_costs(table: OutcomeTable, prices: str | None) -> OutcomeTable:
    """Price what has tokens and no cost, when asked to; say on standard error what stays without.

    Without ``prices`` nothing is priced, as tokens may be incomplete (hidden reasoning): it is said
    that it could be. A price in a file wins over a listed one; a listed 0 is no price.
    """
    from policies.token_costs import n_priceable, price_tokens

    if prices is None:
        n = n_priceable(table)
        if n:
            say_warning(
                f"{table.source}: {n:,} rows have tokens and no cost; --prices listed, or a file, "
                "would price them"
            )
        return table
    own = _read(prices)
    priced = price_tokens(table, lambda model: own.get(model) or _listed(model))
    if priced.unknown:
        say_warning(
            f"{table.source}: no price is known for {', '.join(priced.unknown)}; their rows stay "
            "without cost; put their prices into a file and give it to --prices"
        )
    if priced.n_without_usage:
        say_warning(
            f"{table.source}: {priced.n_without_usage:,} rows have neither a cost nor all the "
            "tokens to price, and stay without cost"
        )
    return priced.table


def _read(prices: str) -> dict[str, Price]:
    if prices == LISTED:
        return {}
    from router.gateway.price_file import read_prices

    return read_prices(Path(prices))


def _listed(model: str) -> Price | None:
    from cost_models.pricing import shipped_price

    price = shipped_price(model)
    return None if price is None or price.free else price
