"""The parts of the configuration: models with their prices, the machine, budgets, keys."""

from __future__ import annotations

from collections import Counter
from datetime import date  # noqa: TC003 - pydantic reads it when it runs
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from cost_models.budgets import Budget, Period, zone
from cost_models.errors import PriceConfigError
from cost_models.estimates import Throughput
from cost_models.money import NANO_PER_USD
from cost_models.plans import HOURS_PER_DAY
from cost_models.pricing import Price
from cost_models.rates import RateLimits
from policies.pacing import Pacing
from router.gateway.strict import Strict, nearest, wrong
from router.providers.simulated import PREFIX as SIMULATED_PREFIX
from router.providers.simulated import SIMULATED_MODELS
from router.providers.weights import manifest
from router.routing.cache import CacheSettings
from router.routing.signing import signing_key
from router.routing.types import is_auto

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.routing.webhook import Webhook

LOCAL = "local/"
SIMULATED = "simulated/"
MIN_KEY_LENGTH = 16
MIN_KEY_VARIETY = 8
MAX_RATE = 1_000_000_000
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        message = f"a number is needed here, got {str(value).lower()}"
        raise wrong(message)
    return value


Amount = Annotated[Decimal, BeforeValidator(_not_bool), Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=1 << 53)]
Rate = Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=MAX_RATE)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


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


class MachineConfig(Strict):
    """The owned machine that local models run on."""

    usd_per_hour: Annotated[Amount, Field(gt=0)]


class ThroughputConfig(Strict):
    """How fast a local model is; measured at its first use when it is left out."""

    prompt_tokens_per_s: Annotated[Number, Field(gt=0)]
    completion_tokens_per_s: Annotated[Number, Field(gt=0)]
    worst_case_slowdown: Annotated[Number, Field(ge=1)] = 4.0

    def to_throughput(self) -> Throughput:
        """Give the throughput as `cost_models` knows it."""
        return Throughput(**self.model_dump())


class ModelConfig(Strict):
    """One model: ``name`` is what clients and reports see, ``model`` its litellm form."""

    name: Name
    model: Annotated[str, Field(min_length=1)]
    base_url: str | None = Field(default=None, repr=False)
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    price: PriceConfig | None = None
    price_changes: tuple[PriceChangeConfig, ...] = ()
    context_tokens: Whole | None = None
    max_output_tokens: Whole | None = None
    throughput: ThroughputConfig | None = None

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

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        return _http(url)

    @property
    def local_name(self) -> str | None:
        """Name of the embedded weights, None for a model that runs elsewhere."""
        return self.model.removeprefix(LOCAL) if self.model.startswith(LOCAL) else None

    @property
    def is_simulated(self) -> bool:
        """True for a simulated model."""
        return self.model.startswith(SIMULATED)


class PacingConfig(Strict):
    """How the shadow price follows spending; see `policies.pacing.Pacing`."""

    keep_accuracy_target: bool = False
    gain: Annotated[Number, Field(gt=0, le=10_000)] = Pacing().gain
    min_price_factor: Annotated[Number, Field(gt=0, le=1)] = Pacing().min_factor
    max_price_factor: Annotated[Number, Field(gt=1, le=1e9)] = Pacing().max_factor
    hours: tuple[Annotated[Number, Field(ge=0)], ...] | None = None

    @field_validator("hours")
    @classmethod
    def _is_a_day(cls, hours: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if hours is not None and (len(hours) != HOURS_PER_DAY or not sum(hours)):
            message = f"24 weights are needed, from midnight on, not all 0; got {len(hours)}"
            raise wrong(message)
        return hours

    def to_pacing(self) -> Pacing:
        """Give the law."""
        return Pacing(
            gain=self.gain,
            min_factor=self.min_price_factor,
            max_factor=self.max_price_factor,
            keep_accuracy_target=self.keep_accuracy_target,
            hours=self.hours,
        )


class EmbeddingConfig(Strict):
    """One embedding model: ``name`` is what clients and reports see, ``model`` its litellm form."""

    name: Name
    model: Annotated[str, Field(min_length=1)]
    base_url: str | None = Field(default=None, repr=False)
    api_key: Annotated[SecretStr, Field(min_length=1)] | None = None
    price: PriceConfig | None = None

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

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str | None) -> str | None:
        return _http(url)


def _unreserved(name: str) -> str:
    if is_auto(name):
        message = f"{name!r} is reserved for routing; give the model another name"
        raise wrong(message)
    return name


def _http(url: str | None) -> str | None:
    if url is not None and not is_http(url):
        message = "an address such as http://127.0.0.1:9000/v1 is needed"
        raise wrong(message)
    return url


