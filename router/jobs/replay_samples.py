"""Run a strategy over recorded samples: what it would have got right, and how many it takes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cost_models.pricing import Price
from policies.errors import OutcomeError
from policies.types import AnswerKind
from router.providers.metered import Allowance, Meter
from router.providers.recorded import Recorded, RecordedProvider
from router.types import Message, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from policies.outcomes import OutcomeTable
    from router.strategies.base import Strategy

MAX_TOKENS = 100_000
WRITTEN = {
    AnswerKind.NUMBER: "Answer: {answer}",
    AnswerKind.CHOICE: "Answer: {answer}",
    AnswerKind.EXPRESSION: "\\boxed{{{answer}}}",
}
"""How a recorded answer is written into the reply that the strategy reads."""


@dataclass(frozen=True, slots=True)
class SampleReplay:
    """Means over queries and orders.

    ``accuracy`` is the strategy's, ``vote`` that of a majority vote over all recorded samples,
    ``single`` that of one sample; ``drawn`` counts its samples a query, ``recorded`` all of them.
    ``low`` and ``high`` bound ``accuracy - vote`` with 95 % (bootstrap over queries).
    """

    strategy: str
    n_queries: int
    orders: int
    accuracy: float
    vote: float
    single: float
    drawn: float
    recorded: float
    completion_tokens: float
    low: float
    high: float

    @property
    def saved(self) -> float:
        """Share of the recorded samples that the strategy did not need."""
        return 1.0 - self.drawn / self.recorded


async def replay_samples(
    strategy: Strategy, table: OutcomeTable, kind: AnswerKind, *, orders: int = 1, seed: int = 0
) -> SampleReplay:
    """Run ``strategy`` on each query with two samples or more.

    The first order is the recorded one, each further one is shuffled. An answer is right when the
    recorded sample that it shows was. Raises OutcomeError where there is no such query.
    """
    queries = {
        "|".join(name): found
        for name, found in recorded_samples(table, kind).items()
        if len(found) > 1
    }
    if not queries:
        problem = "no query has two graded samples or more"
        raise OutcomeError(table.source, problem)
    rows = []
    for query_id, samples in queries.items():
        figures = []
        for order in range(orders):
            shuffled = list(samples)
            if order:
                random.Random(f"{seed}|{query_id}|{order}").shuffle(shuffled)  # noqa: S311 - an order
            figures.append(await _run(strategy, shuffled, kind))
        rows.append(np.mean(figures, axis=0))
    held = np.array(rows)
    means = held.mean(axis=0)
    low, high = interval(held[:, 0] - held[:, 1], seed)
    return SampleReplay(
        strategy=str(strategy),
        n_queries=len(rows),
        orders=orders,
        accuracy=float(means[0]),
        vote=float(means[1]),
        single=float(means[2]),
        drawn=float(means[3]),
        recorded=float(means[4]),
        completion_tokens=float(means[5]),
        low=low,
        high=high,
    )


async def _run(
    strategy: Strategy, samples: Sequence[Recorded], kind: AnswerKind
) -> tuple[float, float, float, float, float, float]:
    provider = RecordedProvider("recorded", samples)
    meter = Meter(provider, Price(free=True), Allowance())
    task = Task((Message("user", "?"),), kind, kind_is_declared=True, max_tokens=MAX_TOKENS)
    answer = await strategy.run(task, meter)
    shown = next((one for one in samples if one.text == answer.text), None)
    return (
        float(shown is not None and shown.correct),
        float(_voted(samples)),
        sum(one.correct for one in samples) / len(samples),
        float(len(provider.given)),
        float(len(samples)),
        float(meter.usage.completion_tokens),
    )


def _voted(samples: Sequence[Recorded]) -> bool:
    """Grade the most common recorded answer, the earliest of equals."""
    votes: dict[str, int] = {}
    for one in samples:
        votes[one.text] = votes.get(one.text, 0) + bool(one.text)
    best = max(votes, key=votes.__getitem__)
    return next(one.correct for one in samples if one.text == best)


def recorded_samples(
    table: OutcomeTable, kind: AnswerKind
) -> Mapping[tuple[str, str, str], list[Recorded]]:
    """Give the graded samples of each query, model and strategy, in their order."""
    order = np.argsort(np.nan_to_num(table.numbers["sample_index"]), kind="stable")
    tokens = np.nan_to_num(table.numbers["completion_tokens"])
    prompts = np.nan_to_num(table.numbers["prompt_tokens"])
    costs = table.numbers["cost_usd"]
    found: dict[tuple[str, str, str], list[Recorded]] = {}
    for i in map(int, order):
        if np.isnan(table.numbers["correct"][i]):
            continue
        said = table.texts["answer"][i]
        query_id, model, strategy = (
            str(table.texts[name][i]) for name in ("query_id", "model", "strategy")
        )
        found.setdefault((query_id, model, strategy), []).append(
            Recorded(
                text=WRITTEN[kind].format(answer=said) if said else "",
                correct=bool(table.numbers["correct"][i] >= 0.5),  # noqa: PLR2004 - a grade rounds
                prompt_tokens=int(prompts[i]),
                completion_tokens=int(tokens[i]),
                cost_usd=float(costs[i]),
            )
        )
    return found


def interval(differences: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Bound a mean over queries with 95 % (percentile bootstrap, Efron 1979)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), size=(2000, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
