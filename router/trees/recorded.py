"""Recorded searches: logs in the form of princeton-nlp/tree-of-thought-llm, read and written.

A log is a list of puzzles. Each has ``steps``, one a level: ``x`` (the puzzle), ``ys`` (states that
were grown), ``new_ys`` (candidates), ``values`` (one for each candidate) and ``select_new_ys``
(what was kept); ``ys``, the final states, the best first; and ``infos``, one for each of them
with ``r`` (1 solved, 0 not).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cost_models.errors import RheostatError
from router.trees.search import Greedy, Level, best_first

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from router.trees.search import Searched


class RecordingError(RheostatError):
    """A log cannot be read, or a search asks for what it does not hold."""


@dataclass(frozen=True, slots=True)
class RecordedPuzzle:
    """One puzzle of a log; ``solved`` has one entry for each of ``finals``."""

    name: str
    puzzle: str
    levels: tuple[Level, ...]
    finals: tuple[str, ...]
    solved: tuple[bool, ...]

    @property
    def breadth(self) -> int:
        """Most states that a level kept."""
        return max((len(level.selected) for level in self.levels), default=1)

    def greedy(self, breadth: int) -> bool:
        """Tell whether each level kept its best; a log of sampled selection did not."""
        return all(
            level.selected == tuple(level.candidates[i] for i in best_first(level.values)[:breadth])
            for level in self.levels
        )


@dataclass(slots=True)
class RecordedGenerator:
    """Gives the recorded candidates of each level; ``n_calls`` counts the states grown.

    Candidates belong to the recorded state that they begin with, in order. A state that was not
    grown when the log was made has none.
    """

    levels: Sequence[Level]
    n_calls: int = 0

    async def generate(self, states: Sequence[str], depth: int) -> list[list[str]]:
        """Look up the children of ``states``."""
        self.n_calls += len(states)
        if depth >= len(self.levels):
            return [[] for _ in states]
        level = self.levels[depth]
        if tuple(states) == level.states:
            return by_parent(level)
        grown: dict[str, list[str]] = {}
        for state, children in zip(level.states, by_parent(level), strict=True):
            grown.setdefault(state, children)
        return [grown.get(state, []) for state in states]


@dataclass(slots=True)
class RecordedEvaluator:
    """Gives the recorded values; ``n_calls`` counts the different states valued.

    A candidate that is there several times is told apart by its order, since the log values
    only the first.
    """

    levels: Sequence[Level]
    n_calls: int = 0

    async def evaluate(self, states: Sequence[str], depth: int) -> list[float]:
        """Look up the values of ``states``."""
        self.n_calls += len(set(states))
        level = self.levels[depth]
        if tuple(states) == level.candidates:
            return list(level.values)
        recorded: dict[str, list[float]] = {}
        for state, value in zip(level.candidates, level.values, strict=True):
            recorded.setdefault(state, []).append(value)
        taken: dict[str, int] = {}
        found = []
        for state in states:
            at = taken.get(state, 0)
            taken[state] = at + 1
            values = recorded[state]
            found.append(values[min(at, len(values) - 1)])
        return found


@dataclass(frozen=True, slots=True)
class RecordedSelector:
    """Keeps what the log kept, where it has its own candidates; else the best.

    For logs whose states were drawn in proportion to their values.
    """

    levels: Sequence[Level]
    otherwise: Greedy

    def select(self, candidates: Sequence[str], values: Sequence[float], depth: int) -> list[int]:
        """Look up what was kept."""
        level = self.levels[depth]
        if tuple(candidates) != level.candidates:
            return self.otherwise.select(candidates, values, depth)
        return [level.candidates.index(state) for state in level.selected]


def by_parent(level: Level) -> list[list[str]]:
    """Split a level's candidates by the state that each grew from, in order."""
    groups: list[list[str]] = [[] for _ in level.states]
    at = 0
    for candidate in level.candidates:
        further = range(at, len(level.states))
        at = next((i for i in further if candidate.startswith(level.states[i])), at)
        groups[at].append(candidate)
    return groups


def read_log(path: Path) -> list[RecordedPuzzle]:
    """Read a log; raise RecordingError naming the puzzle and field that are wrong."""
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: is no readable JSON: {error}"
        raise RecordingError(msg) from error
    if not isinstance(loaded, list) or not loaded:
        msg = f"{path}: a log is a list of puzzles, got {type(loaded).__name__}"
        raise RecordingError(msg)
    return [_puzzle(str(path), i, entry) for i, entry in enumerate(loaded)]


def _other_kind(entry: Any) -> str | None:  # noqa: ANN401 - JSON
    """Say what an entry of those authors' other logs is; None for one with a tree."""
    if isinstance(entry, list):
        return "is of a depth-first crosswords search, which keeps no candidates with values"
    if not isinstance(entry, dict):
        return f"is {type(entry).__name__}, and not an object"
    if "steps" not in entry and "ys" in entry and "infos" in entry:
        return "is of plain samples (a naive run), without steps: there is no tree to replay"
    return None


def to_log(name: str | int, puzzle: str, found: Searched, solved: Sequence[bool]) -> dict[str, Any]:
    """Write one search as an entry of a log; ``solved`` has one entry for each final state."""
    steps = [
        {
            "step": level.depth,
            "x": puzzle,
            "ys": list(level.states),
            "new_ys": list(level.candidates),
            "values": list(level.values),
            "select_new_ys": list(level.selected),
        }
        for level in found.levels
    ]
    infos = [{"r": int(right)} for right in solved]
    return {"steps": steps, "idx": name, "ys": list(found.states), "infos": infos}


def _puzzle(source: str, i: int, entry: Any) -> RecordedPuzzle:  # noqa: ANN401 - JSON
    other = _other_kind(entry)
    if other is not None:
        msg = f"{source}: puzzle {i} {other}"
        raise RecordingError(msg)
    try:
        levels = tuple(_level(at, step) for at, step in enumerate(entry["steps"]))
        finals = tuple(str(state) for state in entry["ys"])
        solved = tuple(float(info["r"]) > 0 for info in entry["infos"])
        puzzle = str(entry["steps"][0]["x"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        msg = (
            f"{source}: puzzle {i} needs steps[].x, ys, new_ys, values, select_new_ys, and ys and "
            f"infos[].r: {type(error).__name__} {error}"
        )
        raise RecordingError(msg) from error
    if len(finals) != len(solved):
        msg = f"{source}: puzzle {i} has {len(finals)} final states and {len(solved)} infos"
        raise RecordingError(msg)
    if levels and set(levels[-1].selected) != set(finals):
        msg = f"{source}: puzzle {i} ends with ys that its last step did not select"
        raise RecordingError(msg)
    return RecordedPuzzle(str(entry.get("idx", i)), puzzle, levels, finals, solved)


def _level(at: int, step: Any) -> Level:  # noqa: ANN401 - JSON
    states, candidates, selected = (
        tuple(str(state) for state in step[key]) for key in ("ys", "new_ys", "select_new_ys")
    )
    values = tuple(float(value) for value in step["values"])
    if len(values) != len(candidates):
        msg = f"step {at} has {len(candidates)} new_ys and {len(values)} values"
        raise ValueError(msg)
    if not set(selected) <= set(candidates):
        msg = f"step {at} has select_new_ys that are not among its new_ys"
        raise ValueError(msg)
    return Level(at, states, candidates, values, selected)
