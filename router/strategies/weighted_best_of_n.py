"""Weighted best-of-N: every sample votes for its answer, with its verifier's quality as weight.

Source: Snell et al. (2024), arXiv:2408.03314, section 5 ("best-of-N weighted"), after Li et al.
(2022), arXiv:2206.02336.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.best_of_n import MAX_SAMPLES, best_candidate
from router.strategies.candidates import NEVER, Draw, grouped
from router.strategies.prompts import answer_from
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.strategies.candidates import Candidate
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class WeightedBestOfN:
    """Give the answer with the largest sum of qualities over ``samples`` draws.

    A tie goes to the earliest answer; where all sums are 0 the votes count alone. An answer that
    the verifier cannot judge counts 0.5.
    """

    name: ClassVar[str] = "weighted_best_of_n"
    title: ClassVar[str] = "sample several answers, vote with a verifier's qualities as weights"
    source: ClassVar[str] = "Snell et al. 2024, arXiv:2408.03314; Li et al. 2022, 2206.02336"
    needs: ClassVar[Needs] = Needs(votable=True, formats=True)

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    verifier: str = verifier_text("arithmetic")
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        parse_verifier(self.verifier)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call for all samples and every verdict."""
        return self._draw().worst_case(task, prompt_tokens)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the winner's share of all weight, in [0, 1]."""
        found = await self._draw().run(task, sampler)
        groups = grouped(task, found.all)
        if not groups:
            best = best_candidate(task, found.all)
            answer = answer_from(task, best.sample, found.samples)
            return replace(answer, value=None, complete=found.complete)
        weights = [fsum(candidate.quality for candidate in group) for group in groups]
        if not any(weights):
            weights = [float(len(group)) for group in groups]
        winner = max(range(len(groups)), key=weights.__getitem__)
        shown = _first_best(groups[winner])
        answer = answer_from(task, shown.sample, found.samples)
        return replace(answer, confidence=weights[winner] / fsum(weights), complete=found.complete)

    def _draw(self) -> Draw:
        return Draw(self.samples, self.samples, self.temperature, NEVER, self.verifier)


def _first_best(group: Sequence[Candidate]) -> Candidate:
    """Give the sample to show for an answer: its best, the earliest of them."""
    return max(group, key=lambda candidate: candidate.quality)
