"""A model of the configuration: who serves it and where, what it charges, how long it may take."""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic reads it when it runs
from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from cost_models.errors import PriceConfigError
from cost_models.estimates import Throughput
from cost_models.pricing import Price
from router.gateway.config_parts import (
    Address,
    Amount,
    Name,
    Number,
    Seconds,
    Whole,
    double_of,
)
from router.gateway.strict import Strict, nearest, wrong
from router.providers.breaker import BreakerSettings
from router.providers.simulated import PREFIX as SIMULATED_PREFIX
from router.providers.simulated import SIMULATED_MODELS
from router.providers.timeouts import Timeouts
from router.providers.weights import manifest
from router.routing.types import is_auto

LOCAL = "local/"
SIMULATED = "simulated/"


class PriceConfig(Strict):
    """What a model charges, in USD; see `cost_models.pricing.Price`."""

    input_usd_per_million_tokens: Amount = Decimal(0)
    output_usd_per_million_tokens: Amount = Decimal(0)
    cached_input_usd_per_million_tokens: Amount | None = None
    cache_write_usd_per_million_tokens: Amount | None = None
    reasoning_usd_per_million_tokens: Amount | None = None
    usd_per_request: Amount = Decimal(0)
    usd_per_machine_hour: Amount = Decimal(0)
    free: bool = False

    @model_validator(mode="after")
    def _is_a_price(self) -> Self:
        try:
            self.to_price()
        except PriceConfigError as error:
            raise wrong(str(error)) from error
        return self

    def to_price(self) -> Price:
        """Give the price; raise PriceConfigError when every rate is 0 and ``free`` is not said."""
        return Price(**self.model_dump(), source="config")


class PriceChangeConfig(PriceConfig):
    """A price that takes the place of the one before on a day, at midnight UTC."""

    valid_from: date

    def to_price(self) -> Price:
        """Give the price; its source says since when it holds."""
        rates = self.model_dump(exclude={"valid_from"})
        return Price(**rates, source=f"config from {self.valid_from.isoformat()}")


class ThroughputConfig(Strict):
    """How fast a local model is; measured at its first use when it is left out."""

    prompt_tokens_per_s: Annotated[Number, Field(gt=0)]
    completion_tokens_per_s: Annotated[Number, Field(gt=0)]
    worst_case_slowdown: Annotated[Number, Field(ge=1)] = 4.0

    def to_throughput(self) -> Throughput:
        """Give the throughput as `cost_models` knows it."""
        return Throughput(**self.model_dump())


class TimeoutsConfig(Strict):
    """Seconds that each phase of an upstream call may take; see `router.providers.timeouts`."""

    connect_s: Seconds = Timeouts().connect_s
    first_token_s: Seconds = Timeouts().first_token_s
    between_tokens_s: Seconds = Timeouts().between_tokens_s
    total_s: Seconds = Timeouts().total_s

    def to_timeouts(self) -> Timeouts:
        """Give the time-outs as the providers know them."""
        return Timeouts(**self.model_dump())


class BreakerConfig(Strict):
    """When a deployment that fails is left alone; see `router.providers.breaker`."""

    failures: Annotated[Whole, Field(le=20)] = BreakerSettings().failures
    open_s: Seconds = BreakerSettings().open_s
    max_open_s: Seconds = BreakerSettings().max_open_s

    def to_settings(self) -> BreakerSettings:
        """Give the settings as the providers know them."""
        return BreakerSettings(**self.model_dump())


class DeploymentConfig(Strict):
    """One place where a model is served; ``model`` and ``price`` None are those of the model."""

    name: Name
    model: Annotated[str, Field(min_length=1)] | None = None
    base_url: Address | None = Field(default=None, repr=False)
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    price: PriceConfig | None = None


class ServedConfig(Strict):
    """What is served: ``name`` is what clients and reports see, ``model`` its litellm form."""

    name: Name
    model: Annotated[str, Field(min_length=1)]
    base_url: Address | None = Field(default=None, repr=False)
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    price: PriceConfig | None = None


