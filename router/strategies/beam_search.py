"""Step-level beam search against a process verifier.

Source: Snell et al. (2024), arXiv:2408.03314, section 5.1: keep N/M of N partial solutions by the
verifier's judgement of their steps, and sample M next steps from each.
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
class BeamSearch:
    """Keep the ``width`` best partial solutions and grow ``expand`` next steps from each.

    It ends after ``depth`` steps, or when all that is kept has a final answer. A step has at most
    ``step_tokens``. ``verifier`` judges each partial solution; one it cannot judge counts 0.5. A
    tie goes to a finished one, then to the earlier.
    """

    name: ClassVar[str] = "beam_search"
    title: ClassVar[str] = "grow solutions step by step, keep those whose steps a verifier likes"
    source: ClassVar[str] = "Snell et al. 2024, arXiv:2408.03314"
    needs: ClassVar[Needs] = Needs(votable=True, logprobs=False)

    width: int = number(2, 1, 16, always_shown=True)
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
            1,
            self.width,
            self.expand,
            self.depth,
            self.verifier,
            self.step_tokens,
            self.temperature,
        )
