"""A second call beside a slow one: which answer counts, and what becomes of the other."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import AllowanceExceededError, ProviderError
from router.providers.hedging import NEEDED, REMEMBERED, Latencies, first_of_two

pytestmark = pytest.mark.anyio

FOREVER_S = 60.0


class Call:
    """A call that takes a while and then answers or fails; it notes how it ended."""

    def __init__(self, answer: str | Exception, seconds: float) -> None:
        self.answer = answer
        self.seconds = seconds
        self.ended = "not begun"

    async def run(self) -> str:
        """Take the time, then answer."""
        self.ended = "cancelled"
        await asyncio.sleep(self.seconds)
        self.ended = "answered"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


LOST = ProviderError("m", "lost")


@pytest.mark.parametrize(
    ("first", "second", "answer", "ended"),
    [
        pytest.param(
            Call("a", 0.0), Call("b", 0.0), "a", ("answered", "not begun"), id="fast enough"
        ),
        pytest.param(
            Call("a", FOREVER_S), Call("b", 0.0), "b", ("cancelled", "answered"), id="overtaken"
        ),
        pytest.param(
            Call("a", 0.1),
            Call("b", FOREVER_S),
            "a",
            ("answered", "cancelled"),
            id="first after all",
        ),
        pytest.param(
            Call(LOST, 0.1), Call("b", 0.2), "b", ("answered", "answered"), id="the first fails"
        ),
        pytest.param(
            Call("a", 0.1),
            Call(AllowanceExceededError("no room"), 0.0),
            "a",
            ("answered", "answered"),
            id="no room for a second",
        ),
    ],
)
async def test_the_first_answer_counts(
    first: Call, second: Call, answer: str, ended: tuple[str, str]
) -> None:
    """The other one has ended by then, whichever it is."""
    assert await first_of_two(first.run(), second.run, 0.03) == answer
    assert (first.ended, second.ended) == ended


async def test_when_both_fail_the_first_error_is_told() -> None:
    """What became of the second is in the ledger."""
    second = Call(AllowanceExceededError("no room"), 0.0)
    with pytest.raises(ProviderError, match="lost"):
        await first_of_two(Call(LOST, 0.1).run(), second.run, 0.03)


async def test_cancelling_ends_both() -> None:
    """A client that leaves takes both calls with it."""
    first, second = Call("a", FOREVER_S), Call("b", FOREVER_S)
    task = asyncio.create_task(first_of_two(first.run(), second.run, 0.0))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (first.ended, second.ended) == ("cancelled", "cancelled")


@given(st.lists(st.floats(0, 100), max_size=300), st.floats(0.01, 0.99))
def test_a_quantile_is_not_exceeded_by_its_share(seconds: list[float], share: float) -> None:
    """Of the latest ones; nothing is said of too few."""
    latencies = Latencies()
    for each in seconds:
        latencies.note(each)
    found = latencies.quantile(share)
    kept = seconds[-REMEMBERED:]
    assert (found is None) == (len(kept) < NEEDED)
    if found is not None:
        assert sum(each <= found for each in kept) >= share * len(kept)
        assert sum(each < found for each in kept) < share * len(kept)
