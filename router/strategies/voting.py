"""Votes over samples: counted, weighed, stopped early, and the answer that wins."""

from __future__ import annotations

from dataclasses import replace
from math import comb, fsum
from typing import TYPE_CHECKING

from router import answers
from router.strategies.calls import STOPPING
from router.strategies.prompts import answer_from, best_text
from router.verifiers.response_format import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from router.providers.base import Sampler
    from router.types import Answer, Sample, SampleRequest, Task

MAX_SAMPLES = 128


class Ballot:
    """Votes on the answers to one task, each answer standing for all that are the same."""

    def __init__(self, task: Task) -> None:
        self.drawn: list[Sample] = []
        self._task = task
        self._votes: dict[str, list[tuple[Sample, float]]] = {}
        self._weights: list[float] = []

    def count(self, samples: Sequence[Sample], weights: Sequence[float] | None = None) -> None:
        """Count samples, each with weight 1 unless said.

        One without a readable answer, or in another format, has no vote.
        """
        kind = self._task.answer_kind
        weighed = [1.0] * len(samples) if weights is None else list(weights)
        self.drawn.extend(samples)
        self._weights.extend(weighed)
        for sample, weight in zip(samples, weighed, strict=True):
            value = answers.extract(sample.text, kind)
            if value is None or not fits(self._task, sample):
                continue
            known = next((v for v in self._votes if answers.same(v, value, kind)), value)
            self._votes.setdefault(known, []).append((sample, weight))

    def agrees(self, samples: Sequence[Sample]) -> bool:
        """Tell whether counted samples all have one answer; a single one agrees with nothing."""
        ids = {id(sample) for sample in samples}
        return len(ids) > 1 and any(
            ids <= {id(voter) for voter, _ in voters} for voters in self._votes.values()
        )

    def lead(self, prior: int = 0) -> float:
        """Probability that the leading answer is ahead of the second, in [0.5, 1).

        ``prior`` are votes that it is given beforehand, where there is one.
        """
        counts = sorted((len(voters) for voters in self._votes.values()), reverse=True)
        first, second = (*counts, 0, 0)[:2]
        return probability_ahead(first + prior if first else 0, second)

    def answer(self) -> Answer:
        """Give the heaviest answer's first sample, or the best text drawn if nobody has a vote.

        ``confidence`` is its share of all weight, in (0, 1]; a tie goes to the earliest answer.
        """
        if not self._votes:
            return replace(answer_from(self._task, best_text(self.drawn), self.drawn), value=None)
        sums = {value: fsum(w for _, w in voters) for value, voters in self._votes.items()}
        winner = max(sums, key=sums.__getitem__)
        answer = answer_from(self._task, self._votes[winner][0][0], self.drawn)
        return replace(answer, value=winner, confidence=sums[winner] / fsum(self._weights))


async def voted(
    task: Task,
    sampler: Sampler,
    batches: Iterable[SampleRequest],
    is_clear: Callable[[Ballot, Sequence[Sample]], bool],
) -> Answer:
    """Draw batch after batch until ``is_clear`` says so of the ballot and the last batch.

    When a later batch is refused or fails the vote is held over what was drawn before; the first
    one raises.
    """
    ballot = Ballot(task)
    for asked in batches:
        try:
            fresh = await sampler.sample(asked)
        except STOPPING:
            if not ballot.drawn:
                raise
            return replace(ballot.answer(), complete=False)
        ballot.count(fresh)
        if is_clear(ballot, fresh):
            break
    return ballot.answer()


def probability_ahead(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1), both counts whole and at least 0.

    The Beta distribution function at 1/2 is a binomial sum, so this is exact.
    """
    n = first + second + 1
    return sum(comb(n, k) for k in range(first + 1)) / (1 << n)
