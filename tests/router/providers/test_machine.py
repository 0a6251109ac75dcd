"""One owned machine: who may generate when, and whose time it was."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import OverloadedError
from router.providers.machine import BusyClock, Lease, Machine, physical_cores


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


STEP = st.tuples(st.integers(0, 10**9), st.integers(0, 7), st.integers(0, 4))


@given(steps=st.lists(STEP, max_size=60))
def test_the_shares_add_up_to_the_busy_time_exactly(steps: list[tuple[int, int, int]]) -> None:
    """Whatever starts, shrinks and ends in whatever order, no nanosecond is lost or made up."""
    now = ManualClock()
    clock = BusyClock(now)
    shares = []
    busy_ns = 0
    for elapsed_ns, which, slots in steps:
        now.ns += elapsed_ns
        busy_ns += elapsed_ns if any(share.slots for share in shares) else 0
        if which < len(shares) and shares[which].slots:
            clock.resize(shares[which], min(slots, shares[which].slots))
        else:
            shares.append(clock.start(max(1, slots)))
        assert sum(share.ns for share in shares) == clock.busy_ns == busy_ns


def test_time_is_split_in_proportion_to_the_slots() -> None:
    """Three completions beside one carry three quarters; alone, a call carries everything."""
    now = ManualClock()
    clock = BusyClock(now)
    one = clock.start(1)
    now.ns += 100
    three = clock.start(3)
    now.ns += 400
    assert (one.ns, three.ns) == (200, 300)
    clock.resize(one, 0)
    now.ns += 50
    assert (one.ns, three.ns) == (200, 350)


def test_a_share_can_be_read_while_the_call_runs() -> None:
    """Reading again without time passing gives the same figure."""
    now = ManualClock()
    share = BusyClock(now).start()
    now.ns = 7
    assert share.ns == 7
    assert share.ns == 7


def test_a_call_without_slots_is_a_mistake() -> None:
    """The message says the value."""
    with pytest.raises(ValueError, match="got 0"):
        BusyClock().start(0)


class Worker:
    """One call that holds the machine until it is told to finish."""

    def __init__(self, machine: Machine, model: str, slots: int = 1, capacity: int = 2) -> None:
        self.model = model
        self.lease: Lease | None = None
        self._done = asyncio.Event()
        self.task = asyncio.create_task(self._work(machine, slots, capacity))

    async def _work(self, machine: Machine, slots: int, capacity: int) -> None:
        async with machine.lease(self.model, slots=slots, capacity=capacity) as lease:
            self.lease = lease
            await self._done.wait()

    @property
    def runs(self) -> bool:
        return self.lease is not None and not self.task.done()

    async def finish(self) -> None:
        self._done.set()
        await self.task
        await settle()


async def settle() -> None:
    """Let every task that can move do so."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_calls_of_one_model_run_together_up_to_its_slots() -> None:
    """The third call of a model with two slots waits for the first to end."""
    machine = Machine()
    first, second, third = (Worker(machine, "small") for _ in range(3))
    await settle()
    assert (first.runs, second.runs, third.runs) == (True, True, False)
    await first.finish()
    assert third.runs
    await second.finish()
    await third.finish()
    assert (machine.n_running, machine.n_waiting) == (0, 0)


@pytest.mark.anyio
async def test_two_models_never_generate_at_once() -> None:
    """A free slot of the running model is no use to another model."""
    machine = Machine()
    small, large = Worker(machine, "small"), Worker(machine, "large")
    await settle()
    assert (small.runs, large.runs) == (True, False)
    await small.finish()
    assert large.runs
    await large.finish()


@pytest.mark.anyio
async def test_a_stream_of_calls_to_one_model_does_not_starve_another() -> None:
    """Calls that arrive after the other model's wait behind it, although a slot is free."""
    machine = Machine()
    first = Worker(machine, "small")
    await settle()
    large = Worker(machine, "large")
    await settle()
    late = Worker(machine, "small")
    await settle()
    assert not late.runs
    await first.finish()
    assert (large.runs, late.runs) == (True, False)
    await large.finish()
    assert late.runs
    await late.finish()


@pytest.mark.anyio
async def test_a_turn_takes_every_call_that_waits_for_its_model() -> None:
    """Calls that came in turn are served by model, so that models are switched less often."""
    machine = Machine()
    busy = Worker(machine, "small", slots=2)
    await settle()
    waiting = [Worker(machine, model) for model in ("large", "small", "large")]
    await settle()
    await busy.finish()
    assert [worker.runs for worker in waiting] == [True, False, True]
    for worker in (waiting[0], waiting[2], waiting[1]):
        await worker.finish()


