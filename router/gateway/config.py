"""The configuration: one YAML file, strict, with environment references, secrets hidden.

Amounts of money go from the file's text to Decimal without passing through binary floats.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Self

import yaml
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from cost_models.budgets import Period
from cost_models.pricing import DatedPrice, Price, PriceBook, shipped_price, slips
from router.errors import ConfigError, StrategyConfigError
from router.gateway.config_parts import (
    AlertsConfig,
    AuthConfig,
    BudgetConfig,
    CacheConfig,
    EmbeddingConfig,
    MachineConfig,
    ModelConfig,
    Name,
    Number,
    TelemetryConfig,
    Whole,
    double_of,
)
from router.gateway.settings import GatewaySettings
from router.gateway.strict import Problem, Strict, nearest, problems, wrong
from router.strategies.escalation import parse_escalation
from router.strategies.registry import parse_strategy

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from policies.pacing import Pacing

ORGANISATION = "organisation"
KEY_SCOPE = "key:"
FREE_KINDS = frozenset({"user", "session"})
"""Kinds of scopes whose names only clients know."""

LEDGERS = ("sqlite://", "postgresql+psycopg://")
SECRETS = frozenset({"api_key", "key", "pepper", "ledger", "base_url", "webhook", "secret"})
REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{")
PASSWORD = re.compile(r"(?<=://)[^/@]*@")
STR_TAG = "tag:yaml.org,2002:str"
INT_TAG = "tag:yaml.org,2002:int"
FLOAT_TAG = "tag:yaml.org,2002:float"


class Config(Strict):
    """The whole configuration, valid at birth.

    ``strategies`` and ``cascades`` are canonical texts. ``exploration`` is the share of requests
    that go to an arm at random, so that logged decisions stay reusable. ``accuracy_target`` and
    ``shadow_price`` (correct answers per USD) are what the policy aims at where a request says
    nothing. Requests may be tagged with ``tags``. ``max_body_bytes`` and ``request_timeout_s``
    bound each request.
    """

    ledger: str = Field(default="sqlite:///rheostat.db", repr=False)
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    embeddings: tuple[EmbeddingConfig, ...] = ()
    strategies: tuple[str, ...] = ("direct", "cot", "self_consistency(samples=5)")
    cascades: tuple[str, ...] = ()
    budgets: tuple[BudgetConfig, ...] = ()
    tags: tuple[Name, ...] = ()
    alerts: AlertsConfig = Field(default_factory=AlertsConfig)
    telemetry: TelemetryConfig | None = None
    auth: AuthConfig = Field(default_factory=AuthConfig)
    machine: MachineConfig | None = None
    default_max_tokens: Whole = 512
    min_max_tokens: Whole = 64
    exploration: Annotated[Number, Field(ge=0, le=1)] = 0.02
    accuracy_target: Annotated[Number, Field(gt=0, le=1)] | None = None
    shadow_price: Annotated[Number, Field(ge=0)] | None = None
    max_body_bytes: Whole = GatewaySettings().max_body_bytes
    request_timeout_s: Annotated[Number, Field(gt=0)] = 300.0
    cache: CacheConfig | None = None
    idempotency_ttl_s: Annotated[Number, Field(gt=0)] = 86_400.0
    budget_wait_s: Annotated[Number, Field(ge=0)] = 30.0
    keep_query_text: bool = True
    store_prompts: bool = False

    @field_validator("ledger")
    @classmethod
    def _is_a_ledger(cls, url: str) -> str:
        if not url.startswith(LEDGERS):
            message = "a ledger is sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
            raise wrong(message)
        return url

    @field_validator("strategies", mode="before")
    @classmethod
    def _are_strategies(cls, given: object) -> object:
        if not isinstance(given, list | tuple) or not given:
            message = "a list such as [direct, cot, {self_consistency: {samples: 5}}] is needed"
            raise wrong(message)
        texts = []
        for i, value in enumerate(given):
            try:
                texts.append(str(parse_strategy(_floats(value))))
            except StrategyConfigError as error:
                raise wrong(str(error), at=(i,)) from error
        if double := double_of(texts):
            message = f"{double!r} is there twice; remove one"
            raise wrong(message)
        return texts

    @field_validator("cascades", mode="before")
    @classmethod
    def _are_cascades(cls, given: object) -> object:
        if not isinstance(given, list | tuple):
            message = "a list such as [small|cot then escalate to large|direct] is needed"
            raise wrong(message)
        cascades = []
        for i, value in enumerate(given):
            try:
                cascades.append(parse_escalation(value))
            except StrategyConfigError as error:
                raise wrong(str(error), at=(i,)) from error
        if double := double_of(str(cascade.arm) for cascade in cascades):
            message = f"{double!r} is there twice; remove one"
            raise wrong(message)
        return [str(cascade) for cascade in cascades]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if double := double_of([m.name for m in self.models] + [e.name for e in self.embeddings]):
            message = f"two models are called {double!r}; give each a name of its own"
            raise wrong(message, at=("models",))
        if double := double_of(f"{b.scope} per {b.period}" for b in self.budgets):
            message = f"there are two budgets for {double}; remove one"
            raise wrong(message, at=("budgets",))
        for i, model in enumerate(self.models):
            self._check_price(i, model)
        for i, embedding in enumerate(self.embeddings):
            if self._embedding_price(embedding) is None:
                message = (
                    f"no price is known for {embedding.model!r}; add `price: "
                    "{input_usd_per_million_tokens: ...}`, or `price: {free: true}` if it is free"
                )
                raise wrong(message, at=("embeddings", i, "price"))
        for i, budget in enumerate(self.budgets):
            self._check_scope(i, budget)
        names = {model.name for model in self.models}
        for i, text in enumerate(self.cascades):
            missing = [s.model for s in parse_escalation(text).stages if s.model not in names]
            if missing:
                message = f"there is no model {missing[0]!r}; known: {', '.join(sorted(names))}"
                raise wrong(message, at=("cascades", i))
        return self

    def _check_price(self, i: int, model: ModelConfig) -> None:
        price = self._price_of(model)
        if price is None:
            message = (
                f"no price is known for {model.model!r}; add `price: "
                "{input_usd_per_million_tokens: ..., output_usd_per_million_tokens: ...}`, "
                "or `price: {free: true}` if it really is free"
            )
            if model.local_name is not None:
                message = (
                    f"{model.model!r} runs on this machine, whose price is not known; add "
                    "`machine: {usd_per_hour: ...}` to the file"
                )
            raise wrong(message, at=("models", i, "price"))
        if any(change.to_price().owned != price.owned for change in model.price_changes):
            message = "a model stays paid by machine time, or by what it uses, through its changes"
            raise wrong(message, at=("models", i, "price_changes"))
        if price.owned and model.local_name is None and not model.is_simulated:
            message = (
                "only models that run here (local/NAME) can be paid by machine time; "
                f"give {model.model!r} a price per token"
            )
            raise wrong(message, at=("models", i, "price", "usd_per_machine_hour"))
        if model.throughput is not None and not price.owned:
            message = "a throughput belongs to a model that is paid by machine time; remove it"
            raise wrong(message, at=("models", i, "throughput"))

    def _check_scope(self, i: int, budget: BudgetConfig) -> None:
        if problem := self.scope_problem(budget.scope):
            raise wrong(problem, at=("budgets", i, "scope"))

    def scope_problem(self, scope: str) -> str | None:
        """Say why nothing can spend under a budget's scope, None where something can."""
        kind, _, name = scope.partition(":")
        if name and kind in FREE_KINDS:
            return None
        if name and kind in {"key", "team"} and self.auth.pepper is not None:
            return None
        known = [
            ORGANISATION,
            *(KEY_SCOPE + name for name in self.key_names),
            *(f"team:{key.team}" for key in self.auth.keys if key.team is not None),
            *(f"tag:{tag}" for tag in self.tags),
        ]
        if scope in known:
            return None
        return f"{scope!r} names nothing that spends{nearest(scope, known)}"

    def price_of(self, model: ModelConfig) -> Price:
        """Price of a model of this configuration, from the file or the shipped price map."""
        price = self._price_of(model)
        if price is None:
            msg = f"no price is known for {model.model!r}; give it a `price:` in the config"
            raise ConfigError(msg)
        return price

    def embedding_price(self, embedding: EmbeddingConfig) -> Price:
        """Price of an embedding model of this configuration."""
        price = self._embedding_price(embedding)
        if price is None:
            msg = f"no price is known for {embedding.model!r}; give it a `price:` in the config"
            raise ConfigError(msg)
        return price

    def _embedding_price(self, embedding: EmbeddingConfig) -> Price | None:
        if embedding.price is not None:
            return embedding.price.to_price()
        return shipped_price(embedding.model)

    def dated_prices(self, model: ModelConfig) -> tuple[DatedPrice, ...]:
        """Every price of a model under its name here, with the day from which it holds."""
        changes = (
            DatedPrice(model.name, change.to_price(), change.valid_from)
            for change in model.price_changes
        )
        return (DatedPrice(model.name, self.price_of(model)), *changes)

    def price_book(self) -> PriceBook:
        """Every price of every model."""
        embeddings = (DatedPrice(e.name, self.embedding_price(e)) for e in self.embeddings)
        models = (e for model in self.models for e in self.dated_prices(model))
        return PriceBook((*models, *embeddings))

    def price_slips(self) -> list[str]:
        """Say which prices are so far from the shipped list that a unit was mistaken."""
        told = []
        for model in self.models:
            listed = shipped_price(model.model)
            if listed is None:
                continue
            for dated in self.dated_prices(model):
                for name, (mine, theirs) in slips(dated.price, listed).items():
                    times = max(mine, theirs) / min(mine, theirs)
                    told.append(
                        f"model {model.name!r}: {name} is {mine.normalize():f}, and "
                        f"{theirs.normalize():f} in the shipped list, {times:,.0f} times apart; "
                        "prices are per million tokens"
                    )
        return told

    def _price_of(self, model: ModelConfig) -> Price | None:
        if model.price is not None:
            return model.price.to_price()
        if model.local_name is None:
            return shipped_price(model.model)
        if self.machine is None:
            return None
        return Price(usd_per_machine_hour=self.machine.usd_per_hour, source="config machine")

    @property
    def key_names(self) -> list[str]:
        """Names of the keys of the file, which are the tenants; `default` where there are none."""
        return [key.name for key in self.auth.keys] or ["default"]

    @property
    def uses_local_models(self) -> bool:
        """True when a model runs in this process."""
        return any(model.local_name is not None for model in self.models)

    @property
    def ledger_shown(self) -> str:
        """The ledger's address without user and password."""
        return PASSWORD.sub("***@", self.ledger)

    def gateway_settings(self) -> GatewaySettings:
        """Give what the HTTP face needs to know."""
        keys = {key.name: key.key.get_secret_value() for key in self.auth.keys}
        pepper = self.auth.pepper
        return GatewaySettings(
            default_max_tokens=self.default_max_tokens,
            min_max_tokens=self.min_max_tokens,
            max_body_bytes=self.max_body_bytes,
            keys=keys if self.auth.mode == "keys" else None,
            teams={key.name: key.team for key in self.auth.keys if key.team is not None},
            limits={key.name: key.to_limits() for key in self.auth.keys},
            tags=frozenset(self.tags),
            pepper=None if pepper is None else pepper.get_secret_value(),
        )

    def paced(self) -> dict[tuple[str, str], Pacing]:
        """Give how budgets are paced, by scope and period, those that are."""
        return {
            (budget.scope, budget.period.value): budget.pacing.to_pacing()
            for budget in self.budgets
            if budget.pacing is not None
        }

    def show(self) -> str:
        """Give the configuration as YAML, defaults included, secrets hidden."""
        return dump(self.shown())

    def shown(self) -> dict[str, Any]:
        """Give the configuration as plain data, defaults included, secrets hidden."""
        found: dict[str, Any] = _shown(self.model_dump())
        return found


