"""Self-consistency: sample several chains of thought and return the most common answer.

Source: Wang et al. (2022), arXiv:2203.11171, unweighted majority vote; stopped early as in
Aggarwal et al. (2023), arXiv:2305.11860, Beta criterion over the two leading answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import comb
from typing import TYPE_CHECKING, ClassVar

from router import answers
from router.errors import AllowanceExceededError, ProviderError
from router.parameters import canonical, check, number
from router.strategies.base import Needs
from router.strategies.prompts import (
    answer_from,
    best_text,
    bound,
    hint_bound,
    request,
    step_by_step,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, SampleRequest, Task

MAX_SAMPLES = 128


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """Majority vote over up to ``samples`` draws; a tie goes to the earliest answer.

    Draws are made ``batch`` at a time until the probability that the leading answer stays ahead
    of the second reaches ``stop_at``; 1 never stops early, and draws everything at once.
    ``temperature`` holds unless the client asks for one above 0. Samples without a readable
    answer never win.
    """

    name: ClassVar[str] = "self_consistency"
    title: ClassVar[str] = "sample several chains of thought, take the most common answer"
    source: ClassVar[str] = "Wang et al. 2022, arXiv:2203.11171; Aggarwal et al. 2023, 2305.11860"
    needs: ClassVar[Needs] = Needs(votable=True)

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)
    stop_at: float = number(0.95, 0.5, 1.0, open_low=True)
    batch: int = number(4, 1, MAX_SAMPLES)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound every batch."""
        added = hint_bound(step_by_step(task))
        return tuple(bound(task, prompt_tokens, added, n=n) for _, n in self._batches())

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the winner's share of all samples drawn.

        When a later batch is refused or fails the vote is held over what was drawn before.
        """
        drawn: list[Sample] = []
        vote = Vote(task)
        complete = True
        for offset, n in self._batches():
            try:
                fresh = await sampler.sample(self._request(task, offset, n))
            except (ProviderError, AllowanceExceededError):
                if not drawn:
                    raise
                complete = False
                break
            drawn.extend(fresh)
            vote.count(fresh)
            if vote.lead() >= self.stop_at:
                break
        return replace(vote.answer(drawn), complete=complete)

    def _batches(self) -> tuple[tuple[int, int], ...]:
        """Give where each batch begins and how many samples it draws."""
        size = self.samples if self.stop_at >= 1.0 else self.batch
        starts = range(0, self.samples, size)
        return tuple((start, min(size, self.samples - start)) for start in starts)

    def _request(self, task: Task, offset: int, n: int) -> SampleRequest:
        messages = with_hint(task.messages, step_by_step(task))
        asked = request(task, messages, n=n, seed_offset=offset)
        return replace(asked, temperature=task.temperature or self.temperature)


class Vote:
    """Votes on the answers to one task, each answer standing for all that are the same."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._votes: dict[str, list[Sample]] = {}

    def count(self, samples: Sequence[Sample]) -> None:
        """Count samples; one without a readable answer has no vote."""
        kind = self._task.answer_kind
        for sample in samples:
            value = answers.extract(sample.text, kind)
            if value is None:
                continue
            known = next((v for v in self._votes if answers.same(v, value, kind)), value)
            self._votes.setdefault(known, []).append(sample)

    def lead(self) -> float:
        """Probability that the leading answer is ahead of the second, in [0.5, 1)."""
        counts = sorted((len(voters) for voters in self._votes.values()), reverse=True)
        first, second = (*counts, 0, 0)[:2]
        return probability_ahead(first, second)

    def answer(self, drawn: Sequence[Sample]) -> Answer:
        """Give the winner's first sample, or the best text of ``drawn`` if nobody has a vote."""
        if not self._votes:
            return replace(answer_from(self._task, best_text(drawn), drawn), value=None)
        value, voters = max(self._votes.items(), key=lambda item: len(item[1]))
        answer = answer_from(self._task, voters[0], drawn)
        return replace(answer, value=value, confidence=len(voters) / len(drawn))


def probability_ahead(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1), both counts whole and at least 0.

    The Beta distribution function at 1/2 is a binomial sum, so this is exact.
    """
    n = first + second + 1
    return sum(comb(n, k) for k in range(first + 1)) / (1 << n)