@pytest.mark.anyio
async def test_slots_that_are_given_back_early_serve_the_next_call() -> None:
    """A call of two completions, one of which is complete, leaves room for one more."""
    machine = Machine()
    pair = Worker(machine, "small", slots=2)
    single = Worker(machine, "small")
    await settle()
    assert not single.runs
    assert pair.lease is not None
    pair.lease.shrink(1)
    await settle()
    assert single.runs
    assert pair.lease.slots == 1
    await pair.finish()
    await single.finish()


@pytest.mark.anyio
async def test_a_full_queue_refuses_the_next_call_and_says_when_to_come_back() -> None:
    """One runs, one waits, the third is refused; nothing about the two changes."""
    now = ManualClock()
    machine = Machine(max_queue=1, now_ns=now)
    done = Worker(machine, "small", slots=2)
    await settle()
    now.ns += 4_000_000_000
    await done.finish()
    running, waiting = Worker(machine, "small", slots=2), Worker(machine, "small", slots=2)
    await settle()
    with pytest.raises(OverloadedError, match="max_queue=1") as refusal:
        async with machine.lease("small", slots=1, capacity=2):
            pass
    assert refusal.value.retry_after_s == pytest.approx(8.0)  # two calls of 4 s are ahead
    assert (machine.n_running, machine.n_waiting) == (1, 1)
    await running.finish()
    await waiting.finish()


@pytest.mark.anyio
async def test_without_a_queue_a_free_machine_still_serves() -> None:
    """``max_queue=0`` refuses waiting, not running."""
    machine = Machine(max_queue=0)
    async with machine.lease("small", slots=1, capacity=1):
        with pytest.raises(OverloadedError):
            async with machine.lease("small", slots=1, capacity=1):
                pass


@pytest.mark.anyio
async def test_a_cancelled_waiting_call_leaves_no_trace() -> None:
    """The call behind it is served as if it had never come."""
    machine = Machine()
    running = Worker(machine, "small")
    await settle()
    cancelled = Worker(machine, "small", slots=2)
    behind = Worker(machine, "small")
    await settle()
    assert not behind.runs
    cancelled.task.cancel()
    await settle()
    assert behind.runs
    await running.finish()
    await behind.finish()
    assert (machine.n_running, machine.n_waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_call_cancelled_just_as_it_is_served_gives_its_slots_back() -> None:
    """The grant and the cancellation meet before the call has run on."""
    machine = Machine()
    running = Worker(machine, "small", slots=2)
    await settle()
    unlucky = Worker(machine, "small", slots=2)
    await settle()
    assert running.lease is not None
    running.lease.shrink(0)
    unlucky.task.cancel()
    await running.finish()
    assert unlucky.task.cancelled()
    assert (machine.n_running, machine.n_waiting) == (0, 0)


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.anyio
async def test_more_slots_than_the_model_has_is_a_mistake(slots: int) -> None:
    """Such a call would wait forever."""
    with pytest.raises(ValueError, match="between 1 and the model's 2"):
        async with Machine().lease("small", slots=slots, capacity=2):
            pass


CALL = st.tuples(
    st.sampled_from(["small", "large"]), st.integers(1, 3), st.integers(0, 4), st.booleans()
)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(CALL, max_size=15))
def test_whatever_comes_one_model_runs_within_its_slots_and_every_call_ends(
    calls: list[tuple[str, int, int, bool]],
) -> None:
    """Random calls, some cancelled on the way; the shares add up to the busy time at the end."""
    now = ManualClock()
    machine = Machine(now_ns=now)
    running: list[Lease] = []
    shares: list[Lease] = []

    async def call(model: str, slots: int, n_steps: int) -> None:
        async with machine.lease(model, slots=slots, capacity=3) as lease:
            shares.append(lease)
            running.append(lease)
            try:
                assert {other.model for other in running} == {model}
                assert sum(other.slots for other in running) <= 3
                for _ in range(n_steps):
                    now.ns += 17
                    await asyncio.sleep(0)
            finally:
                running.remove(lease)

    async def play() -> None:
        tasks = []
        for model, slots, n_steps, cancelled in calls:
            task = asyncio.create_task(call(model, slots, n_steps))
            tasks.append(task)
            await asyncio.sleep(0)
            if cancelled:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError)

    anyio.run(play)
    assert (machine.n_running, machine.n_waiting) == (0, 0)
    assert sum(lease.share_ns for lease in shares) == machine.busy_ns


def test_this_machine_has_a_core() -> None:
    """The figure is what a model's thread count defaults to."""
    assert physical_cores() >= 1