def dump(data: Mapping[str, Any]) -> str:
    """Give plain data as YAML, amounts exact."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration in ``path``; ``environ`` defaults to the process's environment.

    Raises ConfigError that names the line, the key, and what to write instead.
    """
    text = read_text(path)
    return parse(text, str(path), os.environ if environ is None else environ)


def read_text(path: Path) -> str:
    """Read a configuration's file; ConfigError that says what to do where it cannot be read."""
    try:
        return Path(path).read_text("utf-8")
    except FileNotFoundError as error:
        msg = f"there is no configuration {path}; write one with `rheostat init {path}`"
        raise ConfigError(msg) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        msg = f"the configuration {path} cannot be read: {reason}"
        raise ConfigError(msg) from error


def parse(text: str, source: str, environ: Mapping[str, str]) -> Config:
    """Read the configuration in ``text``; ``source`` is what errors call it."""
    root, data = read_yaml(text, source, environ)
    if not isinstance(data, dict):
        what = "is empty" if data is None else "is not a mapping of keys to values"
        msg = f"the configuration {source} {what}; see `rheostat init` for a first one"
        raise ConfigError(msg)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        found = problems(error.errors(include_url=False), SECRETS)
        lines = [f"{source}, line {_line(root, p)}: {p.place}: {p.message}" for p in found]
        raise ConfigError("\n".join(lines)) from error


