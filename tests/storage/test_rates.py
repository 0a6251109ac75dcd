"""How fast keys may ask: decided by the database, for all replicas, to the last request."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from fractions import Fraction
from threading import Lock
from typing import TYPE_CHECKING

import pytest
from databases import contender
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text, update

from cost_models.budgets import Budget, Period
from cost_models.rates import MINUTE_NS, NO_LIMITS, Bucket, RateLimits
from storage.engine import create_ledger_engine, migrate
from storage.errors import RateLimitedError
from storage.ledger import SettleEntry
from storage.models import PermitRow, RateRow
from storage.rates import Permit, RateAsk
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage.ledger import OpenEntry

LEASE = timedelta(seconds=60)


def let_in(
    ledger: Ledger, name: str, limits: RateLimits, now: datetime, tokens: int = 10
) -> Permit:
    """Ask for a subject's request."""
    return ledger.admitting(RateAsk("acme", name, limits, tokens), now, now + LEASE).result()


def refused(
    ledger: Ledger, name: str, limits: RateLimits, now: datetime, tokens: int = 10
) -> RateLimitedError:
    """Ask where the answer is no."""
    with pytest.raises(RateLimitedError) as told:
        let_in(ledger, name, limits, now, tokens)
    return told.value


def test_processes_that_ask_at_once_get_exactly_what_there_is(empty_url: str) -> None:
    """Requests, tokens (10 each), at once, and the tightest of all; no row was made before."""
    engine = create_ledger_engine(empty_url)
    migrate(engine)
    engine.dispose()
    expected = {"7/0/0": 7, "0/95/0": 9, "0/0/5": 5, "20/300/13": 13}
    running = [contender("rates", empty_url, f"p{i}", "12", *expected) for i in range(2)]
    counts = [map(int, process.communicate(timeout=100)[0].split()) for process in running]
    assert [a + b for a, b in zip(*counts, strict=True)] == list(expected.values())


def test_threads_that_come_and_go_are_never_more_than_may_at_once(
    ledger: Ledger, now: datetime
) -> None:
    """Each that was let in ends; the counters are right and nothing is left."""
    limits = RateLimits(parallel_requests=3)
    inside: list[int] = []
    most = []

    def request(i: int) -> int:
        try:
            permit = let_in(ledger, f"q{i}", limits, now)
        except RateLimitedError:
            return 0
        inside.append(i)
        most.append(len(inside))
        inside.remove(i)
        ledger.releasing(permit, 0, now).result()
        return 1

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(request, range(80))) >= 3
    assert max(most) <= 3
    assert ledger.examine() == []
    assert ledger.read(lambda s: s.scalars(select(PermitRow.id)).all()) == []
    assert [let_in(ledger, f"again{i}", limits, now).tokens for i in range(3)] == [0, 0, 0]
    assert refused(ledger, "fourth", limits, now).retry_after_s == 1.0


