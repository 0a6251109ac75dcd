"""Every strategy by name, and reading one from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from cost_models.types import ARM_SEPARATOR
from router.errors import StrategyConfigError
from router.strategies.chain_of_thought import ChainOfThought
from router.strategies.direct import Direct
from router.strategies.few_shot import FewShot
from router.strategies.parameters import read, unknown
from router.strategies.self_consistency import SelfConsistency

if TYPE_CHECKING:
    from router.strategies.base import Strategy

STRATEGIES: dict[str, type[Direct | ChainOfThought | FewShot | SelfConsistency]] = {
    strategy.name: strategy for strategy in (Direct, ChainOfThought, FewShot, SelfConsistency)
}


def parse_strategy(value: object) -> Strategy:
    """Make the strategy that a configuration names.

    ``value`` is a name or a canonical text, or a mapping of one name to its parameters. Raises
    StrategyConfigError with the nearest name, parameter, or the range.
    """
    if isinstance(value, str):
        name, parameters = read(value)
    elif isinstance(value, Mapping) and len(value) == 1:
        ((name, parameters),) = value.items()
    else:
        msg = f"a strategy is a name, or one name with its parameters, got {value!r}"
        raise StrategyConfigError(msg)
    if name not in STRATEGIES:
        msg = unknown("strategy", str(name), STRATEGIES)
        raise StrategyConfigError(msg)
    if not isinstance(parameters, Mapping):
        msg = f"{name}: parameters are written as parameter: value, got {parameters!r}"
        raise StrategyConfigError(msg)
    kind = STRATEGIES[name]
    known = [parameter.name for parameter in fields(kind)]
    for parameter in parameters:
        if parameter not in known:
            msg = unknown(f"parameter of {name}", str(parameter), known)
            raise StrategyConfigError(msg)
    strategy = kind(**parameters)
    if ARM_SEPARATOR in str(strategy):
        msg = f"{name}: a parameter must not contain {ARM_SEPARATOR!r}, got {strategy}"
        raise StrategyConfigError(msg)
    return strategy
