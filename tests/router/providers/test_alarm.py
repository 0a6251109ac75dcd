"""One timer ends the waits of a call, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from router.providers.alarm import Alarm

pytestmark = pytest.mark.anyio
SOON_S = 0.02


def alarm(in_s: float | None) -> Alarm:
    """Set an alarm that rings in so many seconds."""
    return Alarm(None if in_s is None else asyncio.get_running_loop().time() + in_s)


async def test_a_wait_that_is_too_long_ends_in_a_timeout() -> None:
    """The task itself goes on, and can be cancelled as before."""
    with closing(alarm(SOON_S)) as ringing:
        with pytest.raises(TimeoutError), ringing:
            await asyncio.sleep(60)
        assert ringing.rang
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_one_that_was_put_off_rings_later() -> None:
    """A token that came moves the end of the next wait, with the timer that is there."""
    with closing(alarm(SOON_S)) as put_off:
        with put_off:
            await asyncio.sleep(0)
        put_off.until_s = asyncio.get_running_loop().time() + 60
        with put_off:
            await asyncio.sleep(3 * SOON_S)
        put_off.until_s = asyncio.get_running_loop().time() + SOON_S
        with pytest.raises(TimeoutError), put_off:
            await asyncio.sleep(60)


async def test_it_does_not_ring_between_waits() -> None:
    """A reader that holds a stream up is not ended; its next wait is, at once."""
    with closing(alarm(SOON_S)) as over:
        with over:
            await asyncio.sleep(0)
        await asyncio.sleep(3 * SOON_S)
        assert not over.rang
        with pytest.raises(TimeoutError), over:
            await asyncio.sleep(60)


async def test_none_never_rings() -> None:
    """A call without a deadline waits for as long as it takes."""
    with closing(alarm(None)) as never, never:
        await asyncio.sleep(SOON_S)


async def test_a_cancelled_task_is_cancelled_and_not_late() -> None:
    """Who leaves is not told that time was up."""

    async def wait() -> None:
        with closing(alarm(60)) as late, late:
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_outer_alarm_ends_through_an_inner_one() -> None:
    """The deadline of a request ends a wait that its upstream would still be given time for."""
    with closing(alarm(SOON_S)) as outer, closing(alarm(60)) as inner:
        with pytest.raises(TimeoutError), outer, inner:
            await asyncio.sleep(60)
        assert outer.rang
        assert not inner.rang
