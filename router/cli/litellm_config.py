"""A LiteLLM proxy's configuration turned into one of ours; what has no place here is named.

Only the file is read. Keys that stand in it in clear are not copied: the new file refers to the
environment in their place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cost_models.pricing import shipped_price
from router.errors import ConfigError
from router.gateway.config import dump, read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRON = "os.environ/"
MILLION = Decimal(1_000_000)
RATES = {
    "input_cost_per_token": "input_usd_per_million_tokens",
    "output_cost_per_token": "output_usd_per_million_tokens",
    "cache_read_input_token_cost": "cached_input_usd_per_million_tokens",
    "cache_creation_input_token_cost": "cache_write_usd_per_million_tokens",
    "output_cost_per_reasoning_token": "reasoning_usd_per_million_tokens",
}
PERIODS = {"1d": "day", "24h": "day", "7d": "week", "1w": "week", "30d": "month", "1mo": "month"}
PARAMS = frozenset({"model", "api_base", "base_url", "api_key", *RATES})
INFO = frozenset({"mode", "max_output_tokens", "max_input_tokens", "id", "base_model", *RATES})
CHAT_MODES = frozenset({None, "chat", "completion", "responses"})
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")

Object = dict[str, Any]


@dataclass(slots=True)
class Imported:
    """A configuration as YAML, what could not be mapped, by its place, and what is left to do."""

    text: str
    unmapped: list[str]
    to_do: list[str]


@dataclass(slots=True)
class _Import:
    """One import under way."""

    models: list[Object] = field(default_factory=list)
    embeddings: list[Object] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)

    def model(self, entry: object, at: str) -> None:
        """Map one entry of ``model_list``."""
        if not isinstance(entry, dict) or not isinstance(entry.get("litellm_params"), dict):
            self.unmapped.append(f"{at}: no model with litellm_params")
            return
        name, params = entry.get("model_name"), entry["litellm_params"]
        info = entry["model_info"] if isinstance(entry.get("model_info"), dict) else {}
        here = f"{at} ({name})"
        if not isinstance(name, str) or not NAME.match(name) or "*" in str(params.get("model")):
            self.unmapped.append(f"{here}: only models with a plain name of their own are served")
            return
        if name in {model["name"] for model in (*self.models, *self.embeddings)}:
            self.unmapped.append(f"{here}: another deployment of a name that is there already")
            return
        mode = info.get("mode")
        if mode not in CHAT_MODES and mode != "embedding":
            self.unmapped.append(f"{here}: models of the mode {mode!r} are not served")
            return
        made: Object = {"name": name, "model": _model(params)}
        base_url = params.get("api_base") or params.get("base_url")
        if base_url is not None:
            made["base_url"] = self._text(base_url)
        if params.get("api_key") is not None:
            made["api_key"] = self._secret(params["api_key"], f"{name}_API_KEY", here)
        self._price(made, {**info, **params}, here)
        if mode != "embedding" and info.get("max_output_tokens"):
            made["max_output_tokens"] = info["max_output_tokens"]
        if mode != "embedding" and info.get("max_input_tokens"):
            made["context_tokens"] = info["max_input_tokens"]
        self._left(params, PARAMS, f"{here}.litellm_params")
        self._left(info, INFO, f"{here}.model_info")
        self._left(entry, {"model_name", "litellm_params", "model_info"}, here)
        (self.embeddings if mode == "embedding" else self.models).append(made)

    def settings(self, whole: Mapping[str, Any]) -> Object:
        """Map the settings beside the models."""
        made: Object = {}
        general, library = _section(whole, "general_settings"), _section(whole, "litellm_settings")
        if general.get("master_key") is not None:
            key = self._secret(general["master_key"], "MASTER_KEY", "general_settings.master_key")
            made["auth"] = {"mode": "keys", "keys": [{"name": "admin", "key": key}]}
        budget = self._budget(library, "litellm_settings")
        if budget is not None:
            made["budgets"] = [budget]
        if library.get("request_timeout") is not None:
            made["request_timeout_s"] = library["request_timeout"]
        ttl = _section(library, "cache_params").get("ttl")
        if library.get("cache") is True and ttl is not None:
            made["cache"] = {"ttl_s": ttl}
        known = {"max_budget", "budget_duration", "request_timeout"}
        if "cache" in made:
            known |= {"cache", "cache_params"}
            others = _section(library, "cache_params")
            self._left(others, {"ttl"}, "litellm_settings.cache_params")
        self._left(library, known, "litellm_settings")
        self._left(general, {"master_key"}, "general_settings")
        for name, section in whole.items():
            if name in {"model_list", "general_settings", "litellm_settings"}:
                continue
            if isinstance(section, dict):
                self._left(section, (), name)
            else:
                self.unmapped.append(name)
        return made

    def _budget(self, settings: Mapping[str, Any], at: str) -> Object | None:
        limit, duration = settings.get("max_budget"), settings.get("budget_duration")
        if limit is None:
            return None
        period = "total" if duration is None else PERIODS.get(str(duration))
        if period is None:
            self.unmapped.append(f"{at}.max_budget: there is no period of {duration!r}")
            return None
        return {"scope": "organisation", "limit_usd": limit, "period": period}

    def _price(self, made: Object, rates: Mapping[str, Any], here: str) -> None:
        price = {
            ours: _decimal(rates[theirs]) * MILLION
            for theirs, ours in RATES.items()
            if rates.get(theirs) is not None
        }
        if any(price.values()):
            made["price"] = {name: _plain(rate) for name, rate in price.items()}
        elif price:
            made["price"] = {"free": True}
        elif shipped_price(made["model"]) is None:
            self.to_do.append(f"{here}: no price is known; add `price:` to the model")

    def _text(self, value: object) -> str:
        text = str(value)
        if text.startswith(ENVIRON):
            return f"${{{text.removeprefix(ENVIRON)}}}"
        return text.replace("$", "$$")

    def _secret(self, value: object, name: str, at: str) -> str:
        text = str(value)
        if text.startswith(ENVIRON):
            return self._text(text)
        variable = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
        variable = f"_{variable}" if variable[:1].isdigit() else variable
        self.to_do.append(f"{at}: its key is not copied; export {variable}=...")
        return f"${{{variable}}}"

    def _left(self, given: Mapping[str, Any], known: object, at: str) -> None:
        names: Any = known
        self.unmapped += [f"{at}.{name}" for name in given if name not in names]


def import_litellm(text: str, source: str) -> Imported:
    """Turn a LiteLLM proxy's configuration into one of ours.

    Raises ConfigError where it is not YAML, or has no model that can be served.
    """
    whole = read_yaml(text.replace("$", "$$"), source, {})[1]
    listed = whole.get("model_list") if isinstance(whole, dict) else None
    if not isinstance(listed, list) or not listed:
        msg = f"{source} has no model_list, so it is no configuration of a LiteLLM proxy"
        raise ConfigError(msg)
    work = _Import()
    for i, entry in enumerate(listed):
        work.model(entry, f"model_list[{i}]")
    if not work.models:
        msg = f"no model of {source} can be served here: {'; '.join(work.unmapped)}"
        raise ConfigError(msg)
    made: Object = {"ledger": "sqlite:///rheostat.db", "models": work.models}
    if work.embeddings:
        made["embeddings"] = work.embeddings
    made |= work.settings(whole)
    head = [f"# From {source}, a configuration of a LiteLLM proxy."]
    head += [f"# To do: {line}" for line in work.to_do]
    head += [f"# Not mapped: {line}" for line in work.unmapped]
    return Imported("\n".join([*head, dump(made)]), work.unmapped, work.to_do)


def _section(whole: Mapping[str, Any], name: str) -> Object:
    found = whole.get(name)
    return found if isinstance(found, dict) else {}


def _model(params: Mapping[str, Any]) -> str:
    """Give the model in litellm's form; a bare name is OpenAI's."""
    model = str(params.get("model"))
    return model if "/" in model else f"openai/{model}"


def _decimal(rate: object) -> Decimal:
    try:
        return Decimal(str(rate))
    except ArithmeticError as error:
        msg = f"{rate!r} is no price per token"
        raise ConfigError(msg) from error


def _plain(rate: Decimal) -> Decimal:
    """Give a rate without the zeros and the exponent that multiplying leaves."""
    return Decimal(f"{rate.normalize():f}")
