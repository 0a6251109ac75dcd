"""Best-of-N: sample several answers and keep the one that a verifier likes best.

Sources: Cobbe et al. (2021), arXiv:2110.14168; with step scores Lightman et al. (2023),
arXiv:2305.20050. Stopping at the first verified sample is the plain case of an exact verifier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.candidates import Draw, grouped
from router.strategies.prompts import answer_from, best_text
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.strategies.candidates import Candidate
    from router.types import Answer, Sample, Task

MAX_SAMPLES = 128


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Keep the best of up to ``samples`` draws by ``verifier``.

    Draws are made ``batch`` at a time until one reaches the quality ``stop_at``. Among equally
    good ones the most common answer wins, then the earliest. An answer that the verifier cannot
    judge counts 0.5.
    """

    name: ClassVar[str] = "best_of_n"
    title: ClassVar[str] = "sample several answers, keep the one that a verifier likes best"
    source: ClassVar[str] = "Cobbe et al. 2021, arXiv:2110.14168; Lightman et al. 2023, 2305.20050"
    needs: ClassVar[Needs] = Needs(formats=True)

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    verifier: str = verifier_text("arithmetic")
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)
    stop_at: float = number(1.0, 0.0, 1.0, open_low=True)
    batch: int = number(4, 1, MAX_SAMPLES)

    def __post_init__(self) -> None:
        check(self)
        parse_verifier(self.verifier)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound every batch and every verdict."""
        return self._draw().worst_case(task, prompt_tokens)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the winner's quality, None if it was not judged."""
        found = await self._draw().run(task, sampler)
        best = best_candidate(task, found.all)
        answer = answer_from(task, best.sample, found.samples)
        quality = best.verdict.quality
        return replace(
            answer,
            confidence=quality,
            complete=found.complete,
            verified=None if quality is None else quality >= self.stop_at,
            verified_by=None if quality is None else self.verifier,
        )

    def _draw(self) -> Draw:
        return Draw(self.samples, self.batch, self.temperature, self.stop_at, self.verifier)


def best_candidate(task: Task, candidates: Sequence[Candidate]) -> Candidate:
    """Give the best one; among equally good ones the most common answer, then the first.

    One that breaks the response format is taken only where all do.
    """
    able = [candidate for candidate in candidates if candidate.fits] or candidates
    most = max(candidate.quality for candidate in able)
    best = [candidate for candidate in able if candidate.quality == most]
    groups = grouped(task, best)
    if groups:
        return max(groups, key=len)[0]
    chosen: Sample = best_text([candidate.sample for candidate in best])
    return next(candidate for candidate in best if candidate.sample is chosen)
