"""Replay a recorded tree search through the real one, puzzle by puzzle, without a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from router.questions.game24 import solves
from router.trees.game24 import Game24
from router.trees.recorded import RecordedEvaluator, RecordedGenerator, RecordedSelector
from router.trees.search import Greedy, breadth_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.trees.recorded import RecordedPuzzle
    from router.trees.search import Selector


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one puzzle.

    ``calls`` is how often the log stands in for a model: states grown and different candidates
    valued. ``same_path`` tells whether the search kept what the log kept at every level.
    ``recorded_first`` and ``recorded_any`` are the log's own success. ``rule_disagrees`` counts
    final states of a Game of 24 that the rule grades otherwise than the log. ``greedy`` is False
    where the log kept states by chance, and the replay what the log kept.
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
    greedy: bool = True


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


async def replay(log: Sequence[RecordedPuzzle], breadth: int | None = None) -> Replay:
    """Run breadth-first search over each puzzle's recorded thoughts and values.

    ``breadth`` None is that of the log: the most states that a level of it kept. With that, a log
    whose states were drawn by chance is followed where it went.
    """
    own = max((puzzle.breadth for puzzle in log), default=1)
    width = own if breadth is None else breadth
    done = []
    for puzzle in log:
        greedy = puzzle.greedy(own)
        drawn = RecordedSelector(puzzle.levels, Greedy(width))
        selector = drawn if width == own and not greedy else Greedy(width)
        done.append(replace(await _replayed(puzzle, selector), greedy=greedy))
    return Replay(width, tuple(done))


async def _replayed(recorded: RecordedPuzzle, selector: Selector) -> Replayed:
    generator = RecordedGenerator(recorded.levels)
    evaluator = RecordedEvaluator(recorded.levels)
    found = await breadth_first(generator, evaluator, depth=len(recorded.levels), selector=selector)
    rule = Game24.posed(recorded.puzzle)
    graded = dict(zip(recorded.finals, recorded.solved, strict=True))
    answered = len(recorded.levels) > rule.depth
    ruled = _solved if answered else Game24.solved
    solved = [graded.get(state, ruled(rule, state)) for state in found.states]
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
            rule.numbers is not None and ruled(rule, state) != right
            for state, right in graded.items()
        ),
    )


def _solved(rule: Game24, state: str) -> bool:
    """Grade a state as logs with a last step for the answer are: by its last line alone."""
    lines = state.strip().splitlines()
    if rule.numbers is None or not lines:
        return False
    stated = lines[-1].lower().replace("answer: ", "").split("=")[0]
    return solves(stated, rule.numbers)
