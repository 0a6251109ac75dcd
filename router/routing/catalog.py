"""What can be used: configured models with their prices, configured strategies, and their arms."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cost_models.pricing import PriceBook
from cost_models.types import Arm
from router.providers.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from cost_models.estimates import Throughput
    from cost_models.pricing import Price
    from router.providers.base import Provider
    from router.strategies.base import Strategy
    from router.strategies.escalation import Escalation


@dataclass(frozen=True, slots=True)
class Model:
    """A configured model. ``throughput`` is given for a model on an owned machine, else None.

    ``context_tokens`` bounds prompt plus completion, ``max_output_tokens`` one completion; None
    when the upstream states no limit. ``vendor`` is who serves it, as the configuration says.
    ``fallbacks`` are models that serve a request for it when it fails.
    """

    name: str
    provider: Provider
    price: Price
    throughput: Throughput | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    simulated: bool = False
    vendor: str = ""
    fallbacks: tuple[str, ...] = ()

    @property
    def pool(self) -> Pool | None:
        """Its deployments, None for a model of this process."""
        return self.provider if isinstance(self.provider, Pool) else None

    @property
    def n_at_once(self) -> int:
        """How many upstream calls one call can become: two where it may be hedged."""
        return 2 if self.pool is not None and self.pool.hedges else 1

    @property
    def usd_per_million_tokens(self) -> float:
        """A single figure to order models by size: output price, or that of a busy machine."""
        usd = float(self.price.output_usd_per_million_tokens)
        if self.throughput is not None:
            hours = 1e6 / self.throughput.completion_tokens_per_s / 3600
            usd += float(self.price.usd_per_machine_hour) * hours
        return usd


@dataclass(frozen=True, slots=True)
class Catalog:
    """Models by shown name and strategies by canonical text, in the order of the config.

    ``prices`` has those models whose price changes on a day, by their shown names. ``cascades``
    are by the strategy part of their arms; their stages name models of the catalog.
    """

    models: Mapping[str, Model]
    strategies: Mapping[str, Strategy]
    prices: PriceBook = field(default_factory=PriceBook)
    cascades: Mapping[str, Escalation] = field(default_factory=dict)

    def on(self, day: date) -> Catalog:
        """Give the catalog with the prices of a day."""
        if not self.prices.entries:
            return self
        changing = {entry.model for entry in self.prices.entries}
        models = {
            name: replace(model, price=self.prices.price(name, day)) if name in changing else model
            for name, model in self.models.items()
        }
        return replace(self, models=models)

    @property
    def down(self) -> list[str]:
        """Names of the models whose upstreams are all left alone for now."""
        pools = ((name, model.pool) for name, model in self.models.items())
        return [name for name, pool in pools if pool is not None and not pool.takes_calls]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every model with every strategy."""
        return tuple(Arm(m, s) for m in self.models for s in self.strategies)

    def by_price(self) -> tuple[Model, ...]:
        """Models from the cheapest to the dearest per token; ties keep the config's order."""
        return tuple(sorted(self.models.values(), key=lambda m: m.usd_per_million_tokens))
