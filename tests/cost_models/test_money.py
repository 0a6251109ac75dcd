"""Money: rounded up once, never lost, never a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.money import NANO_PER_USD, format_usd, to_nano_usd, to_usd

USD = st.decimals(min_value=0, max_value=10**6, places=15)


@given(nano_usd=st.integers(min_value=0, max_value=10**18))
def test_whole_nano_usd_survive_the_way_to_usd_and_back(nano_usd: int) -> None:
    """What is stored can be shown and stored again without change."""
    assert to_nano_usd(to_usd(nano_usd)) == nano_usd


@given(amounts=st.lists(USD, max_size=20))
def test_stored_amounts_are_never_below_what_is_owed(amounts: list[Decimal]) -> None:
    """Rounding goes up, by less than one nano-USD for each amount written."""
    stored = sum(to_nano_usd(usd) for usd in amounts)
    owed = sum(amounts, start=Decimal(0)) * NANO_PER_USD
    assert owed <= stored < owed + max(1, len(amounts))


@pytest.mark.parametrize("usd", ["-0.000000001", "NaN", "Infinity", "-Infinity"])
def test_an_amount_that_is_no_amount_is_refused(usd: str) -> None:
    """Nothing negative or endless is ever written down."""
    with pytest.raises(ValueError, match="finite and at least 0"):
        to_nano_usd(Decimal(usd))


@pytest.mark.parametrize(
    ("nano_usd", "places", "shown"),
    [
        pytest.param(123_000, 6, "$0.000123", id="small"),
        pytest.param(1_234_500_000_000, 2, "$1,234.50", id="thousands"),
        pytest.param(5, 8, "$0.00000000", id="half goes to even"),
    ],
)
def test_money_is_shown_for_people(nano_usd: int, places: int, shown: str) -> None:
    """A dollar sign, commas, as many places as asked."""
    assert format_usd(nano_usd, places) == shown
