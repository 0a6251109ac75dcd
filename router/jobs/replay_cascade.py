"""Run a cascade over recorded samples: what it would have got right, at which part of the cost."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cost_models.pricing import Price
from policies.errors import OutcomeError
from router.jobs.replay_samples import MAX_TOKENS, interval, recorded_samples
from router.providers.metered import Allowance, Meter
from router.providers.recorded import RecordedProvider
from router.strategies.cascade import CascadeRun
from router.types import Message, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from policies.outcomes import OutcomeTable
    from policies.types import AnswerKind
    from router.providers.recorded import Recorded
    from router.strategies.escalation import Escalation

Pools = dict[str, list["Recorded"]]
"""The samples of one query by recorded arm, ``MODEL/STRATEGY``."""


@dataclass(frozen=True, slots=True)
class CascadeReplay:
    """Means over queries and orders; costs in USD a query, as they were recorded.

    ``against`` is the recorded arm that it is compared with, one sample a query. ``low`` and
    ``high`` bound ``accuracy - against_accuracy`` with 95 % (bootstrap over queries).
    ``escalated`` is the share of runs that reached the last stage.
    """

    cascade: str
    against: str
    n_queries: int
    orders: int
    accuracy: float
    cost_usd: float
    against_accuracy: float
    against_cost_usd: float
    escalated: float
    low: float
    high: float

    @property
    def cost_share(self) -> float:
        """What it cost, as a part of what the other one cost."""
        return self.cost_usd / self.against_cost_usd


async def replay_cascade(  # noqa: PLR0913 - what is run, on what, against what
    escalation: Escalation,
    table: OutcomeTable,
    kind: AnswerKind,
    against: str,
    *,
    orders: int = 1,
    seed: int = 0,
) -> CascadeReplay:
    """Run a cascade whose models are recorded arms, ``MODEL/STRATEGY``, on each query.

    The first order of the samples is the recorded one, each further one is shuffled. Raises
    OutcomeError where no query has samples of every stage, or a sample has no cost.
    """
    names = {stage.model for stage in escalation.stages} | {against}
    pools = {q: p for q, p in _pools(table, kind).items() if names <= set(p)}
    if not pools:
        known = ", ".join(sorted({f"{arm.model}/{arm.strategy}" for arm in table.arms}))
        problem = f"no query has samples of {', '.join(sorted(names))}; recorded are {known}"
        raise OutcomeError(table.source, problem)
    if any(np.isnan(s.cost_usd) for p in pools.values() for name in names for s in p[name]):
        problem = "a sample of a stage has no cost_usd, so the cascade has no cost"
        raise OutcomeError(table.source, problem)
    rows = []
    for query_id, pool in pools.items():
        figures = []
        for order in range(orders):
            shuffled = {name: list(pool[name]) for name in sorted(names)}
            if order:
                for name, samples in shuffled.items():
                    chance = random.Random(f"{seed}|{query_id}|{name}|{order}")  # noqa: S311 - an order
                    chance.shuffle(samples)
            figures.append(await _run(escalation, shuffled, kind, against))
        rows.append(np.mean(figures, axis=0))
    held = np.array(rows)
    right, cost, their_right, their_cost, escalated = held.mean(axis=0)
    low, high = interval(held[:, 0] - held[:, 2], seed)
    return CascadeReplay(
        cascade=str(escalation),
        against=against,
        n_queries=len(rows),
        orders=orders,
        accuracy=float(right),
        cost_usd=float(cost),
        against_accuracy=float(their_right),
        against_cost_usd=float(their_cost),
        escalated=float(escalated),
        low=low,
        high=high,
    )


async def _run(
    escalation: Escalation, pool: Mapping[str, Sequence[Recorded]], kind: AnswerKind, against: str
) -> tuple[float, float, float, float, float]:
    providers = {name: RecordedProvider(name, samples) for name, samples in pool.items()}
    samplers = [
        Meter(providers[stage.model], Price(free=True), Allowance()) for stage in escalation.stages
    ]
    task = Task((Message("user", "?"),), kind, kind_is_declared=True, max_tokens=MAX_TOKENS)
    run = CascadeRun(escalation)
    answer = await run.run(task, samplers)
    given = [one for provider in providers.values() for one in provider.given]
    shown = next((one for one in given if one.text == answer.text), None)
    theirs = pool[against]
    return (
        float(shown is not None and shown.correct),
        sum(one.cost_usd for one in given),
        sum(one.correct for one in theirs) / len(theirs),
        sum(one.cost_usd for one in theirs) / len(theirs),
        float(len(run.attempts) == len(escalation.stages)),
    )


def _pools(table: OutcomeTable, kind: AnswerKind) -> dict[str, Pools]:
    pools: dict[str, Pools] = {}
    for (query_id, model, strategy), samples in recorded_samples(table, kind).items():
        pools.setdefault(query_id, {})[f"{model}/{strategy}"] = samples
    return pools
