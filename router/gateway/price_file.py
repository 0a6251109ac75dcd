"""A file of prices by model name, for outcomes that were recorded with tokens and without cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import RootModel, ValidationError

from router.errors import ConfigError
from router.gateway.config import read_yaml
from router.gateway.config_models import PriceConfig
from router.gateway.strict import problems

if TYPE_CHECKING:
    from pathlib import Path

    from cost_models.pricing import Price


class _Prices(RootModel[dict[str, PriceConfig]]):
    """Prices by model."""


def read_prices(path: Path) -> dict[str, Price]:
    """Read YAML of ``MODEL: {input_usd_per_million_tokens: ..., ...}``, keys as in `PriceConfig`.

    Raises ConfigError that names the model and the key at fault.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        msg = f"the prices {path} cannot be read: {reason}"
        raise ConfigError(msg) from error
    data = read_yaml(text, str(path), {})[1]
    if not isinstance(data, dict) or not data:
        msg = (
            f"the prices {path} are no mapping of models; write MODEL: "
            "{input_usd_per_million_tokens: 0.5, output_usd_per_million_tokens: 1.5}"
        )
        raise ConfigError(msg)
    try:
        prices = _Prices.model_validate(data).root
    except ValidationError as error:
        found = problems(error.errors(include_url=False))
        lines = [f"{path}: {problem.place}: {problem.message}" for problem in found]
        raise ConfigError("\n".join(lines)) from error
    return {model: price.to_price() for model, price in prices.items()}
