"""Diverse verifier tree search: several greedy searches that cannot crowd one another out.

Source: Beeching, Tunstall and Rush (2024), "Scaling test-time compute with open models" (Hugging
Face), an extension of the beam search of Snell et al. (2024), arXiv:2408.03314.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.beams import StepSearch
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
        """Bound each round's calls for steps, and a verdict on every partial solution."""
        return self._search().worst_case(task, prompt_tokens)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the quality of the steps of the answer."""
        return await self._search().run(task, sampler)

    def _search(self) -> StepSearch:
        return StepSearch(
            self.subtrees,
            1,
            self.expand,
            self.depth,
            self.verifier,
            self.step_tokens,
            self.temperature,
        )
