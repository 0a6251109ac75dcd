"""Step-level beam search against a process verifier.

Source: Snell et al. (2024), arXiv:2408.03314, section 5.1: keep N/M of N partial solutions by the
verifier's judgement of their steps, and sample M next steps from each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.beams import Beam, Growing, growing_bound
from router.strategies.calls import STOPPING, Seeded
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        judging = parse_verifier(self.verifier).worst_case(task, prompt_tokens)
        calls: list[CallBound] = []
        kept = 1
        for at in range(self.depth):
            grow = growing_bound(
                task, prompt_tokens, n_steps=at, step_tokens=self.step_tokens, n=self.expand
            )
            calls += [grow] * kept
            calls += judging * (kept * self.expand)
            kept = min(self.width, kept * self.expand)
        return tuple(calls)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the quality of the steps of the answer."""
        growing = Growing(
            task,
            Seeded(task, sampler),
            parse_verifier(self.verifier),
            self.expand,
            self.step_tokens,
            self.temperature,
        )
        beams: list[Beam] = [Beam()]
        complete = True
        for at in range(self.depth):
            still = [beam for beam in beams if not beam.done]
            if not still:
                break
            try:
                grown = await growing.grown(still)
            except STOPPING:
                if at == 0:
                    raise
                complete = False
                break
            children = [child for group in grown for child in group]
            finished = [beam for beam in beams if beam.done]
            rated, complete = await growing.judged(children)
            beams = best_beams((*finished, *rated), self.width)
            if not complete:
                break
        return growing.answer(best_beams(beams, 1)[0], complete=complete)


def best_beams(beams: Sequence[Beam], n: int) -> list[Beam]:
    """Give the ``n`` best different beams: by quality, finished ones first, then the earlier."""
    different = {beam.text: beam for beam in reversed(beams)}
    ordered = [beam for beam in beams if different.get(beam.text) is beam]
    return sorted(ordered, key=lambda beam: (-beam.quality, not beam.done))[:n]