def read_yaml(text: str, source: str, environ: Mapping[str, str]) -> tuple[yaml.Node | None, Any]:
    """Read one document as its nodes and its plain value; ConfigError where it is not YAML."""
    try:
        loader = _Loader(text, source, environ)
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(error, source, text)) from error


class _Loader(yaml.SafeLoader):
    """YAML without doubled keys or binary floats, with references to the environment."""

    def __init__(self, text: str, source: str, environ: Mapping[str, str]) -> None:
        super().__init__(text)
        self.source = source
        self.environ = environ

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - overrides
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fail(key, "a key is plain text")
            if key.value in seen:
                self._fail(key, f"the key {key.value!r} is there twice; remove one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> Decimal:
        text = str(node.value).replace("_", "").replace(".inf", "Infinity").replace(".nan", "NaN")
        try:
            return Decimal(text)
        except InvalidOperation:
            self._fail(node, f"{node.value!r} is not a number; write one such as 0.25")

    def construct_text(self, node: yaml.ScalarNode) -> str:
        def value_of(reference: re.Match[str]) -> str:
            name, default = reference["name"], reference["default"]
            if name is None and reference[0] == "$$":
                return "$"
            if name is None:
                self._fail(node, "a reference is ${NAME} or ${NAME:-default}; a plain $ is $$")
            value = self.environ.get(name)
            if default is not None:
                return value or default
            if value is None:
                self._fail(
                    node,
                    f"the environment variable {name} is not set; "
                    f"export it, or write ${{{name}:-default}}",
                )
            return value

        return REFERENCE.sub(value_of, str(node.value))

    def _fail(self, node: yaml.Node, message: str) -> NoReturn:
        msg = f"{self.source}, line {node.start_mark.line + 1}: {message}"
        raise ConfigError(msg)


_Loader.add_constructor(FLOAT_TAG, _Loader.construct_decimal)
_Loader.add_constructor(STR_TAG, _Loader.construct_text)


class _Dumper(yaml.SafeDumper):
    """YAML with exact amounts."""


def _represent_decimal(dumper: _Dumper, value: Decimal) -> yaml.Node:
    text = format(value, "f")
    return dumper.represent_scalar(FLOAT_TAG if "." in text else INT_TAG, text)


_Dumper.add_representer(Decimal, _represent_decimal)


def _shown(value: Any) -> Any:  # noqa: ANN401 - any value of a configuration
    """Give ``value`` as plain data without what was left out, secrets hidden."""
    if isinstance(value, dict):
        return {k: _shown(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, Period):
        return value.value
    if isinstance(value, str):
        return PASSWORD.sub("***@", value)
    return value


def _floats(value: Any) -> Any:  # noqa: ANN401 - any value of a configuration
    """Give the parameters of a strategy, which are no money, as binary floats."""
    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    return float(value) if isinstance(value, Decimal) else value


def _line(root: yaml.Node | None, problem: Problem) -> int:
    """Line of the deepest part of the problem's path that is in the file, from 1."""
    node, line = root, 1
    for part in problem.path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            item = node.value[part] if part < len(node.value) else None
            found = (item, item) if item is not None else None
        else:
            found = None
        if found is None:
            break
        line = found[0].start_mark.line + 1
        node = found[1]
    return line


def _yaml_problem(error: yaml.YAMLError, source: str, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{source}, line {mark.line + 1}" if mark is not None else source
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    lines = text.splitlines()
    hint = ""
    if mark is not None and mark.line < len(lines) and "${" in lines[mark.line]:
        hint = '; inside { } and [ ] a reference needs quotes: "${NAME}"'
    return f"{where}: this is not valid YAML: {reason}{hint}"
