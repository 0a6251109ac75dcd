"""Work for the ledger is gathered while the loop has more of it, and each gets its own answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from router.routing.outbox import Outbox
from storage.errors import LedgerBusyError
from storage.writer import Job

if TYPE_CHECKING:
    from storage.store import Ledger


@dataclass
class Post:
    """What an outbox sends to: it answers each job with its number, or is full."""

    full: bool = False
    sent: list[int] = field(default_factory=list)

    def submit(self, *jobs: Job) -> None:
        """Take jobs."""
        if self.full:
            msg = "full"
            raise LedgerBusyError(msg)
        self.sent.append(len(jobs))
        for job in jobs:
            job.future.set_result(job.run)


def job(name: str) -> Job:
    """Give a job that `Post` answers with its name."""
    return Job(cast("object", name))  # type: ignore[arg-type]


def outbox(post: Post) -> Outbox:
    """Give an outbox over a post."""
    return Outbox(cast("Ledger", post))


def test_what_comes_in_neighbouring_turns_is_sent_together() -> None:
    """A second request of the next turn of the loop shares the first one's commit."""
    post = Post()

    async def main() -> list[str]:
        box = outbox(post)
        first = box.send(job("a"), job("b"))
        await asyncio.sleep(0)
        second = box.send(job("c"))
        return [await first, await second]

    assert asyncio.run(main()) == ["b", "c"]
    assert post.sent == [3]


def test_work_that_comes_later_is_sent_later() -> None:
    """Nobody waits for work that is not there."""
    post = Post()

    async def main() -> None:
        box = outbox(post)
        assert await box.send(job("a")) == "a"
        assert await box.send(job("b")) == "b"

    asyncio.run(main())
    assert post.sent == [1, 1]


def test_a_full_queue_is_told_to_each() -> None:
    """Whoever waits hears that the ledger is busy, and what comes later is sent again."""
    post = Post(full=True)

    async def main() -> None:
        box = outbox(post)
        for refused in [box.send(job("a")), box.send(job("b"))]:
            with pytest.raises(LedgerBusyError):
                await refused
        post.full = False
        assert await box.send(job("c")) == "c"

    asyncio.run(main())


def test_who_has_left_gets_no_answer_and_hinders_nobody() -> None:
    """A cancelled future is passed over."""

    async def main() -> None:
        box = outbox(Post())
        left, stays = box.send(job("a")), box.send(job("b"))
        left.cancel()
        assert await stays == "b"

    asyncio.run(main())
