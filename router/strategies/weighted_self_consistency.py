"""Weighted self-consistency: votes count as much as the model was sure of the sample.

Source: Wang et al. (2022), arXiv:2203.11171, table 1, "weighted sum (normalized)": the weight is
exp(mean log-probability of the sample's tokens).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number
from router.strategies.base import Needs
from router.strategies.prompts import bound, hint_bound, request, step_by_step, with_hint
from router.strategies.voting import MAX_SAMPLES, Ballot

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, Task


@dataclass(frozen=True, slots=True)
class WeightedSelfConsistency:
    """Vote over ``samples`` draws, each weighing exp(mean log-probability), in one call.

    A sample whose log-probability the upstream does not report weighs as much as the lightest
    that has one; where none has, this is the plain vote. A tie goes to the earliest answer.
    """

    name: ClassVar[str] = "weighted_self_consistency"
    title: ClassVar[str] = "sample several chains of thought, vote with the model's own confidence"
    source: ClassVar[str] = "Wang et al. 2022, arXiv:2203.11171"
    needs: ClassVar[Needs] = Needs(votable=True, formats=True)

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call."""
        return (bound(task, prompt_tokens, hint_bound(step_by_step(task)), n=self.samples),)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the winner's share of all weight, in (0, 1]."""
        asked = request(task, with_hint(task.messages, step_by_step(task)), n=self.samples)
        asked = replace(asked, temperature=task.temperature or self.temperature, logprobs=True)
        drawn = await sampler.sample(asked)
        ballot = Ballot(task)
        ballot.count(drawn, weights_of(drawn))
        return ballot.answer()


def weights_of(drawn: tuple[Sample, ...]) -> list[float]:
    """Give each sample's weight in (0, 1]: its mean token probability (geometric)."""
    known = [s.mean_logprob for s in drawn if s.mean_logprob is not None]
    lightest = min(known, default=0.0)
    reported = (lightest if s.mean_logprob is None else s.mean_logprob for s in drawn)
    return [max(exp(min(logprob, 0.0)), 1e-12) for logprob in reported]
