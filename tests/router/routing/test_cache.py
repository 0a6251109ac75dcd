"""The cache of answers: what it is known by, who gets a hit, and what a hit is in the books."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from parts import asks, catalog, scripted
from sqlalchemy import select

from cost_models.budgets import Budget, Period
from cost_models.rates import RateLimits
from router.providers.scripted import Reply
from router.routing.cache import AnswerCache, CachedAnswer, CacheSettings, key_of
from router.routing.cached import CachingService
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.types import Served
from router.types import Answer, Chunk, Message
from storage.models import EntryRow, RequestRow

if TYPE_CHECKING:
    from router.providers.scripted import Script
    from router.routing.types import ChatRequest
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
SETTINGS = CacheSettings(ttl_s=10.0, max_entries=2)
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}


class Clock:
    """Seconds that pass when told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def service(
    ledger: Ledger, script: Script, settings: CacheSettings = SETTINGS, clock: Clock | None = None
) -> CachingService:
    """Serve from a script with a cache in front."""
    found = catalog(scripted("small", script))
    chooser = Chooser(found, ChooserSettings(exploration=0.0), np.random.default_rng(0))
    cache = AnswerCache(settings, clock or Clock())
    return CachingService(found, chooser, ledger, clock=lambda: NOW, cache=cache)


def counted(request: Any, i: int) -> str:  # noqa: ANN401 - a script's arguments
    """Say which call it is."""
    return f"run {i}"


async def streamed(served: CachingService, request: ChatRequest) -> tuple[list[Chunk], Served]:
    """Read a stream to its end."""
    *chunks, last = [item async for item in served.stream(request)]
    assert isinstance(last, Served)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    return [chunk for chunk in chunks if isinstance(chunk, Chunk)], last


async def test_a_hit_costs_nothing_and_is_an_entry_of_its_own(sqlite_ledger: Ledger) -> None:
    """Also when the money is gone; its id is new, and its tokens are none."""
    sqlite_ledger.declare_budgets([Budget("organisation", Period.TOTAL, 10**8)])
    served = service(sqlite_ledger, counted)
    first = await served.answer(asks(temperature=0))
    sqlite_ledger.declare_budgets([Budget("organisation", Period.TOTAL, 1)])
    hit = await served.answer(asks(temperature=0))
    assert hit.answer == first.answer
    assert (hit.cost_nano_usd, hit.usage.n_calls, hit.model) == (0, 0, "small")
    assert (hit.cached_from, first.cached_from) == (first.request_id, None)
    assert hit.request_id != first.request_id
    with sqlite_ledger.engine.connect() as connection:
        rows = connection.execute(
            select(EntryRow.request_id, EntryRow.strategy, EntryRow.cost_nano_usd, EntryRow.status)
        ).all()
        assert len(connection.execute(select(RequestRow.id)).all()) == 2
    assert rows[0][1:3] == ("direct", first.cost_nano_usd)
    assert rows[1] == (hit.request_id, "cache", 0, "settled")
    assert sqlite_ledger.examine() == []


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"tenant": "bolt"}, id="another tenant"),
        pytest.param({"model": "small"}, id="another model"),
        pytest.param({"max_tokens": 9}, id="another cap"),
        pytest.param({"text": "what is 2 + 3 ?"}, id="another question"),
        pytest.param({"seed": 1}, id="a seed"),
        pytest.param({"stop": ("x",)}, id="a stop"),
        pytest.param({"extra": {"tools": [CALL]}}, id="tools"),
        pytest.param({"max_cost_usd": 0.5}, id="a limit"),
        pytest.param({"logprobs": True}, id="log-probabilities"),
    ],
)
def test_everything_that_the_answer_can_depend_on_is_part_of_the_key(other: dict[str, Any]) -> None:
    """What differs is another request, above all who asks."""
    plain: dict[str, Any] = {"temperature": 0}
    assert key_of(asks(**plain)) == key_of(asks(**plain)) != key_of(asks(**{**plain, **other}))


