"""Replay a recorded tree search through the real one, puzzle by puzzle, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.trees.game24 import Game24
from router.trees.recorded import RecordedEvaluator, RecordedGenerator
from router.trees.search import breadth_first

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.trees.recorded import RecordedPuzzle


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one puzzle.

    ``calls`` is how often the log stands in for a model: states grown and different candidates
    valued. ``same_path`` tells whether the search kept what the log kept at every level.
    ``recorded_first`` and ``recorded_any`` are the log's own success. ``rule_disagrees`` counts
    final states of a Game of 24 that the rule grades otherwise than the log.
    """

    name: str
    puzzle: str
    solved_first: bool
    solved_any: bool
    calls: int
    same_path: bool
    recorded_first: bool
    recorded_any: bool
    rule_disagrees: int


@dataclass(frozen=True, slots=True)
class Replay:
    """Every puzzle of a log, replayed with one breadth."""

    breadth: int
    puzzles: tuple[Replayed, ...]

    @property
    def n_solved_first(self) -> int:
        """Puzzles whose best final state is a solution."""
        return sum(puzzle.solved_first for puzzle in self.puzzles)

    @property
    def n_solved_any(self) -> int:
        """Puzzles with a solution among their final states."""
        return sum(puzzle.solved_any for puzzle in self.puzzles)

    @property
    def calls(self) -> int:
        """Sum over the puzzles."""
        return sum(puzzle.calls for puzzle in self.puzzles)


async def replay(log: Iterable[RecordedPuzzle], breadth: int) -> Replay:
    """Run breadth-first search over each puzzle's recorded thoughts and values."""
    return Replay(breadth, tuple([await _replayed(puzzle, breadth) for puzzle in log]))


async def _replayed(recorded: RecordedPuzzle, breadth: int) -> Replayed:
    generator = RecordedGenerator(recorded.levels)
    evaluator = RecordedEvaluator(recorded.levels)
    found = await breadth_first(generator, evaluator, depth=len(recorded.levels), breadth=breadth)
    rule = Game24.posed(recorded.puzzle)
    graded = dict(zip(recorded.finals, recorded.solved, strict=True))
    solved = [graded.get(state, rule.solved(state)) for state in found.states]
    kept = [level.selected for level in found.levels]
    return Replayed(
        name=recorded.name,
        puzzle=recorded.puzzle,
        solved_first=bool(solved) and solved[0],
        solved_any=any(solved),
        calls=generator.n_calls + evaluator.n_calls,
        same_path=kept == [level.selected for level in recorded.levels]
        and found.states == recorded.finals,
        recorded_first=bool(recorded.solved) and recorded.solved[0],
        recorded_any=any(recorded.solved),
        rule_disagrees=sum(
            rule.numbers is not None and rule.solved(state) != right
            for state, right in graded.items()
        ),
    )
