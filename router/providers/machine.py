"""One owned machine shared by the models in this process: its queue and its exact time account.

Only one model generates at a time, because two models on the same cores slow each other down
more than they gain. Calls of that model run together up to its slots. Waiting calls are served
in turns: when the machine falls idle the oldest waiting call picks the next model, and every call
that waits for that model at that moment belongs to the turn. Calls that arrive later for the same
model queue behind the other models, so that none of them starves.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cost_models.estimates import NS_PER_S
from router.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEFAULT_MAX_QUEUE = 256
MIN_RETRY_AFTER_S = 1.0
CPU_TOPOLOGY = Path("/sys/devices/system/cpu")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class BusyClock:
    """Split busy time among the calls that run, to the nanosecond. Safe to use from any thread.

    Between two events the time goes to the running calls in proportion to the slots that they
    occupy; what whole nanoseconds leave over goes to the calls that started first. So the shares
    add up to the busy time exactly. ``now_ns`` is a monotonic clock.
    """

    def __init__(self, now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._running: list[Share] = []
        self._last_ns = 0
        self._busy_ns = 0

    @property
    def busy_ns(self) -> int:
        """Nanoseconds during which at least one call ran."""
        with self._lock:
            self._advance()
            return self._busy_ns

    def start(self, slots: int = 1) -> Share:
        """Begin a call that occupies ``slots`` >= 1."""
        if slots < 1:
            msg = f"a call occupies at least one slot, got {slots}"
            raise ValueError(msg)
        with self._lock:
            self._advance()
            share = Share(self, slots)
            self._running.append(share)
            return share

    def read(self, share: Share) -> int:
        """Nanoseconds that ``share`` has been given until now."""
        with self._lock:
            self._advance()
            return share.given_ns

    def resize(self, share: Share, slots: int) -> None:
        """Let a call occupy ``slots`` from now on; 0 ends it."""
        with self._lock:
            self._advance()
            share.slots = slots
            if slots == 0 and share in self._running:
                self._running.remove(share)

    def _advance(self) -> None:
        now = self._now_ns()
        elapsed, self._last_ns = now - self._last_ns, now
        if not self._running:
            return
        self._busy_ns += elapsed
        n_slots = sum(share.slots for share in self._running)
        given = [elapsed * share.slots // n_slots for share in self._running]
        left_over = elapsed - sum(given)
        for i, share in enumerate(self._running):
            share.given_ns += given[i] + (1 if i < left_over else 0)


@dataclass(slots=True, eq=False)
class Share:
    """One call's part of the busy time; made by ``BusyClock.start`` and changed only by it."""

    clock: BusyClock
    slots: int
    given_ns: int = 0

    @property
    def ns(self) -> int:
        """Nanoseconds until now; final once the call has ended."""
        return self.clock.read(self)


class Lease:
    """The right to generate with ``slots`` slots of one model until it is given back."""

    def __init__(self, machine: Machine, model: str, share: Share) -> None:
        self._machine = machine
        self._share = share
        self.model = model

    @property
    def slots(self) -> int:
        """Slots still held."""
        return self._share.slots

    @property
    def share_ns(self) -> int:
        """The call's share of busy time until now; may be read from any thread."""
        return self._share.ns

    def shrink(self, slots: int) -> None:
        """Hold only ``slots`` from now on, at most what is held; 0 gives everything back."""
        if slots < self._share.slots:
            self._machine.resize(self._share, slots)


@dataclass(slots=True, eq=False)
class _Waiter:
    model: str
    slots: int
    capacity: int
    in_turn: bool
    granted: asyncio.Future[Lease]


