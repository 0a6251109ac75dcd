"""Rows without a cost are priced from their tokens; what cannot be priced stays unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from cost_models.pricing import Price
from policies.outcomes import OutcomeTable
from policies.token_costs import n_priceable, price_tokens

PRICES = {
    "api": Price(Decimal(2), Decimal(8), usd_per_request=Decimal("0.001")),
    "owned": Price(usd_per_machine_hour=Decimal("3.6")),
}


def row(i: int, model: str, **known: float) -> dict[str, Any]:
    """One graded answer."""
    plain = {"query_id": f"q{i}", "query": "?", "model": model, "strategy": "s", "correct": 1}
    return {**plain, **known}


TABLE = OutcomeTable.from_rows(
    [
        row(0, "api", prompt_tokens=1000, completion_tokens=500),
        row(1, "api", prompt_tokens=1000, completion_tokens=500, cost_usd=0.5),
        row(2, "api", prompt_tokens=1000),
        row(3, "owned", prompt_tokens=10, completion_tokens=5, machine_s=2.0),
        row(4, "owned", prompt_tokens=10, completion_tokens=5),
        row(5, "nobody", prompt_tokens=10, completion_tokens=5),
        row(6, "silent"),
    ]
)


def test_costs_worked_by_hand() -> None:
    """1,000 at 2 and 500 at 8 USD/M and 0.001 a call; 2 s at 0.001 USD; the rest as it was."""
    priced = price_tokens(TABLE, PRICES.get)
    cost = priced.table.numbers["cost_usd"]
    nan = float("nan")
    np.testing.assert_allclose(cost, [0.007, 0.5, nan, 0.002, nan, nan, nan], rtol=1e-12)
    assert (priced.n_priced, priced.unknown, priced.n_without_usage) == (2, ("nobody",), 3)
    assert np.isnan(TABLE.numbers["cost_usd"]).sum() == 6, "the given table is as it was"


def test_nothing_is_free_by_accident() -> None:
    """Without any price every cost stays unknown, and none is 0."""
    priced = price_tokens(TABLE, lambda _model: None)
    np.testing.assert_array_equal(
        priced.table.numbers["cost_usd"], TABLE.numbers["cost_usd"], strict=True
    )
    assert priced.unknown == ("api", "nobody", "owned")


def test_rows_that_could_be_priced_are_counted() -> None:
    """Those with both tokens and no cost."""
    assert n_priceable(TABLE) == 4
    assert n_priceable(price_tokens(TABLE, PRICES.get).table) == 2


def test_every_price_is_exact_to_the_nano_usd() -> None:
    """As a ledger would have booked the same usage."""
    usage = (123_457, 98_765)
    table = OutcomeTable.from_rows(
        [row(0, "api", prompt_tokens=usage[0], completion_tokens=usage[1])]
    )
    found = price_tokens(table, PRICES.get).table.numbers["cost_usd"][0]
    exact = Decimal("0.001") + (2 * Decimal(usage[0]) + 8 * Decimal(usage[1])) / 1_000_000
    assert found == pytest.approx(float(exact), abs=1e-10)
