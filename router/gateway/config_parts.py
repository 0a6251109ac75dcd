"""The parts of the configuration beside its models: the machine, budgets, alerts, keys."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from cost_models.budgets import Budget, Period, zone
from cost_models.money import NANO_PER_USD
from cost_models.plans import HOURS_PER_DAY
from cost_models.rates import RateLimits
from policies.pacing import Pacing
from router.gateway.strict import Strict, wrong
from router.routing.cache import CacheSettings
from router.routing.signing import signing_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.routing.webhook import Webhook

MIN_KEY_LENGTH = 16
MIN_KEY_VARIETY = 8
MAX_RATE = 1_000_000_000
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"


def not_bool(value: object) -> object:
    """Refuse true and false, which are numbers to Python, where a number is needed."""
    if isinstance(value, bool):
        message = f"a number is needed here, got {str(value).lower()}"
        raise wrong(message)
    return value


Amount = Annotated[Decimal, BeforeValidator(not_bool), Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, BeforeValidator(not_bool), Field(allow_inf_nan=False)]
Seconds = Annotated[Number, Field(gt=0)]
Whole = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=1 << 53)]
Count = Annotated[int, BeforeValidator(not_bool), Field(ge=0, le=100)]
Rate = Annotated[int, BeforeValidator(not_bool), Field(ge=1, le=MAX_RATE)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class MachineConfig(Strict):
    """The owned machine that local models run on."""

    usd_per_hour: Annotated[Amount, Field(gt=0)]


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

    endpoint: Address
    service_name: Name = "rheostat"
    sample_ratio: Annotated[Number, Field(ge=0, le=1)] = 1.0


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


def _address(url: str) -> str:
    if not is_http(url):
        message = "an address such as http://127.0.0.1:9000/v1 is needed"
        raise wrong(message)
    return url


Address = Annotated[str, AfterValidator(_address)]


def double_of(names: Iterable[str]) -> str | None:
    """Give a name that is there twice, None where there is none."""
    return next((name for name, n in Counter(names).items() if n > 1), None)
