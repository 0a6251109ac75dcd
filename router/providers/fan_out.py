"""Several completions from an upstream that gives one at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from cost_models.types import Usage
from router.errors import ProviderError
from router.providers.base import Tally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from router.types import Sample, SampleRequest

MAX_AT_ONCE = 32
"""Calls of one request that run side by side."""


async def draw_each(
    request: SampleRequest,
    tally: Tally,
    draw: Callable[[SampleRequest, Tally], Awaitable[tuple[Sample, ...]]],
) -> tuple[Sample, ...]:
    """Draw ``request.n`` completions by as many calls; completion i has seed + i.

    Failed calls leave their completions out; the first error is raised when there is none at
    all. ``tally`` is the sum, and final only when every call's is.
    """
    slots = asyncio.Semaphore(MAX_AT_ONCE)
    tallies = [Tally(final=True, retries=tally.retries) for _ in range(request.n)]

    async def one(i: int) -> tuple[Sample, ...]:
        seed = None if request.seed is None else request.seed + i
        async with slots:
            return await draw(replace(request, n=1, seed=seed), tallies[i])

    try:
        drawn = await asyncio.gather(*map(one, range(request.n)), return_exceptions=True)
    finally:
        tally.usage = Usage.total(each.usage for each in tallies)
        tally.final = all(each.final for each in tallies)
        _join_origins(tally, tallies)
    errors = [each for each in drawn if isinstance(each, BaseException)]
    unforeseen = next((e for e in errors if not isinstance(e, ProviderError)), None)
    samples = tuple(s for each in drawn if not isinstance(each, BaseException) for s in each)
    if unforeseen is not None or not samples:
        raise unforeseen or errors[0]
    return samples


def _join_origins(tally: Tally, tallies: Sequence[Tally]) -> None:
    """Say of all calls together who was asked and what it cost, where that is known."""
    tally.deployment = "+".join(sorted({each.deployment for each in tallies if each.deployment}))
    tally.vendor = next((each.vendor for each in tallies if each.vendor), "")
    tally.price_source = next((each.price_source for each in tallies if each.price_source), "")
    costs = [each.cost_usd for each in tallies if each.cost_usd is not None]
    tally.cost_usd = sum(costs, start=Decimal(0)) if costs else None
    tally.turned_away += [attempt for each in tallies for attempt in each.turned_away]
