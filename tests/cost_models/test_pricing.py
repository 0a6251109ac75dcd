"""Prices: exact, dated, by token class; unknown is an error."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.errors import PriceConfigError, UnknownPriceError
from cost_models.pricing import (
    DatedPrice,
    Price,
    PriceBook,
    dearest,
    shipped_context_window,
    shipped_price,
)
from cost_models.types import Usage

COUNTS = st.integers(min_value=0, max_value=10**9)
RATES = st.decimals(min_value=0, max_value=1000, places=6)
DAY = date(2026, 1, 15)


def price(**rates: Decimal) -> Price:
    """Make a price that is never free by accident."""
    return Price(free=True, **rates)


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        pytest.param(Usage(n_calls=1, prompt_tokens=1_000_000), "1", id="a million fresh tokens"),
        pytest.param(
            Usage(n_calls=1, prompt_tokens=1_000_000, cached_prompt_tokens=400_000),
            "0.64",
            id="cached tokens are billed once, at their own rate",
        ),
        pytest.param(
            Usage(n_calls=1, prompt_tokens=1_000_000, cache_write_tokens=1_000_000),
            "1.25",
            id="cache writes are dearer than plain input",
        ),
        pytest.param(
            Usage(n_calls=1, completion_tokens=1000, reasoning_tokens=600),
            "0.0058",
            id="reasoning tokens are part of the completion, not added to it",
        ),
    ],
)
def test_every_token_class_is_billed_once_at_its_own_rate(usage: Usage, usd: str) -> None:
    """Worked by hand: input 1, cached 0.1, cache write 1.25, output 4, reasoning 7 per million."""
    tariff = Price(
        input_usd_per_million_tokens=Decimal(1),
        cached_input_usd_per_million_tokens=Decimal("0.1"),
        cache_write_usd_per_million_tokens=Decimal("1.25"),
        output_usd_per_million_tokens=Decimal(4),
        reasoning_usd_per_million_tokens=Decimal(7),
    )
    assert tariff.cost_usd(usage) == Decimal(usd)


def test_a_machine_hour_is_charged_by_the_nanosecond() -> None:
    """Half an hour of a machine at 0.085 USD an hour costs 0.0425 USD, exactly."""
    owned = Price(usd_per_machine_hour=Decimal("0.085"))
    assert owned.owned
    assert owned.cost_usd(Usage(machine_ns=1_800_000_000_000)) == Decimal("0.0425")


@given(
    rates=st.tuples(RATES, RATES, RATES, RATES, RATES),
    counts=st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
)
def test_the_worst_case_is_never_below_the_cost(
    rates: tuple[Decimal, ...], counts: tuple[int, ...]
) -> None:
    """However the tokens turn out to be classed, the bound holds."""
    fresh, cached, written, visible, reasoning = counts
    usage = Usage(
        n_calls=1,
        prompt_tokens=fresh + cached + written,
        cached_prompt_tokens=cached,
        cache_write_tokens=written,
        completion_tokens=visible + reasoning,
        reasoning_tokens=reasoning,
    )
    tariff = price(
        input_usd_per_million_tokens=rates[0],
        output_usd_per_million_tokens=rates[1],
        cached_input_usd_per_million_tokens=rates[2],
        cache_write_usd_per_million_tokens=rates[3],
        reasoning_usd_per_million_tokens=rates[4],
    )
    assert tariff.cost_usd(usage) <= tariff.worst_case_usd(usage)


@given(
    rates=st.lists(st.tuples(RATES, RATES, RATES, st.none() | RATES), min_size=1, max_size=4),
    counts=st.tuples(COUNTS, COUNTS, COUNTS),
)
def test_the_dearest_price_is_never_below_any(
    rates: list[tuple[Decimal, Decimal, Decimal, Decimal | None]], counts: tuple[int, int, int]
) -> None:
    """Whatever was used, wherever it was served; and it asks for no more than each rate's most."""
    prices = [Price(a, b, cached, None, reasoning, free=True) for a, b, cached, reasoning in rates]
    fresh, cached, completion = counts
    usage = Usage(1, fresh + cached, cached, 0, completion, completion // 3)
    held = dearest(prices)
    assert held.cost_usd(usage) >= max(price.cost_usd(usage) for price in prices)
    assert all(held.rates[name] in {p.rates[name] for p in prices} for name in held.rates)


@given(counts=st.lists(st.tuples(COUNTS, COUNTS), min_size=2, max_size=5))
def test_cost_is_additive_over_usages(counts: list[tuple[int, int]]) -> None:
    """The cost of a sum is the sum of the costs, to the last digit."""
    tariff = Price(
        input_usd_per_million_tokens=Decimal("0.15"),
        output_usd_per_million_tokens=Decimal("0.6"),
    )
    usages = [Usage(n_calls=1, prompt_tokens=p, completion_tokens=c) for p, c in counts]
    total = sum(usages[1:], usages[0])
    assert tariff.cost_usd(total) == sum(tariff.cost_usd(usage) for usage in usages)


def test_a_price_of_zero_must_be_said() -> None:
    """A forgotten price is not a free model."""
    with pytest.raises(PriceConfigError, match="free: true"):
        Price()
    assert Price(free=True).cost_usd(Usage(prompt_tokens=10)) == 0


def test_a_negative_price_is_refused() -> None:
    """Nobody is paid for being asked."""
    with pytest.raises(PriceConfigError, match="at least 0"):
        Price(input_usd_per_million_tokens=Decimal(-1))


def test_an_unknown_price_is_an_error() -> None:
    """The book names the model and the date, and never says 0."""
    with pytest.raises(UnknownPriceError, match=r"'mystery' on 2026-01-15"):
        PriceBook().price("mystery", DAY)


def test_a_price_holds_from_its_first_day_until_the_day_before_its_last() -> None:
    """Validity is closed at the start, open at the end; a later entry wins."""
    old = Price(input_usd_per_million_tokens=Decimal(2))
    new = Price(input_usd_per_million_tokens=Decimal(1))
    book = PriceBook((DatedPrice("m", old, valid_until=DAY),)).with_entries(
        [DatedPrice("m", new, valid_from=DAY)]
    )
    assert book.price("m", date(2026, 1, 14)) is old
    assert book.price("m", DAY) is new
    gap = PriceBook((DatedPrice("m", old, valid_from=DAY),))
    with pytest.raises(UnknownPriceError):
        gap.price("m", date(2026, 1, 14))


def test_the_shipped_map_knows_common_models_and_admits_what_it_does_not_know() -> None:
    """Read from the installed litellm as data; a vendor prefix is optional."""
    known = shipped_price("openai/gpt-4o-mini")
    assert known is not None
    assert known.output_usd_per_million_tokens > known.input_usd_per_million_tokens > 0
    assert "litellm" in known.source
    assert shipped_price("gpt-4o-mini") == known
    assert shipped_price("nobody/has-this-model") is None
    assert shipped_price("text-embedding-3-small-nonexistent") is None
    assert shipped_context_window("gpt-4o-mini")[0] == 128_000
    assert shipped_context_window("nobody/has-this-model") == (None, None)
