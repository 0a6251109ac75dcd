"""Arms that a policy derived from recorded samples: which of them a configuration offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.recipes import Vote
from policies.sampled import Best
from router.errors import StrategyConfigError
from router.strategies.escalation import parse_escalation
from router.strategies.registry import parse_strategy
from router.verifiers.judge import SelfJudge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.artifacts import FittedPolicy
    from policies.recipes import Recipe
    from router.routing.catalog import Catalog

N_NAMED = 8
"""How many arms are named."""


def told_of_derived(fitted: FittedPolicy, catalog: Catalog) -> Iterator[str]:
    """Say which derived arms that the policy would choose are not offered, and what offers them."""
    offered = {*catalog.arms, *(cascade.arm for cascade in catalog.cascades.values())}
    wanted = [
        recipe
        for recipe in fitted.recipes
        if recipe.arm not in offered
        and recipe.arm not in fitted.policy.left_out
        and {stage.model for stage in recipe.stages} <= set(catalog.models)
    ]
    lines = dict.fromkeys(line for r in wanted if (line := how_to_offer(r)) is not None)
    for line in list(lines)[:N_NAMED]:
        yield f"not offered until the configuration has it: {line}"
    if len(lines) > N_NAMED:
        yield f"and {len(lines) - N_NAMED} more derived arms like these"
    unable = [str(recipe.arm) for recipe in wanted if how_to_offer(recipe) is None]
    if unable:
        yield f"the gateway cannot run, so never offers: {_some(unable)}"
    if wanted and ("certificate_text" in fitted.manifest or "gate_text" in fitted.manifest):
        yield "its promise was made for all of its arms, and does not hold without these"


def how_to_offer(recipe: Recipe) -> str | None:
    """Give the key and the line of the configuration that offer a derived arm; None if none do.

    The best by a recorded score cannot be run: whose score it was is not known. Votes are over
    samples of strategies that make one call.
    """
    name = recipe.arm.strategy
    if isinstance(recipe, Best):
        return None
    key, by = "cascades", " by VERIFIER" if recipe.verified else ""
    try:
        if isinstance(recipe, Vote):
            key, offered = "strategies", str(parse_strategy(name))
        else:
            text = f"{name} by {SelfJudge.grader}" if recipe.verified else name
            offered = parse_escalation(text).arm.strategy
    except StrategyConfigError:
        return None
    return f"{key}: {name}{by}" if offered == name else None


def _some(names: list[str]) -> str:
    more = f", and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
    return ", ".join(names[:N_NAMED]) + more