class ModelConfig(ServedConfig):
    """One model that answers."""

    price_changes: tuple[PriceChangeConfig, ...] = ()
    context_tokens: Whole | None = None
    max_output_tokens: Whole | None = None
    throughput: ThroughputConfig | None = None
    timeouts: TimeoutsConfig | None = None
    breaker: BreakerConfig | None = None
    deployments: tuple[DeploymentConfig, ...] = ()
    fallbacks: tuple[Name, ...] = ()
    hedge_quantile: Annotated[Number, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _is_asked_over_the_network(self) -> Self:
        for key in ("timeouts", "breaker", "deployments"):
            if getattr(self, key) and not self.is_remote:
                message = f"{self.model!r} runs in this process; remove what is for upstreams"
                raise wrong(message, at=(key,))
        return self

    @model_validator(mode="after")
    def _has_deployments_that_fit(self) -> Self:
        if self.hedge_quantile is not None and len(self.deployments) < 2:  # noqa: PLR2004 - the second one
            message = "the second call goes to another deployment; give the model two at least"
            raise wrong(message, at=("hedge_quantile",))
        if not self.deployments:
            return self
        for key in ("base_url", "api_key"):
            if getattr(self, key) is not None:
                message = f"each of the deployments has its own {key}; move it there"
                raise wrong(message, at=(key,))
        if double := double_of(deployment.name for deployment in self.deployments):
            message = f"two deployments are called {double!r}; give each a name of its own"
            raise wrong(message, at=("deployments",))
        for i, deployment in enumerate(self.deployments):
            if deployment.model is not None and deployment.model.startswith((LOCAL, SIMULATED)):
                message = f"{deployment.model!r} runs in this process and is no deployment"
                raise wrong(message, at=("deployments", i, "model"))
            if deployment.price is not None and self.price_changes:
                message = "prices that change are for a model whose deployments cost the same"
                raise wrong(message, at=("deployments", i, "price"))
            if deployment.price is not None and deployment.price.usd_per_machine_hour:
                message = "a deployment is paid by what it uses; give it a price per token"
                raise wrong(message, at=("deployments", i, "price", "usd_per_machine_hour"))
        return self

    @field_validator("name")
    @classmethod
    def _is_not_reserved(cls, name: str) -> str:
        return _unreserved(name)

    @field_validator("model")
    @classmethod
    def _is_known_here(cls, model: str) -> str:
        for prefix, names in ((LOCAL, manifest()), (SIMULATED, SIMULATED_MODELS)):
            name = model.removeprefix(prefix)
            if name != model and name.removeprefix(SIMULATED_PREFIX) not in names:
                known = [prefix + name for name in names]
                message = f"there is no model {model!r}{nearest(model, known)}"
                raise wrong(message)
        return model

    @field_validator("price_changes")
    @classmethod
    def _are_in_order(cls, changes: tuple[PriceChangeConfig, ...]) -> tuple[PriceChangeConfig, ...]:
        days = [change.valid_from for change in changes]
        if days != sorted(set(days)):
            message = "each change needs a later valid_from than the one before"
            raise wrong(message)
        return changes

    @property
    def served_at(self) -> tuple[DeploymentConfig, ...]:
        """Give its deployments; one without a name where the model itself says where it is."""
        if self.deployments:
            return self.deployments
        return (
            DeploymentConfig.model_construct(name="", base_url=self.base_url, api_key=self.api_key),
        )

    @property
    def has_own_prices(self) -> bool:
        """True where a deployment may charge something else than the model's price says."""
        return any(d.price or d.model for d in self.deployments)

    @property
    def local_name(self) -> str | None:
        """Name of the embedded weights, None for a model that runs elsewhere."""
        return self.model.removeprefix(LOCAL) if self.model.startswith(LOCAL) else None

    @property
    def is_remote(self) -> bool:
        """True for a model that is asked over the network."""
        return self.local_name is None and not self.is_simulated

    @property
    def is_simulated(self) -> bool:
        """True for a simulated model."""
        return self.model.startswith(SIMULATED)


class EmbeddingConfig(ServedConfig):
    """One embedding model."""

    @field_validator("name")
    @classmethod
    def _is_not_reserved(cls, name: str) -> str:
        return _unreserved(name)

    @field_validator("model")
    @classmethod
    def _runs_elsewhere(cls, model: str) -> str:
        if model.startswith((LOCAL, SIMULATED)):
            message = "embeddings come from upstreams alone; name a model such as openai/NAME"
            raise wrong(message)
        return model


def _unreserved(name: str) -> str:
    if is_auto(name):
        message = f"{name!r} is reserved for routing; give the model another name"
        raise wrong(message)
    return name