class Machine:
    """Admission to one owned machine; used from one event loop at a time.

    At most ``max_queue`` calls wait; the next one is refused with OverloadedError.
    """

    def __init__(
        self,
        *,
        max_queue: int = DEFAULT_MAX_QUEUE,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        if max_queue < 0:
            msg = f"max_queue must be at least 0, got {max_queue}"
            raise ValueError(msg)
        self.max_queue = max_queue
        self._clock = BusyClock(now_ns)
        self._waiting: list[_Waiter] = []
        self._model = ""
        self._used_slots = 0
        self._n_running = 0
        self._n_finished = 0

    @property
    def busy_ns(self) -> int:
        """Nanoseconds during which at least one call ran: the sum of all shares."""
        return self._clock.busy_ns

    @property
    def n_waiting(self) -> int:
        """Calls that wait for the machine."""
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        """Calls that hold a lease."""
        return self._n_running

    @asynccontextmanager
    async def lease(self, model: str, *, slots: int, capacity: int) -> AsyncIterator[Lease]:
        """Wait for ``slots`` of the ``capacity`` slots of ``model``; give them back at the end.

        Raises OverloadedError at once when the queue is full. Cancelling while waiting leaves
        the queue as if the call had never come.
        """
        lease = await self._acquire(model, slots, capacity)
        try:
            yield lease
        finally:
            lease.shrink(0)

    def resize(self, share: Share, slots: int) -> None:
        """Take slots back from a lease (``Lease.shrink`` calls this) and serve who waits."""
        self._used_slots -= share.slots - slots
        self._clock.resize(share, slots)
        if slots == 0:
            self._n_running -= 1
            self._n_finished += 1
        self._dispatch()

    async def _acquire(self, model: str, slots: int, capacity: int) -> Lease:
        if not 1 <= slots <= capacity:
            msg = f"slots must be between 1 and the model's {capacity}, got {slots}"
            raise ValueError(msg)
        waiter = _Waiter(
            model=model,
            slots=slots,
            capacity=capacity,
            in_turn=model == self._model and all(w.model == model for w in self._waiting),
            granted=asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiter)
        self._dispatch()
        if not waiter.granted.done() and len(self._waiting) > self.max_queue:
            self._waiting.remove(waiter)
            raise self._overloaded(model)
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._dispatch()
            elif not waiter.granted.cancelled():
                waiter.granted.result().shrink(0)
            raise

    def _dispatch(self) -> None:
        while waiter := self._next_waiter():
            if self._n_running and self._used_slots + waiter.slots > waiter.capacity:
                return
            self._waiting.remove(waiter)
            if waiter.granted.cancelled():
                continue
            self._used_slots += waiter.slots
            self._n_running += 1
            waiter.granted.set_result(Lease(self, waiter.model, self._clock.start(waiter.slots)))

    def _next_waiter(self) -> _Waiter | None:
        """Give the oldest call of this turn; an idle machine whose turn is over opens the next."""
        waiter = next((w for w in self._waiting if w.in_turn), None)
        if waiter is None and self._waiting and not self._n_running:
            self._model = self._waiting[0].model
            for other in self._waiting:
                other.in_turn = other.model == self._model
            waiter = self._waiting[0]
        return waiter

    def _overloaded(self, model: str) -> OverloadedError:
        mean_call_ns = self._clock.busy_ns / max(1, self._n_finished)
        drain_s = (self.n_waiting + self._n_running) * mean_call_ns / NS_PER_S
        retry_after_s = max(MIN_RETRY_AFTER_S, drain_s)
        return OverloadedError(
            model,
            f"{self.n_waiting} calls already wait for this machine (max_queue={self.max_queue}); "
            f"try again in {retry_after_s:.0f} s or send fewer requests at once",
            status=503,
            retry_after_s=retry_after_s,
        )


def physical_cores() -> int:
    """Physical cores that this process may use: its CPU affinity, capped by a container's quota.

    More threads than this make a language model slower, not faster.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = os.sched_getaffinity(0)
    else:
        cpus = set(range(os.cpu_count() or 1))
    cores = {_read(CPU_TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list") or cpu for cpu in cpus}
    limit, _, period = _read(CPU_QUOTA).partition(" ")
    if limit.isdigit() and period.isdigit():
        return max(1, min(len(cores), int(limit) // int(period)))
    return max(1, len(cores))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