def test_only_what_asks_for_the_same_answer_again_is_cached() -> None:
    """Temperature 0 or a seed; not where the client wants none of it."""
    assert key_of(asks()) is None
    assert key_of(asks(temperature=0.7)) is None
    assert key_of(asks(temperature=0.7, seed=1)) is not None
    assert key_of(replace(asks(temperature=0), cacheable=False)) is None
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}]
    seen = asks(temperature=0)
    task = replace(seen.task, messages=(Message("user", parts),))
    assert key_of(replace(seen, task=task)) not in {None, key_of(seen)}


async def test_streams_and_whole_answers_share_what_is_kept(sqlite_ledger: Ledger) -> None:
    """A hit has the shape of an answer that comes whole: role, text, reason."""
    served = service(sqlite_ledger, counted)
    chunks, first = await streamed(served, asks(temperature=0))
    said = "".join(str(chunk.delta.get("content") or "") for chunk in chunks)
    assert said == "run 0"
    again, hit = await streamed(served, asks(temperature=0))
    assert [dict(chunk.delta) for chunk in again] == [
        {"role": "assistant", "content": ""},
        {"content": "run 0"},
        {},
    ]
    assert [chunk.finish_reason for chunk in again] == [None, None, "stop"]
    assert hit.cached_from == first.request_id
    assert (await served.answer(asks(temperature=0))).cached_from == first.request_id


async def test_tool_calls_are_given_again_and_streamed_ones_are_not_kept(
    sqlite_ledger: Ledger,
) -> None:
    """Of a stream its text alone is gathered."""
    served = service(sqlite_ledger, lambda _r, _i: Reply("", "tool_calls", tool_calls=(CALL,)))
    asked = {"temperature": 0, "extra": {"tools": [CALL]}}
    await streamed(served, asks(**asked))
    first = await served.answer(asks(**asked))
    assert first.cached_from is None
    chunks, hit = await streamed(served, asks(**asked))
    assert hit.cached_from == first.request_id
    assert chunks[1].delta == {"tool_calls": [CALL]}
    assert chunks[-1].finish_reason == "tool_calls"


async def test_what_is_kept_is_bounded_and_gets_old(sqlite_ledger: Ledger) -> None:
    """By number, by bytes and by time; the least lately used goes first."""
    clock = Clock()
    served = service(sqlite_ledger, counted, clock=clock)

    async def hits(text: str) -> bool:
        asked = asks(text=text, temperature=0)
        return (await served.answer(asked)).cached_from is not None

    assert [await hits(text) for text in ("a", "b", "a", "c", "a", "b")] == [
        *(False, False, True),
        *(False, True, False),
    ]
    clock.now_s = 10.0
    assert not await hits("a")
    assert await hits("a")
    small = AnswerCache(CacheSettings(10.0, max_bytes=1_200), clock)
    for i in range(9):
        small.keep(bytes([i]), CachedAnswer("r", "small", Answer("x" * 300)))
    kept = [i for i in range(9) if small.find(bytes([i])) is not None]
    assert kept == [7, 8]
    small.keep(b"big", CachedAnswer("r", "small", Answer("x" * 2_000)))
    assert small.find(b"big") is None


def test_what_is_not_whole_or_known_to_be_wrong_is_not_kept() -> None:
    """It would be given again and again."""
    cache = AnswerCache(SETTINGS)
    cache.keep(b"k", CachedAnswer("r", "small", Answer("x", complete=False)))
    cache.keep(b"k", CachedAnswer("r", "small", Answer("x", verified=False)))
    assert cache.find(b"k") is None


async def test_a_hit_gives_the_place_of_its_key_back(ledger: Ledger) -> None:
    """A key with a limit of requests at once is not locked out by answers from memory."""
    served = service(ledger, counted)
    for _ in range(3):
        request = asks(temperature=0)
        permit = await served.admit(request, RateLimits(parallel_requests=1))
        await served.answer(replace(request, permit=permit))
    assert ledger.examine() == []