class BudgetConfig(Strict):
    """At most ``limit_usd`` of ``scope`` in each period; a ``soft`` one warns and refuses nothing.

    A scope is ``organisation``, or one of the kinds of `router.routing.scopes` with a name, such as
    ``key:NAME``, or ``user:NAME``, an end user as clients name them.
    """

    scope: Annotated[str, Field(min_length=1)]
    limit_usd: Amount
    period: Period
    time_zone: str = "UTC"
    soft: bool = False
    pacing: PacingConfig | None = None

    @model_validator(mode="after")
    def _can_be_paced(self) -> Self:
        if self.pacing is not None and self.period is Period.TOTAL:
            message = "pacing needs a period that ends: day, week or month"
            raise wrong(message, at=("pacing",))
        return self

    @field_validator("period")
    @classmethod
    def _is_no_balance(cls, period: Period) -> Period:
        if period is Period.PREPAID:
            message = "a prepaid budget is made by `rheostat budget grant SCOPE --usd AMOUNT`"
            raise wrong(message)
        return period

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            zone(name)
        except ValueError as error:
            raise wrong(str(error)) from error
        return name

    def to_budget(self) -> Budget:
        """Give the budget; what is finer than a nano-USD is cut off."""
        limit_nano_usd = int(self.limit_usd * NANO_PER_USD)
        return Budget(self.scope, self.period, limit_nano_usd, self.time_zone, self.soft)


class CacheConfig(Strict):
    """A cache of answers to requests that are repeated word for word by the same tenant."""

    ttl_s: Annotated[Number, Field(gt=0)]
    max_entries: Whole = 10_000
    max_bytes: Whole = 64 << 20

    def to_settings(self) -> CacheSettings:
        """Give the settings as the engine knows them."""
        return CacheSettings(**self.model_dump())


class TelemetryConfig(Strict):
    """OpenTelemetry over HTTP; headers and certificates come from its own environment variables."""

    endpoint: Annotated[str, Field(min_length=1)]
    service_name: Name = "rheostat"
    sample_ratio: Annotated[Number, Field(ge=0, le=1)] = 1.0

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, url: str) -> str | None:
        return _http(url)


class AlertsConfig(Strict):
    """Where alerts go beside the log; ``secret`` is what the events are signed with."""

    webhook: Annotated[SecretStr, Field(min_length=1)] | None = None
    secret: Annotated[SecretStr, Field(min_length=16)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.webhook is None:
            if self.secret is not None:
                message = "a secret signs nothing without a webhook; name one, or remove it"
                raise wrong(message, at=("secret",))
            return self
        if self.secret is not None and not _is_signing_key(self.secret.get_secret_value()):
            message = "after whsec_ a key of at least 16 bytes in base64 is needed"
            raise wrong(message, at=("secret",))
        if not is_http(self.webhook.get_secret_value()):
            message = "an address such as https://alerts.example.com/rheostat is needed"
            raise wrong(message, at=("webhook",))
        return self

    def to_webhook(self) -> Webhook | None:
        """Give the address, None where alerts go to the log alone."""
        if self.webhook is None:
            return None
        from router.routing.webhook import Webhook  # noqa: PLC0415 - it loads an HTTP client, and reading a file must not

        secret = None if self.secret is None else self.secret.get_secret_value()
        return Webhook(self.webhook.get_secret_value(), secret)


class KeyConfig(Strict):
    """A static key; its name is the tenant that it stands for, and may ask so fast."""

    name: Name
    team: Name | None = None
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    parallel_requests: Rate | None = None
    key: SecretStr

    @field_validator("key")
    @classmethod
    def _is_hard_to_guess(cls, key: SecretStr) -> SecretStr:
        text = key.get_secret_value()
        if len(text) < MIN_KEY_LENGTH or len(set(text)) < MIN_KEY_VARIETY:
            message = (
                f"a key needs at least {MIN_KEY_LENGTH} characters, {MIN_KEY_VARIETY} of them "
                "different, that nobody can guess; make one with `openssl rand -hex 24`"
            )
            raise wrong(message)
        return key

    def to_limits(self) -> RateLimits:
        """Give how fast it may ask."""
        return RateLimits(self.requests_per_minute, self.tokens_per_minute, self.parallel_requests)


class AuthConfig(Strict):
    """``open`` lets everybody in; ``keys`` asks for a key on every route but probes.

    With a ``pepper``, the secret that hashes are keyed by, keys of the ledger open as well.
    """

    mode: Literal["open", "keys"] = "open"
    keys: tuple[KeyConfig, ...] = ()
    pepper: Annotated[SecretStr, Field(min_length=16)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.mode == "keys" and not self.keys and self.pepper is None:
            message = "mode 'keys' needs at least one key, or a pepper for the ledger's"
            raise wrong(message, at=("keys",))
        if self.mode == "open" and self.keys:
            message = "keys protect nothing in mode 'open'; say `mode: keys`, or remove them"
            raise wrong(message, at=("mode",))
        if self.mode == "open" and self.pepper is not None:
            message = "a pepper protects nothing in mode 'open'; say `mode: keys`, or remove it"
            raise wrong(message, at=("mode",))
        if double := double_of(key.name for key in self.keys):
            message = f"two keys are called {double!r}; give each a name of its own"
            raise wrong(message, at=("keys",))
        if double_of(key.key.get_secret_value() for key in self.keys):
            message = "two keys are the same; give each name a key of its own"
            raise wrong(message, at=("keys",))
        return self


def _is_signing_key(secret: str) -> bool:
    try:
        return len(signing_key(secret)) >= MIN_KEY_LENGTH
    except ValueError:
        return False


def is_http(url: str) -> bool:
    """Tell whether ``url`` is a whole address of http or https."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def double_of(names: Iterable[str]) -> str | None:
    """Give a name that is there twice, None where there is none."""
    return next((name for name, n in Counter(names).items() if n > 1), None)
