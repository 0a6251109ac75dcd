"""What an event stream does with events that come faster than they are sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from router.gateway.sse import MAX_PENDING, EventStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, MutableMapping

N_EVENTS = 5 * MAX_PENDING
EVENTS = [f"data: {i}\n\n".encode() for i in range(N_EVENTS)]
FAILED = b"data: failed\n\n"


async def never() -> MutableMapping[str, Any]:
    """Be a client that stays."""
    await asyncio.Event().wait()
    return {}


def test_events_in_one_go_share_writes_and_stay_in_order() -> None:
    """Each event arrives once and in its place, in far fewer writes than there are events."""

    async def main() -> list[bytes]:
        async def source() -> AsyncGenerator[bytes, None]:
            for event in EVENTS:
                yield event

        return await sent_by(source())

    blocks = asyncio.run(main())
    assert b"".join(blocks) == b"".join(EVENTS)
    assert len(blocks) < N_EVENTS / 10


def test_an_error_comes_after_the_events_before_it() -> None:
    """What was made before a failure is sent, then the failure's own event."""

    async def main() -> list[bytes]:
        async def source() -> AsyncGenerator[bytes, None]:
            for event in EVENTS[:3]:
                yield event
            raise ValueError

        return await sent_by(source())

    assert b"".join(asyncio.run(main())) == b"".join([*EVENTS[:3], FAILED])


def test_a_client_that_does_not_read_stops_the_source() -> None:
    """Only so many events are made while a write is stuck; the rest waits for it."""

    async def main() -> tuple[int, list[bytes]]:
        made = 0

        async def source() -> AsyncGenerator[bytes, None]:
            nonlocal made
            for event in EVENTS:
                made += 1
                yield event

        reads = asyncio.Event()
        sending = asyncio.create_task(sent_by(source(), reads))
        for _ in range(100):
            await asyncio.sleep(0)
        made_while_stuck = made
        reads.set()
        return made_while_stuck, await sending

    made, blocks = asyncio.run(main())
    assert 0 < made <= 2 * MAX_PENDING
    assert b"".join(blocks) == b"".join(EVENTS)


async def sent_by(
    source: AsyncGenerator[bytes, None], reads: asyncio.Event | None = None
) -> list[bytes]:
    """Send a stream, each write stuck until the client ``reads``; give the bodies' blocks."""
    blocks: list[bytes] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        if body := message.get("body"):
            if reads is not None:
                await reads.wait()
            blocks.append(body)

    response = EventStream(source, lambda _error: FAILED, progress_s=30.0)
    await response.begin(never)
    await response({}, never, send)
    return blocks
