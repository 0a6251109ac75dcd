"""Tree of Thoughts: grow several thoughts, judge them, go on from the best.

Source: Yao et al. (2023), arXiv:2305.10601. The search is `router.trees.search`, the tasks are
`router.trees`; here the model is put behind both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router import answers
from router.parameters import canonical, check, number, one_of
from router.strategies.base import Needs
from router.strategies.calls import Seeded
from router.strategies.prompts import answer_from, best_text
from router.strategies.tree_calls import Growth, ModelGenerator, ValueEvaluator, VoteEvaluator
from router.trees.crosswords import Crosswords
from router.trees.game24 import Game24
from router.trees.search import CachedEvaluator, Greedy, breadth_first, depth_first
from router.trees.text import Text

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.trees.search import Evaluator, Searched
    from router.trees.tasks import Puzzle
    from router.types import Answer, Task

BREADTH_FIRST = "bfs"
DEPTH_FIRST = "dfs"


@dataclass(frozen=True, slots=True)
class TreeOfThoughts:
    """Search a tree of thoughts about a ``task``: ``text``, ``game24`` or ``crosswords``.

    ``generator`` ``sample`` draws ``n_generate`` thoughts a state in one call; ``propose`` asks
    for several in one reply and keeps the first ``n_generate``. ``evaluator`` ``value`` judges
    each state on its own, ``vote`` all of a level at once; each verdict is the mean of
    ``n_evaluate`` completions. ``search`` ``bfs`` keeps the ``breadth`` best of a level; ``dfs``
    follows the best first, prunes below ``threshold`` (``impossible`` is worth 0.001, ``likely``
    or ``maybe`` 1, ``sure`` 20; a vote up to 1), backtracks, and expands ``max_expansions``
    states at most. Where a question is none for the task, the first reply is the answer.
    """

    name: ClassVar[str] = "tree_of_thoughts"
    title: ClassVar[str] = "grow several thoughts, judge them, go on from the best"
    source: ClassVar[str] = "Yao et al. 2023, arXiv:2305.10601"
    needs: ClassVar[Needs] = Needs(logprobs=False)

    task: str = one_of("text", "text", "game24", "crosswords", always_shown=True)
    generator: str = one_of("sample", "sample", "propose")
    evaluator: str = one_of("vote", "value", "vote")
    search: str = one_of(BREADTH_FIRST, BREADTH_FIRST, DEPTH_FIRST)
    breadth: int = number(1, 1, 16)
    n_generate: int = number(5, 1, 16)
    n_evaluate: int = number(3, 1, 16)
    threshold: float = number(0.5, 0.0, 20.0)
    max_expansions: int = number(20, 1, 200)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)
    judge_tokens: int = number(256, 8, 4096)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound every growing and judging call, by the parameters alone."""
        growth = self._growth(task)
        grow = growth.generating(task, prompt_tokens)
        if self.search == DEPTH_FIRST:
            judge = growth.evaluating(task, prompt_tokens, 1)
            return (grow, *judge) * self.max_expansions
        kept = min(self.breadth, self.n_generate)
        calls = [grow, *growth.evaluating(task, prompt_tokens, 1)]
        for _ in range(1, growth.puzzle.depth):
            calls += [grow] * kept
            calls += growth.evaluating(task, prompt_tokens, kept)
            kept = min(self.breadth, kept * self.n_generate)
        return tuple(calls)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task with the best state; what stops the search leaves the best so far."""
        seeded = Seeded(task, sampler)
        growth = self._growth(task)
        generator = ModelGenerator(task, growth, seeded)
        judge = VoteEvaluator if self.evaluator == "vote" else ValueEvaluator
        evaluator: Evaluator = judge(task, growth, seeded)
        if self.evaluator == "value":
            evaluator = CachedEvaluator(evaluator, growth.puzzle.key)
        found = await self._searched(generator, evaluator, growth.puzzle.depth)
        best = found.states[0] if found.states else ""
        text = growth.puzzle.answer(best)
        source = next((s for s in generator.samples if s.text and s.text in text), None)
        shown = source or best_text(generator.samples)
        if text:
            shown = replace(shown, text=text, logprobs=None)
        return replace(answer_from(task, shown, generator.samples), complete=found.complete)

    async def _searched(
        self, generator: ModelGenerator, evaluator: Evaluator, depth: int
    ) -> Searched:
        if self.search == BREADTH_FIRST:
            return await breadth_first(
                generator, evaluator, depth=depth, selector=Greedy(self.breadth)
            )
        return await depth_first(
            generator,
            evaluator,
            depth=depth,
            threshold=self.threshold,
            max_expansions=self.max_expansions,
        )

    def _growth(self, task: Task) -> Growth:
        return Growth(
            puzzle=self._puzzle(task),
            generator=self.generator,
            evaluator=self.evaluator,
            n_generate=self.n_generate,
            n_evaluate=self.n_evaluate,
            temperature=self.temperature,
            judge_tokens=self.judge_tokens,
        )

    def _puzzle(self, task: Task) -> Puzzle:
        if self.task == Game24.name:
            return Game24.posed(task.text)
        if self.task == Crosswords.name:
            return Crosswords()
        return Text(answers.format_hint(task.answer_kind))
