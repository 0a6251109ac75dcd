"""Diverse verifier tree search: several greedy searches that cannot crowd one another out.

Source: Beeching, Tunstall and Rush (2024), "Scaling test-time compute with open models" (Hugging
Face), an extension of the beam search of Snell et al. (2024), arXiv:2408.03314.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.beam_search import best_beams
from router.strategies.beams import Beam, Growing, growing_bound
from router.strategies.calls import STOPPING, Seeded
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class DiverseTreeSearch:
    """Grow ``subtrees`` solutions, each greedily: of ``expand`` next steps the best is kept.

    The first steps of all subtrees are drawn in one call. Each ends after ``depth`` steps or with
    its final answer; the best of them by ``verifier`` is the answer. One that the verifier cannot
    judge counts 0.5.
    """

    name: ClassVar[str] = "diverse_tree_search"
    title: ClassVar[str] = "several step-by-step searches, each greedy by a verifier; the best wins"
    source: ClassVar[str] = "Beeching et al. 2024 (DVTS), after Snell et al. 2024, arXiv:2408.03314"
    needs: ClassVar[Needs] = Needs(votable=True, logprobs=False)

    subtrees: int = number(2, 1, 16, always_shown=True)
    expand: int = number(3, 1, 16)
    depth: int = number(6, 1, 32)
    verifier: str = verifier_text("arithmetic")
    step_tokens: int = number(128, 8, 4096)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        parse_verifier(self.verifier)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the call for all first steps, each later round, and every verdict."""
        judging = parse_verifier(self.verifier).worst_case(task, prompt_tokens)
        n_all = self.subtrees * self.expand
        calls: list[CallBound] = []
        for at in range(self.depth):
            n = self.expand if at else n_all
            grow = growing_bound(task, prompt_tokens, n_steps=at, step_tokens=self.step_tokens, n=n)
            calls += [grow] * (self.subtrees if at else 1)
            calls += judging * n_all
        return tuple(calls)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the quality of the steps of the answer."""
        growing = Growing(
            task,
            Seeded(task, sampler),
            parse_verifier(self.verifier),
            self.subtrees * self.expand,
            self.step_tokens,
            self.temperature,
        )
        (first,) = await growing.grown([Beam()])
        growing.expand = self.expand
        rated, complete = await growing.judged(first)
        trees = [
            best_beams(rated[i : i + self.expand], 1)[0] for i in range(0, len(rated), self.expand)
        ]
        for _ in range(1, self.depth):
            still = [i for i, beam in enumerate(trees) if not beam.done]
            if not still or not complete:
                break
            try:
                grown = await growing.grown([trees[i] for i in still])
            except STOPPING:
                complete = False
                break
            flat = [child for children in grown for child in children]
            rated, complete = await growing.judged(flat)
            each = iter(rated)
            for i, children in zip(still, grown, strict=True):
                trees[i] = best_beams([next(each) for _ in children], 1)[0]
        return growing.answer(best_beams(trees, 1)[0], complete=complete)
