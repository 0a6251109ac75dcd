"""Tree of Thoughts search: breadth-first and depth-first, over any generator and evaluator.

Source: Yao et al. (2023), arXiv:2305.10601, algorithms 1 and 2. Generators and evaluators are asked
for a whole level, so that they can work side by side, and so that recorded levels can be replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from router.errors import AllowanceExceededError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Sequence

STOPPING = (ProviderError, AllowanceExceededError)
ROOT = ""
"""The state before the first thought."""


class Generator(Protocol):
    """Grows states. A state is text: all that was thought on the way to it."""

    async def generate(self, states: Sequence[str], depth: int) -> Sequence[Sequence[str]]:
        """Give the children of each of ``states``, which have ``depth`` thoughts, in order."""
        ...


class Selector(Protocol):
    """Says which candidates of a level go on."""

    def select(self, candidates: Sequence[str], values: Sequence[float], depth: int) -> list[int]:
        """Give the positions of the kept ones, the best first."""
        ...


class Evaluator(Protocol):
    """Values states; larger is better."""

    async def evaluate(self, states: Sequence[str], depth: int) -> Sequence[float]:
        """Value each of ``states``, whose last thought is number ``depth`` from 0."""
        ...


@dataclass(frozen=True, slots=True)
class Level:
    """One round of a search: from ``states`` grew ``candidates`` of ``values``, ``selected`` stay.

    In a depth-first search a level is one expansion, and what was selected goes on the stack.
    """

    depth: int
    states: tuple[str, ...]
    candidates: tuple[str, ...]
    values: tuple[float, ...]
    selected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search ends with: ``states`` from the best on, and how it came there.

    ``complete`` is False when the upstream or a cap stopped it; ``states`` are then those it had.
    """

    states: tuple[str, ...]
    levels: tuple[Level, ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Greedy:
    """Keeps the ``breadth`` best of a level; of equal values the earlier candidate."""

    breadth: int

    def select(self, candidates: Sequence[str], values: Sequence[float], depth: int) -> list[int]:  # noqa: ARG002 - protocol
        """Give the positions of the best."""
        return best_first(values)[: self.breadth]


async def breadth_first(
    generator: Generator,
    evaluator: Evaluator,
    *,
    depth: int,
    selector: Selector,
) -> Searched:
    """Keep what ``selector`` picks of each level's candidates, over ``depth`` levels.

    A level without candidates ends the search.
    Raises what stops the very first call.
    """
    states: tuple[str, ...] = (ROOT,)
    levels: list[Level] = []
    for at in range(depth):
        try:
            grown = await generator.generate(states, at)
        except STOPPING:
            if at == 0:
                raise
            return Searched(states, tuple(levels), complete=False)
        candidates = tuple(child for children in grown for child in children)
        if not candidates:
            break
        try:
            values = tuple(await evaluator.evaluate(candidates, at))
        except STOPPING:
            kept = selector.select(candidates, [0.0] * len(candidates), at)
            return Searched(tuple(candidates[i] for i in kept), tuple(levels), complete=False)
        selected = tuple(candidates[i] for i in selector.select(candidates, values, at))
        levels.append(Level(at, states, candidates, values, selected))
        states = selected
    return Searched(states, tuple(levels))


async def depth_first(
    generator: Generator,
    evaluator: Evaluator,
    *,
    depth: int,
    threshold: float,
    max_expansions: int,
) -> Searched:
    """Follow the best child first, prune children below ``threshold``, and backtrack.

    The first state of ``depth`` thoughts ends it, as do ``max_expansions`` expanded states; the
    states are then the deepest seen, the best of them first. Raises what stops the first call.
    """
    stack: list[tuple[str, int, float]] = [(ROOT, 0, 0.0)]
    seen: list[tuple[int, float, str]] = []
    levels: list[Level] = []
    complete = True
    n_expanded = 0
    while stack and n_expanded < max_expansions:
        state, at, value = stack.pop()
        if at:
            seen.append((at, value, state))
        if at == depth:
            break
        try:
            (children,) = await generator.generate((state,), at)
        except STOPPING:
            if n_expanded == 0:
                raise
            complete = False
            break
        n_expanded += 1
        if not children:
            continue
        try:
            values = tuple(await evaluator.evaluate(tuple(children), at))
        except STOPPING:
            seen.extend((at + 1, 0.0, child) for child in children)
            complete = False
            break
        kept = [i for i in best_first(values) if values[i] >= threshold]
        selected = tuple(children[i] for i in kept)
        levels.append(Level(at, (state,), tuple(children), values, selected))
        stack.extend((children[i], at + 1, values[i]) for i in reversed(kept))
    else:
        seen.extend((at, value, state) for state, at, value in reversed(stack) if at)
    deepest = max((at for at, _, _ in seen), default=0)
    ranked = sorted((found for found in seen if found[0] == deepest), key=lambda f: -f[1])
    return Searched(
        tuple(state for _, _, state in ranked) or (ROOT,), tuple(levels), complete=complete
    )


def best_first(values: Sequence[float]) -> list[int]:
    """Order positions by value, the largest first; of equal ones the earlier comes first."""
    return sorted(range(len(values)), key=lambda i: values[i], reverse=True)


class CachedEvaluator:
    """Values each different state once, and a repeated candidate of one level at 0.

    ``key`` gives what the value of a state depends on; states with one key share a value. A
    repetition gets 0, as in the paper's own code, so that it never crowds out another state.
    """

    def __init__(self, evaluator: Evaluator, key: object = None) -> None:
        self._evaluator = evaluator
        self._key = key if callable(key) else str
        self._values: dict[str, float] = {}

    async def evaluate(self, states: Sequence[str], depth: int) -> tuple[float, ...]:
        """Value ``states``, asking only for what was not valued before."""
        keys = [f"{depth}|{self._key(state)}" for state in states]
        fresh: dict[str, str] = {}
        for key, state in zip(keys, states, strict=True):
            if key not in self._values:
                fresh.setdefault(key, state)
        if fresh:
            given = await self._evaluator.evaluate(tuple(fresh.values()), depth)
            self._values.update(zip(fresh, given, strict=True))
        found = []
        told: set[str] = set()
        for key, state in zip(keys, states, strict=True):
            found.append(0.0 if state in told else self._values[key])
            told.add(state)
        return tuple(found)
