"""Every strategy by name, and reading one from the configuration."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from cost_models.types import ARM_SEPARATOR
from router.errors import StrategyConfigError
from router.parameters import IS_STRATEGY, IS_VERIFIER, NO_VERIFIER, chosen, kind_of
from router.strategies.beam_search import BeamSearch
from router.strategies.best_of_n import BestOfN
from router.strategies.budget_forcing import BudgetForcing
from router.strategies.chain_of_thought import ChainOfThought
from router.strategies.direct import Direct
from router.strategies.diverse_tree_search import DiverseTreeSearch
from router.strategies.few_shot import FewShot
from router.strategies.long_thought import LongThought
from router.strategies.program_aided import ProgramAided
from router.strategies.revision import Revision
from router.strategies.sample_aggregation import SampleAggregation
from router.strategies.self_consistency import SelfConsistency
from router.strategies.trained_aggregation import TrainedAggregation
from router.strategies.tree_of_thoughts import TreeOfThoughts
from router.strategies.universal_self_consistency import UniversalSelfConsistency
from router.strategies.vote import Vote
from router.strategies.weighted_best_of_n import WeightedBestOfN
from router.strategies.weighted_self_consistency import WeightedSelfConsistency
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from dataclasses import Field

    from router.strategies.base import Strategy

STRATEGIES: dict[str, type[Any]] = {
    strategy.name: strategy
    for strategy in (
        Direct,
        ChainOfThought,
        FewShot,
        SelfConsistency,
        Vote,
        WeightedSelfConsistency,
        UniversalSelfConsistency,
        SampleAggregation,
        TrainedAggregation,
        BestOfN,
        WeightedBestOfN,
        BeamSearch,
        DiverseTreeSearch,
        TreeOfThoughts,
        Revision,
        ProgramAided,
        LongThought,
        BudgetForcing,
    )
}


def parse_strategy(value: object) -> Strategy:
    """Make the strategy that a configuration names.

    ``value`` is a name or a canonical text, or a mapping of one name to its parameters. Raises
    StrategyConfigError with the nearest name, parameter, or the range.
    """
    name, given = chosen(value, "strategy")
    kind, parameters = kind_of(name, given, STRATEGIES, "strategy")
    known = {parameter.name: parameter for parameter in fields(kind)}
    texts = {key: _named(text, known[key]) for key, text in parameters.items()}
    strategy: Strategy = kind(**texts)
    if ARM_SEPARATOR in str(strategy):
        msg = f"{name}: a parameter must not contain {ARM_SEPARATOR!r}, got {strategy}"
        raise StrategyConfigError(msg)
    return strategy


def _named(given: Any, parameter: Field[Any]) -> Any:  # noqa: ANN401 - any parameter
    """Give the canonical text of a verifier or a strategy; other parameters as they are.

    ``none`` stays where the strategy can do without a verifier.
    """
    if parameter.metadata.get(IS_STRATEGY):
        return str(parse_strategy(given))
    if not parameter.metadata.get(IS_VERIFIER) or given == parameter.default == NO_VERIFIER:
        return given
    return str(parse_verifier(given))
