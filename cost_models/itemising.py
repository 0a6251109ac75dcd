"""What was charged as lines of an invoice: a quantity of each meter times its unit price."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from cost_models.pricing import MILLION, NS_PER_HOUR, ZERO

if TYPE_CHECKING:
    from cost_models.pricing import Price
    from cost_models.types import Usage

HOUR_PLACES = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class Unit:
    """What a meter counts: ``consumed``, priced per ``priced``, ``size`` of them to one."""

    consumed: str
    priced: str
    size: Decimal


TOKENS = Unit("Tokens", "1000000 Tokens", MILLION)
REQUESTS = Unit("Requests", "Requests", Decimal(1))
HOURS = Unit("Hours", "Hours", Decimal(1))


@dataclass(frozen=True, slots=True)
class Item:
    """One line: ``consumed`` units of a meter at ``unit_price_usd`` per ``unit.priced``.

    ``direction`` and ``cache`` say of tokens which they are; None of what is not tokens.
    """

    meter: str
    unit: Unit
    consumed: Decimal
    unit_price_usd: Decimal
    direction: str | None = None
    cache: str | None = None

    @property
    def quantity(self) -> Decimal:
        """What the unit price is multiplied with."""
        return self.consumed / self.unit.size

    @property
    def cost_usd(self) -> Decimal:
        """Unit price times quantity, not rounded."""
        return self.unit_price_usd * self.quantity


def itemise(price: Price, usage: Usage) -> list[Item]:
    """Split what ``usage`` costs by meter; the sum is ``price.cost_usd(usage)``.

    Meters that counted nothing are left out. Reasoning has a meter of its own where it has a rate
    of its own; otherwise it is output. Machine time is in hours of nine places, so that there the
    sum may be some billionths of the rate off.
    """
    rates = price.rates
    written = rates["output_usd_per_million_tokens"]
    thought = rates["reasoning_usd_per_million_tokens"]
    apart = usage.reasoning_tokens if thought != written else 0
    fresh = usage.prompt_tokens - usage.cached_prompt_tokens - usage.cache_write_tokens
    read_rate = rates["input_usd_per_million_tokens"]
    cached_rate = rates["cached_input_usd_per_million_tokens"]
    kept_rate = rates["cache_write_usd_per_million_tokens"]

    def tokens(meter: str, n: int, rate: Decimal, direction: str, cache: str | None = None) -> Item:
        return Item(meter, TOKENS, Decimal(n), rate, direction, cache)

    items = [
        tokens("Input Tokens", fresh, read_rate, "Input"),
        tokens("Cached Input Tokens", usage.cached_prompt_tokens, cached_rate, "Input", "Read"),
        tokens("Cache Write Tokens", usage.cache_write_tokens, kept_rate, "Input", "Write"),
        tokens("Output Tokens", usage.completion_tokens - apart, written, "Output"),
        tokens("Reasoning Tokens", apart, thought, "Output"),
    ]
    if price.usd_per_request:
        items.append(Item("Requests", REQUESTS, Decimal(usage.n_calls), price.usd_per_request))
    if price.usd_per_machine_hour:
        hours = (Decimal(usage.machine_ns) / NS_PER_HOUR).quantize(HOUR_PLACES)
        items.append(Item("Machine Hours", HOURS, hours, price.usd_per_machine_hour))
    return [item for item in items if item.consumed > ZERO]
