"""Calls beside one another: bounded, in order, and ended together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from router.errors import ProviderError
from router.providers.scripted import Reply
from router.strategies.calls import MAX_PARALLEL, Seeded, side_by_side
from router.strategies.registry import parse_strategy
from router.types import CallRole, Message, Sample, SampleRequest, Task

pytestmark = pytest.mark.anyio
TASK = Task((Message("user", "2 + 2?"),), max_tokens=20, seed=5)
DOWN = ProviderError("m", "down")


@dataclass
class Counting:
    """A sampler that counts how many calls are in flight at a time."""

    model: str = "counting"
    now: int = 0
    peak: int = 0
    n_rounds: int = 0

    async def sample(
        self, request: SampleRequest, role: CallRole = CallRole.ANSWER
    ) -> tuple[Sample, ...]:
        """Take a while."""
        if self.now == 0:
            self.n_rounds += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1
        return tuple(Sample(Reply(f"s{request.seed}-{i}").text) for i in range(request.n))


@pytest.mark.parametrize(
    ("strategy", "peak", "n_rounds"),
    [
        ("best_of_n(samples=16, batch=16, verifier='self_judge')", 16, 2),
        ("weighted_best_of_n(samples=16, verifier='step_judge')", 16, 2),
        ("self_consistency(samples=16, stop_at=1.0)", 1, 1),
        ("beam_search(width=4, expand=4, depth=2)", 4, 2),
        ("tree_of_thoughts(evaluator='value', n_generate=8, breadth=2)", 16, 4),
    ],
)
async def test_independent_calls_are_made_beside_one_another(
    strategy: str, peak: int, n_rounds: int
) -> None:
    """A run takes as many rounds as it has dependent steps, whatever the number of samples."""
    sampler = Counting()
    await parse_strategy(strategy).run(TASK, sampler)
    assert (sampler.peak, sampler.n_rounds) == (peak, n_rounds)


async def test_no_more_than_so_many_at_a_time() -> None:
    """The bound is the request's, not the strategy's."""
    sampler = Counting()
    await parse_strategy("best_of_n(samples=40, batch=40, verifier='self_judge')").run(
        TASK, sampler
    )
    assert sampler.peak == MAX_PARALLEL


async def test_results_keep_their_order_and_errors_their_place() -> None:
    """Only an upstream's error and a cap's are results; any other ends all."""

    async def job(result: object, rounds: int) -> object:
        for _ in range(rounds):
            await asyncio.sleep(0)
        if isinstance(result, Exception):
            raise result
        return result

    assert await side_by_side([job(1, 9), job(DOWN, 0), job(3, 1)]) == [1, DOWN, 3]
    with pytest.raises(KeyError):
        await side_by_side([job(1, 99), job(KeyError("x"), 0)])
    assert await side_by_side([]) == []


async def test_seeds_follow_one_another_by_completion() -> None:
    """Whatever a call asked for before; without a seed none is set."""
    seeded = Seeded(TASK, Counting())
    request = SampleRequest(TASK.messages, 5, n=3, seed=999)
    first = await seeded.sample(request)
    second = await seeded.sample(request)
    assert [sample.text for sample in (*first, *second)] == [
        "s5-0", "s5-1", "s5-2", "s8-0", "s8-1", "s8-2",
    ]  # fmt: skip
