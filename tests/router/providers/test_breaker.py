"""When an upstream is left alone, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from router.providers.breaker import MAX_REST_S, Breaker, BreakerSettings, BreakerState


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


def fail(breaker: Breaker, times: int = 1) -> None:
    """Let calls fail one after the other."""
    for _ in range(times):
        breaker.failed(is_probe=breaker.begin())


def succeed(breaker: Breaker, times: int = 1) -> None:
    """Let calls succeed one after the other."""
    for _ in range(times):
        breaker.succeeded(is_probe=breaker.begin())


def test_it_opens_after_failures_and_lets_one_probe_through() -> None:
    """A probe that succeeds brings everything back, and the past is forgotten."""
    clock = Clock()
    breaker = Breaker(BreakerSettings(failures=3, open_s=5), clock)
    fail(breaker, 2)
    assert breaker.takes_calls
    fail(breaker)
    assert (breaker.state, breaker.takes_calls) == (BreakerState.OPEN, False)
    assert breaker.opens_again_in_s == 5
    clock.now_s += 5
    assert (breaker.state, breaker.takes_calls) == (BreakerState.HALF_OPEN, True)
    probe = breaker.begin()
    assert probe
    assert not breaker.takes_calls
    breaker.succeeded(is_probe=probe)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 2)
    assert breaker.takes_calls


def test_each_failing_probe_doubles_the_pause() -> None:
    """Up to a bound; the first success sets it back."""
    clock = Clock()
    breaker = Breaker(BreakerSettings(failures=1, open_s=5, max_open_s=15), clock)
    fail(breaker)
    for pause_s in (10, 15, 15):
        clock.now_s += breaker.opens_again_in_s
        fail(breaker)
        assert breaker.opens_again_in_s == pause_s
    clock.now_s += 15
    succeed(breaker)
    fail(breaker)
    assert breaker.opens_again_in_s == 5


def test_a_probe_whose_client_leaves_makes_room_for_another() -> None:
    """Nothing was learned."""
    clock = Clock()
    breaker = Breaker(BreakerSettings(failures=1), clock)
    fail(breaker)
    clock.now_s += 5
    breaker.abandoned(is_probe=breaker.begin())
    assert breaker.takes_calls


def test_a_call_from_before_the_pause_says_nothing_after_it() -> None:
    """Neither a late success closes it nor a late failure lengthens the pause."""
    clock = Clock()
    breaker = Breaker(BreakerSettings(failures=1), clock)
    early, late = breaker.begin(), breaker.begin()
    fail(breaker)
    breaker.succeeded(is_probe=early)
    assert breaker.state is BreakerState.OPEN
    clock.now_s += 4
    breaker.failed(is_probe=late)
    clock.now_s += 1
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_pause_that_the_upstream_asks_for_is_kept_without_a_probe() -> None:
    """All come back at its end; a very long one is cut."""
    clock = Clock()
    breaker = Breaker(clock=clock)
    breaker.asked_to_wait(3)
    assert (breaker.state, breaker.rests_for_s) == (BreakerState.RESTING, 3)
    assert not breaker.takes_calls
    clock.now_s += 3
    assert breaker.takes_calls
    assert not breaker.begin()
    breaker.asked_to_wait(1e9)
    assert breaker.rests_for_s == MAX_REST_S


@given(st.lists(st.booleans(), max_size=80))
def test_it_opens_exactly_when_half_of_the_latest_calls_failed(outcomes: list[bool]) -> None:
    """Five of the last twenty at least: the bits agree with a plain list."""
    breaker = Breaker(BreakerSettings(failures=5), Clock())
    seen: list[bool] = []
    for failed in outcomes:
        if failed:
            fail(breaker)
        else:
            succeed(breaker)
        seen = [*seen, failed][-20:]
        opens = failed and sum(seen) >= 5 and 2 * sum(seen) >= len(seen)
        assert breaker.takes_calls == (not opens)
        if opens:
            return
