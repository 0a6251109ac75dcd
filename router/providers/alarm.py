"""One timer for all the waits of a call, where `asyncio.timeout` takes one for each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Alarm:
    """Ends what is awaited inside ``with alarm:`` at ``until_s`` of the loop's time; None: never.

    It ends in TimeoutError, with ``rang`` set, as `asyncio.timeout` does it: by cancelling the
    task. May be entered again and again, by one task at a time. The timer of one wait serves the
    next; ``close`` takes it away.
    """

    __slots__ = (
        "_cancelling",
        "_loop",
        "_ringing",
        "_rings_at_s",
        "_task",
        "_timer",
        "rang",
        "until_s",
    )

    def __init__(self, until_s: float | None) -> None:
        self.until_s = until_s
        self.rang = self._ringing = False
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at_s = 0.0
        self._cancelling = 0

    def __enter__(self) -> Self:
        if self.until_s is None:
            return self
        task = asyncio.current_task()
        if task is None:
            msg = "an alarm can only be set for a task"
            raise RuntimeError(msg)
        self._task, self._cancelling = task, task.cancelling()
        if self._timer is None or self._rings_at_s > self.until_s:
            self._set(self.until_s)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._ringing or task is None:
            return
        self._ringing = False
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """Take the timer away. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, until_s: float) -> None:
        self.close()
        self._rings_at_s = until_s
        self._timer = self._loop.call_at(until_s, self._ring)

    def _ring(self) -> None:
        """End the wait, if there is one and its time has come; it may have been put off."""
        self._timer = None
        if self._task is None or self.until_s is None:
            return
        if self.until_s > self._loop.time():
            self._set(self.until_s)
            return
        self.rang = self._ringing = True
        self._task.cancel()
