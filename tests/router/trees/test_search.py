"""The searches, over generators and evaluators that are tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import AllowanceExceededError, ProviderError
from router.trees.search import ROOT, CachedEvaluator, Greedy, Searched, breadth_first, depth_first

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Table:
    """Children and values by state; ``fails_at`` is the number of the call that is refused."""

    children: dict[str, list[str]]
    values: dict[str, float] = field(default_factory=dict)
    fails_at: int = -1
    n_calls: int = 0
    asked: list[str] = field(default_factory=list)

    def _call(self) -> None:
        if self.n_calls == self.fails_at:
            raise AllowanceExceededError
        self.n_calls += 1

    async def generate(self, states: Sequence[str], depth: int) -> list[list[str]]:
        """Look up the children."""
        self._call()
        return [self.children.get(state, []) for state in states]

    async def evaluate(self, states: Sequence[str], depth: int) -> list[float]:
        """Look up the values."""
        self._call()
        self.asked += states
        return [self.values.get(state, 0.0) for state in states]


TREE = Table(
    {ROOT: ["a", "b", "c"], "a": ["aa", "ab"], "b": ["ba", "bb"], "c": ["ca"]},
    {"a": 1, "b": 3, "c": 2, "aa": 9, "ab": 9, "ba": 1, "bb": 5, "ca": 5},
)


def fresh(fails_at: int = -1) -> Table:
    """Copy the tree."""
    return Table(TREE.children, TREE.values, fails_at)


async def bfs(table: Table, depth: int = 2, breadth: int = 2) -> Searched:
    """Search breadth first."""
    return await breadth_first(table, table, depth=depth, selector=Greedy(breadth))


async def dfs(table: Table, threshold: float = 0.0, most: int = 9, depth: int = 2) -> Searched:
    """Search depth first."""
    return await depth_first(table, table, depth=depth, threshold=threshold, max_expansions=most)


def test_breadth_first_keeps_the_best_and_an_earlier_one_of_equals() -> None:
    """The level is written down as it was."""
    found = anyio.run(bfs, fresh())
    assert found.states == ("bb", "ca")
    first, second = found.levels
    assert (first.states, first.candidates, first.values) == ((ROOT,), ("a", "b", "c"), (1, 3, 2))
    assert first.selected == ("b", "c")
    assert second.candidates == ("ba", "bb", "ca")
    assert anyio.run(bfs, fresh(), 2, 3).states == ("aa", "ab", "bb")
    assert anyio.run(bfs, fresh(), 9, 3).states == ("aa", "ab", "bb")


@pytest.mark.parametrize(
    ("fails_at", "states", "n_levels"),
    [(1, ("a", "b"), 0), (2, ("b", "c"), 1), (3, ("ba", "bb"), 1)],
)
def test_what_stops_breadth_first_leaves_the_best_so_far(
    fails_at: int, states: tuple[str, ...], n_levels: int
) -> None:
    """Refused while judging, the candidates are unjudged; the first growing raises."""
    found = anyio.run(bfs, fresh(fails_at))
    assert (found.states, len(found.levels), found.complete) == (states, n_levels, False)
    with pytest.raises(AllowanceExceededError):
        anyio.run(bfs, fresh(0))


def test_depth_first_follows_the_best_prunes_and_backtracks() -> None:
    """The first full depth ends it; what is below the threshold is never grown."""
    assert anyio.run(dfs, fresh()).states == ("bb",)
    pruned = anyio.run(dfs, fresh(), 6.0)
    assert pruned.states == (ROOT,)
    blind = Table({ROOT: ["a", "b"], "a": [], "b": ["ba"]}, {"a": 2, "b": 1, "ba": 1})
    found = anyio.run(dfs, blind)
    assert found.states == ("ba",)
    assert [level.states for level in found.levels] == [(ROOT,), ("b",)]


def test_depth_first_stops_at_its_most_expansions() -> None:
    """The deepest seen is what it has."""
    found = anyio.run(dfs, fresh(), 0.0, 1)
    assert found.states == ("b", "c", "a")
    assert found.complete


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_what_stops_depth_first_leaves_the_deepest_seen(fails_at: int) -> None:
    """Never an exception after the first growing."""
    found = anyio.run(dfs, fresh(fails_at))
    assert not found.complete
    assert found.states[0] in {"a", "b", "ba"}
    with pytest.raises(AllowanceExceededError):
        anyio.run(dfs, fresh(0))


@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12),
    breadth=st.integers(1, 6),
)
@settings(deadline=None)
def test_a_level_keeps_a_stable_order(values: list[float], breadth: int) -> None:
    """As Python's own stable sort does, which the paper's code relies on."""
    names = [f"s{i}" for i in range(len(values))]
    table = Table({ROOT: names}, dict(zip(names, values, strict=True)))
    found = anyio.run(bfs, table, 1, breadth)
    best = sorted(names, key=lambda name: values[names.index(name)], reverse=True)
    assert list(found.states) == best[:breadth]


def test_a_cache_asks_once_and_gives_a_repetition_nothing() -> None:
    """States with one key share a value; the same text twice in a level counts once."""
    table = Table({}, {"a1": 5, "b": 2})
    cached = CachedEvaluator(table, lambda state: state[0])

    async def run() -> list[tuple[float, ...]]:
        return [
            await cached.evaluate(("a1", "b", "a1", "a2"), 0),
            await cached.evaluate(("a2", "a1"), 0),
        ]

    assert anyio.run(run) == [(5, 2, 0.0, 5), (5, 5)]
    assert table.asked == ["a1", "b"]


def test_an_error_of_another_kind_is_not_swallowed() -> None:
    """Only a failing upstream and a reached cap leave a best so far."""

    class Broken(Table):
        async def evaluate(self, states: Sequence[str], depth: int) -> list[float]:
            raise KeyError(states[0])

    with pytest.raises(KeyError):
        anyio.run(bfs, Broken(TREE.children))
    assert issubclass(ProviderError, Exception)
