"""A second call beside one that takes longer than most: whichever answers first is taken.

Source: Dean and Barroso (2013), The Tail at Scale, hedged requests after a quantile of the latency.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

T = TypeVar("T")
REMEMBERED = 200
"""So many of the latest latencies are looked at."""

NEEDED = 20
"""Fewer latencies than these say nothing of a quantile: nothing is hedged."""


class Latencies:
    """The latest latencies of a model's whole replies, in seconds."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, seconds: float) -> None:
        """Take note of one."""
        self._seconds.append(seconds)

    def quantile(self, share: float) -> float | None:
        """Give the latency that a ``share`` in (0, 1) of calls kept; None while too few are known.

        The smallest of those seen that at least that share of them does not exceed.
        """
        if len(self._seconds) < NEEDED:
            return None
        return sorted(self._seconds)[math.ceil(share * len(self._seconds)) - 1]


async def first_of_two(
    first: Coroutine[Any, Any, T], second: Callable[[], Coroutine[Any, Any, T]], after_s: float
) -> T:
    """Await ``first``, after a while beside ``second()``; give what succeeds first.

    The other is cancelled, and has ended when this returns or raises. Where both fail the error of
    the first is raised, and where the second did not fit its allowance nothing is said of it.
    """
    tasks = [asyncio.create_task(first)]
    try:
        await asyncio.wait(tasks, timeout=after_s)
        if not tasks[0].done():
            tasks.append(asyncio.create_task(second()))
        running = set(tasks)
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    return task.result()
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
