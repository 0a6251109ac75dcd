"""Calls that a strategy makes beside one another, and the seeds that they get.

Everything here keeps one promise: what a run asks for depends on the task, the parameters and the
replies, never on which reply came first.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from router.errors import AllowanceExceededError, ProviderError
from router.types import CallRole

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from router.providers.base import OutsideCall, Sampler
    from router.types import Sample, SampleRequest, Task

T = TypeVar("T")
Stopped = ProviderError | AllowanceExceededError
STOPPING = (ProviderError, AllowanceExceededError)
"""What ends a run with the best answer so far: the upstream failed, or a cap was reached."""

MAX_PARALLEL = 16
"""Most calls of one request in flight at a time."""


class Seeded:
    """The sampler of one run: every completion gets a seed of its own.

    Completion i of a run has the task's seed + i, in the order in which the calls are made;
    without a seed none is set.
    """

    def __init__(self, task: Task, sampler: Sampler) -> None:
        self.model = sampler.model
        self._sampler = sampler
        self._seed = task.seed
        self._n_drawn = 0

    async def sample(
        self, request: SampleRequest, role: CallRole = CallRole.ANSWER
    ) -> tuple[Sample, ...]:
        """Draw completions as the sampler behind it does."""
        seed = None if self._seed is None else self._seed + self._n_drawn
        self._n_drawn += request.n
        return await self._sampler.sample(replace(request, seed=seed), role)

    async def outside(self, call: OutsideCall[T], role: CallRole) -> T:
        """Make a call to another server, which has no seed."""
        return await self._sampler.outside(call, role)


async def side_by_side(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T | Stopped]:
    """Run ``jobs`` beside one another, `MAX_PARALLEL` at a time, and give what each gave.

    They begin in their order. A job that the upstream or a cap stopped gives that error in its
    place; any other error, and a cancellation, ends all of them. A job makes one call at most, so
    that the seeds follow from the order.
    """
    free = asyncio.Semaphore(MAX_PARALLEL)

    async def bounded(job: Coroutine[Any, Any, T]) -> T | Stopped:
        try:
            async with free:
                return await job
        except STOPPING as error:
            return error
        finally:
            job.close()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(bounded(job)) for job in jobs]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    finally:
        for job in jobs:
            job.close()
    return [task.result() for task in tasks]


def first_error(results: Sequence[object]) -> Stopped | None:
    """Give the first error among what `side_by_side` gave, None where every job was done."""
    return next((result for result in results if isinstance(result, STOPPING)), None)