def test_replicas_that_mix_limits_and_money_never_wait_in_a_circle(
    ledger: Ledger, opening: Callable[..., OpenEntry], now: datetime
) -> None:
    """Batches of both, of subjects in any order, beside heartbeats: no deadlock, no slip."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, 10**9)])
    url = ledger.engine.url.render_as_string(hide_password=False)
    replicas = [ledger, Ledger(create_ledger_engine(url))]
    limits = RateLimits(10**6, 10**9, 2)
    inside = Counter[str]()
    most = Counter[str]()
    counting = Lock()

    def requests(thread: int) -> int:
        mine = replicas[thread % 2]
        served = 0
        for i in range(12):
            subject = f"s{(thread * 7 + i * 5) % 3}"
            name = f"{thread}-{i}"
            ask = RateAsk(subject, name, limits, 10)
            try:
                permit = mine.admitting(ask, now, now + LEASE).result()
            except RateLimitedError:
                continue
            with counting:
                inside[subject] += 1
                most[subject] = max(most[subject], inside[subject])
            entry_id = mine.open(opening(name, 10), now)
            with counting:
                inside[subject] -= 1
            mine.settling(SettleEntry(entry_id, (), latency_s=0), now, (permit, 7)).result()
            mine.tend_permits([], now, now + LEASE)
            served += 1
        return served

    with ThreadPoolExecutor(10) as threads:
        assert sum(threads.map(requests, range(10))) >= 12
    assert max(most.values()) <= 2
    assert ledger.examine() == []
    if ledger.engine.dialect.name == "postgresql":
        count = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert ledger.read(lambda s: s.scalar(text(count))) == 0
    replicas[1].close()


def test_a_minute_gives_back_what_was_used_evenly(ledger: Ledger, now: datetime) -> None:
    """Of 6 a minute, one more after each 10 seconds, and the wait that is told is enough."""
    limits = RateLimits(requests_per_minute=6)
    for i in range(6):
        permit = let_in(ledger, f"q{i}", limits, now)
        assert permit.buckets["requests"].remaining == 5 - i
    assert not permit.is_to_end
    told = refused(ledger, "q6", limits, now)
    assert told.retry_after_s == pytest.approx(10)
    assert told.buckets["requests"] == Bucket(6, MINUTE_NS)
    assert "6 requests per minute" in str(told)
    refused(ledger, "q6", limits, now + timedelta(seconds=9))
    later = now + timedelta(seconds=told.retry_after_s)
    assert let_in(ledger, "q6", limits, later).buckets["requests"].remaining == 0
    refused(ledger, "q7", limits, later)
    rested = let_in(ledger, "q8", limits, later + timedelta(hours=1))
    assert rested.buckets["requests"].remaining == 5


def test_tokens_are_counted_by_what_was_used_in_the_end(ledger: Ledger, now: datetime) -> None:
    """A guess that was high gives back, one that was low takes more; a rest gives no credit."""
    limits = RateLimits(tokens_per_minute=100)
    first = let_in(ledger, "q1", limits, now, tokens=60)
    assert refused(ledger, "q2", limits, now, tokens=60).retry_after_s == pytest.approx(12)
    ledger.releasing(first, 20, now).result()
    second = let_in(ledger, "q2", limits, now, tokens=60)
    assert second.buckets["tokens"].remaining == 20
    ledger.releasing(second, 200, now).result()
    assert refused(ledger, "q3", limits, now, tokens=1).retry_after_s == pytest.approx(72.6)
    rested = now + timedelta(hours=1)
    third = let_in(ledger, "q3", limits, rested, tokens=60)
    ledger.releasing(third, 0, rested + timedelta(hours=1)).result()
    fourth = let_in(ledger, "q4", limits, rested + timedelta(hours=1), tokens=60)
    assert fourth.buckets["tokens"].remaining == 40


def test_one_request_above_the_whole_limit_is_let_in_alone(ledger: Ledger, now: datetime) -> None:
    """It could never be otherwise; what it used is counted whole."""
    limits = RateLimits(tokens_per_minute=100)
    permit = let_in(ledger, "q1", limits, now, tokens=250)
    assert permit.buckets["tokens"].remaining == 0
    ledger.releasing(permit, 250, now).result()
    assert refused(ledger, "q2", limits, now, tokens=250).retry_after_s == pytest.approx(150)
    assert let_in(ledger, "q2", limits, now + timedelta(seconds=150), tokens=250)


def test_a_refusal_counts_nothing_in_any_limit(ledger: Ledger, now: datetime) -> None:
    """What one limit refuses is not taken from the others."""
    limits = RateLimits(requests_per_minute=10, tokens_per_minute=100, parallel_requests=1)
    permit = let_in(ledger, "q1", limits, now)
    for i in range(20):
        assert "at once" in str(refused(ledger, f"no{i}", limits, now))
    ledger.releasing(permit, 10, now).result()
    again = let_in(ledger, "q2", limits, now)
    assert {name: b.remaining for name, b in again.buckets.items()} == {
        "requests": 8,
        "tokens": 80,
    }


def test_what_a_killed_process_had_inside_lapses(ledger: Ledger, now: datetime) -> None:
    """`kill -9` takes no slot for longer than the lease; who lives renews, and keeps its own."""
    url = ledger.engine.url.render_as_string(hide_password=False)
    with contender("permit", url, "dead") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    limits = RateLimits(parallel_requests=1)
    soon = now + timedelta(seconds=59)
    assert ledger.tend_permits([], soon, soon + LEASE) == 0
    refused(ledger, "q1", limits, soon)
    later = now + timedelta(seconds=60)
    assert ledger.tend_permits([], later, later + LEASE) == 1
    mine = let_in(ledger, "q1", limits, later)
    for minutes in range(1, 5):
        later = now + timedelta(minutes=minutes)
        assert ledger.tend_permits(["q1"], later, later + LEASE) == 0
    assert ledger.examine() == []
    gone = later + timedelta(hours=1)
    assert ledger.tend_permits([], gone, gone + LEASE) == 1
    ledger.releasing(mine, 0, gone).result()
    assert ledger.examine() == []
    assert let_in(ledger, "q2", limits, gone)


def test_the_doctor_finds_and_repairs_a_wrong_count(ledger: Ledger, now: datetime) -> None:
    """As every other counter."""
    let_in(ledger, "q1", RateLimits(parallel_requests=9), now)
    ledger.write(lambda s: s.execute(update(RateRow).values(in_flight=4)))
    (finding,) = ledger.examine()
    assert (finding.expected, finding.found) == (1, 4)
    assert ledger.examine(repair=True)
    assert ledger.examine() == []


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(limit=st.integers(1, 60), gaps=st.lists(st.integers(0, 20_000), max_size=40))
def test_it_is_a_bucket_that_leaks(
    sqlite_ledger: Ledger, now: datetime, limit: int, gaps: list[int]
) -> None:
    """What is let in is what plain fractions let in, whoever asks when."""
    subject = f"of {limit} {gaps}"
    level, at = Fraction(0), now
    for i, gap_ms in enumerate(gaps):
        at += timedelta(milliseconds=gap_ms)
        level = max(Fraction(0), level - Fraction(gap_ms * limit, 60_000))
        ask = RateAsk(subject, f"{subject} {i}", RateLimits(limit), 0)
        try:
            sqlite_ledger.admitting(ask, at, at + LEASE).result()
            was_let_in = True
        except RateLimitedError:
            was_let_in = False
        assert was_let_in == (level + 1 <= limit)
        level += was_let_in


def test_no_limits_are_false_and_any_is_true() -> None:
    """So that requests without limits are passed by for nothing."""
    assert not NO_LIMITS
    assert RateLimits(parallel_requests=1)
