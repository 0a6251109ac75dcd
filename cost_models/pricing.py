"""The price book: usage to exact USD, by model and date. An unknown price is an error.

Known prices come, in order, from the operator's config and from the price map that ships as
data inside the litellm package (read as a file: litellm is not imported).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cost_models.errors import PriceConfigError, UnknownPriceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from cost_models.types import Usage

ZERO = Decimal(0)
MILLION = Decimal(1_000_000)
NS_PER_HOUR = Decimal(3_600_000_000_000)
TYPO_FACTOR = Decimal(1000)
"""A price so many times another one is taken for a slip of the unit: per token, per million."""

PRICE_MAP_FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, slots=True)
class Price:
    """What one model charges, in exact USD. Rates that are None fall back to the plain ones.

    ``free`` must be True for a price whose every rate is 0: nothing is free by accident.
    """

    input_usd_per_million_tokens: Decimal = ZERO
    output_usd_per_million_tokens: Decimal = ZERO
    cached_input_usd_per_million_tokens: Decimal | None = None
    cache_write_usd_per_million_tokens: Decimal | None = None
    reasoning_usd_per_million_tokens: Decimal | None = None
    usd_per_request: Decimal = ZERO
    usd_per_machine_hour: Decimal = ZERO
    free: bool = False
    source: str = "config"

    def __post_init__(self) -> None:
        rates = [
            self.input_usd_per_million_tokens,
            self.output_usd_per_million_tokens,
            self.cached_input_usd_per_million_tokens,
            self.cache_write_usd_per_million_tokens,
            self.reasoning_usd_per_million_tokens,
            self.usd_per_request,
            self.usd_per_machine_hour,
        ]
        known = [rate for rate in rates if rate is not None]
        if any(not rate.is_finite() or rate < 0 for rate in known):
            msg = f"a price must be finite and at least 0, got {self!r}"
            raise PriceConfigError(msg)
        if not any(known) and not self.free:
            msg = "every rate of this price is 0; say `free: true` if the model really is free"
            raise PriceConfigError(msg)

    @property
    def rates(self) -> dict[str, Decimal]:
        """Give every rate by its name; one that was left out is what it falls back to."""
        return {
            "input_usd_per_million_tokens": self.input_usd_per_million_tokens,
            "cached_input_usd_per_million_tokens": self._or_input(
                self.cached_input_usd_per_million_tokens
            ),
            "cache_write_usd_per_million_tokens": self._or_input(
                self.cache_write_usd_per_million_tokens
            ),
            "output_usd_per_million_tokens": self.output_usd_per_million_tokens,
            "reasoning_usd_per_million_tokens": self._or_output(
                self.reasoning_usd_per_million_tokens
            ),
            "usd_per_request": self.usd_per_request,
            "usd_per_machine_hour": self.usd_per_machine_hour,
        }

    @property
    def owned(self) -> bool:
        """True when the model is paid by machine time."""
        return self.usd_per_machine_hour > 0

    def cost_usd(self, usage: Usage) -> Decimal:
        """Exact USD for what was used, each token class at its own rate."""
        fresh = usage.prompt_tokens - usage.cached_prompt_tokens - usage.cache_write_tokens
        visible = usage.completion_tokens - usage.reasoning_tokens
        per_million = (
            self.input_usd_per_million_tokens * fresh
            + self._or_input(self.cached_input_usd_per_million_tokens) * usage.cached_prompt_tokens
            + self._or_input(self.cache_write_usd_per_million_tokens) * usage.cache_write_tokens
            + self.output_usd_per_million_tokens * visible
            + self._or_output(self.reasoning_usd_per_million_tokens) * usage.reasoning_tokens
        )
        return (
            per_million / MILLION
            + self.usd_per_request * usage.n_calls
            + self.usd_per_machine_hour * usage.machine_ns / NS_PER_HOUR
        )

    def worst_case_usd(self, usage: Usage) -> Decimal:
        """USD if every prompt and completion token were billed in its dearest class."""
        prompt_rate = max(
            self.input_usd_per_million_tokens,
            self._or_input(self.cached_input_usd_per_million_tokens),
            self._or_input(self.cache_write_usd_per_million_tokens),
        )
        completion_rate = max(
            self.output_usd_per_million_tokens,
            self._or_output(self.reasoning_usd_per_million_tokens),
        )
        return (
            (prompt_rate * usage.prompt_tokens + completion_rate * usage.completion_tokens)
            / MILLION
            + self.usd_per_request * usage.n_calls
            + self.usd_per_machine_hour * usage.machine_ns / NS_PER_HOUR
        )

    def _or_input(self, rate: Decimal | None) -> Decimal:
        return self.input_usd_per_million_tokens if rate is None else rate

    def _or_output(self, rate: Decimal | None) -> Decimal:
        return self.output_usd_per_million_tokens if rate is None else rate


@dataclass(frozen=True, slots=True)
class DatedPrice:
    """A price valid on dates in [``valid_from``, ``valid_until``); None is open-ended."""

    model: str
    price: Price
    valid_from: date | None = None
    valid_until: date | None = None

    def covers(self, on: date) -> bool:
        """Tell whether the price is valid on ``on``."""
        return (self.valid_from is None or self.valid_from <= on) and (
            self.valid_until is None or on < self.valid_until
        )


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices by model and date; later entries win over earlier ones that cover the same date."""

    entries: tuple[DatedPrice, ...] = ()
    _by_model: dict[str, list[DatedPrice]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_model: dict[str, list[DatedPrice]] = {}
        for entry in self.entries:
            by_model.setdefault(entry.model, []).append(entry)
        object.__setattr__(self, "_by_model", by_model)

    def price(self, model: str, on: date) -> Price:
        """Find the price of ``model`` on a date; raise UnknownPriceError rather than say 0."""
        for entry in reversed(self._by_model.get(model, [])):
            if entry.covers(on):
                return entry.price
        raise UnknownPriceError(model, on)

    def with_entries(self, entries: Iterable[DatedPrice]) -> PriceBook:
        """Make a book in which ``entries`` win over the present ones."""
        return PriceBook((*self.entries, *entries))


def dearest(prices: Sequence[Price]) -> Price:
    """Give the price that no one of ``prices``, at least one, is above in any rate."""
    rates = {name: max(p.rates[name] for p in prices) for name in prices[0].rates}
    return Price(**rates, free=not any(rates.values()), source="the dearest of its deployments")


def differing(price: Price, other: Price) -> dict[str, tuple[Decimal, Decimal]]:
    """Give the rates that differ, by name: this price's and the other's."""
    theirs = other.rates
    return {
        name: (rate, theirs[name]) for name, rate in price.rates.items() if rate != theirs[name]
    }


def slips(price: Price, other: Price) -> dict[str, tuple[Decimal, Decimal]]:
    """Give the differing rates that are `TYPO_FACTOR` times apart or more, where both are above 0.

    A price per token written where one per million tokens belongs is a million times too low.
    """
    return {
        name: (mine, theirs)
        for name, (mine, theirs) in differing(price, other).items()
        if min(mine, theirs) > 0 and max(mine, theirs) >= TYPO_FACTOR * min(mine, theirs)
    }


def _price_map_path() -> Path | None:
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / PRICE_MAP_FILE
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _price_map() -> Mapping[str, Mapping[str, Any]]:
    path = _price_map_path()
    if path is None:
        return {}
    loaded: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"), parse_float=Decimal)
    return loaded


def _per_million(entry: Mapping[str, Any], key: str) -> Decimal | None:
    value = entry.get(key)
    return None if value is None else Decimal(value) * MILLION


def shipped_price(model: str) -> Price | None:
    """Price of ``model`` (litellm form) in the map inside the installed litellm, or None.

    Only entries that state both an input and an output price per token count as known. An entry
    that states 0 for both is free and says so.
    """
    prices = _price_map()
    entry = prices.get(model)
    if entry is None and "/" in model:
        entry = prices.get(model.split("/", 1)[1])
    if entry is None:
        return None
    input_rate = _per_million(entry, "input_cost_per_token")
    output_rate = _per_million(entry, "output_cost_per_token")
    if input_rate is None or output_rate is None:
        return None
    return Price(
        input_usd_per_million_tokens=input_rate,
        output_usd_per_million_tokens=output_rate,
        cached_input_usd_per_million_tokens=_per_million(entry, "cache_read_input_token_cost"),
        cache_write_usd_per_million_tokens=_per_million(entry, "cache_creation_input_token_cost"),
        reasoning_usd_per_million_tokens=_per_million(entry, "output_cost_per_reasoning_token"),
        free=input_rate == 0 and output_rate == 0,
        source=f"litellm {version('litellm')} price map",
    )


def shipped_context_window(model: str) -> tuple[int | None, int | None]:
    """Prompt and completion token limits of ``model`` in the shipped map, each None if unknown."""
    entry = _price_map().get(model) or _price_map().get(model.split("/", 1)[-1]) or {}
    return entry.get("max_input_tokens"), entry.get("max_output_tokens")
