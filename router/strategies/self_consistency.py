"""Self-consistency: sample several chains of thought and return the most common answer.

Source: Wang et al. (2022), arXiv:2203.11171, unweighted majority vote; stopped early as in
Aggarwal et al. (2023), arXiv:2305.11860, Beta criterion over the two leading answers, or as in
Li et al. (2024), arXiv:2401.10480, when a window of samples agrees. How many samples a question
gets can follow its predicted difficulty, after Wang et al. (2024), arXiv:2408.13457.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, comb
from typing import TYPE_CHECKING, ClassVar

from router import answers
from router.errors import AllowanceExceededError, ProviderError, StrategyConfigError
from router.parameters import canonical, check, number, one_of
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
from router.verifiers.response_format import fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, SampleRequest, Task

MAX_SAMPLES = 128
MIN_WINDOW = 2
BETA = "beta"
WINDOW = "window"


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """Majority vote over up to ``samples`` draws; a tie goes to the earliest answer.

    Draws are made ``batch`` at a time until the probability that the leading answer stays ahead
    of the second reaches ``stop_at``; 1 never stops early, and draws everything at once. With
    ``stop="window"`` they are drawn until all samples of one batch have the same answer.
    ``easy`` above 0 lets the predicted difficulty d set the pace: one sample up to ``easy``, at
    most ``samples`` * d above it, and ``prior`` * (1 - d) votes that the first answer begins with.
    A question of unknown difficulty gets everything.

    ``temperature`` holds unless the client asks for one above 0. Samples without a readable answer
    never win.
    """

    name: ClassVar[str] = "self_consistency"
    title: ClassVar[str] = "sample several chains of thought, take the most common answer"
    source: ClassVar[str] = (
        "Wang et al. 2022, arXiv:2203.11171; Aggarwal et al. 2023, 2305.11860; "
        "Li et al. 2024, 2401.10480; Wang et al. 2024, 2408.13457"
    )
    needs: ClassVar[Needs] = Needs(votable=True, formats=True)

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)
    stop_at: float = number(0.95, 0.5, 1.0, open_low=True)
    batch: int = number(4, 1, MAX_SAMPLES)
    stop: str = one_of(BETA, BETA, WINDOW)
    easy: float = number(0.0, 0.0, 1.0)
    prior: int = number(0, 0, 16)

    def __post_init__(self) -> None:
        check(self)
        if self.stop == WINDOW and (self.batch < MIN_WINDOW or self.stop_at >= 1.0):
            msg = f"{self.name}: a window has at least {MIN_WINDOW} samples, and stop_at below 1"
            raise StrategyConfigError(msg)
        if self.prior and not self.easy:
            msg = f"{self.name}: prior is for a known difficulty; set easy above 0 too"
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound every batch."""
        added = hint_bound(step_by_step(task))
        return tuple(bound(task, prompt_tokens, added, n=n) for _, n in self._batches(None))

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the winner's share of all samples drawn.

        When a later batch is refused or fails the vote is held over what was drawn before.
        """
        drawn: list[Sample] = []
        vote = Vote(task)
        complete = True
        prior = self._prior(task.difficulty)
        for offset, n in self._batches(task.difficulty):
            try:
                fresh = await sampler.sample(self._request(task, offset, n))
            except (ProviderError, AllowanceExceededError):
                if not drawn:
                    raise
                complete = False
                break
            drawn.extend(fresh)
            vote.count(fresh)
            agreed = vote.agrees(fresh) if self.stop == WINDOW else vote.lead(prior) >= self.stop_at
            if agreed:
                break
        return replace(vote.answer(drawn), complete=complete)

    def _batches(self, difficulty: float | None) -> tuple[tuple[int, int], ...]:
        """Give where each batch begins and how many samples it draws."""
        most = self._most(difficulty)
        size = most if self.stop_at >= 1.0 else self.batch
        return tuple((start, min(size, most - start)) for start in range(0, most, size))

    def _most(self, difficulty: float | None) -> int:
        """Give the most samples that a question of this predicted difficulty gets."""
        if not self.easy or difficulty is None:
            return self.samples
        if difficulty <= self.easy:
            return 1
        return min(self.samples, max(2, ceil(self.samples * difficulty)))

    def _prior(self, difficulty: float | None) -> int:
        """Give the votes that the leading answer of an easier question begins with."""
        return 0 if difficulty is None else round(self.prior * (1.0 - difficulty))

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
        """Count samples; one without a readable answer, or in another format, has no vote."""
        kind = self._task.answer_kind
        for sample in samples:
            value = answers.extract(sample.text, kind)
            if value is None or not fits(self._task, sample):
                continue
            known = next((v for v in self._votes if answers.same(v, value, kind)), value)
            self._votes.setdefault(known, []).append(sample)

    def agrees(self, samples: Sequence[Sample]) -> bool:
        """Tell whether counted samples all have one answer; a single one agrees with nothing."""
        ids = {id(sample) for sample in samples}
        return len(ids) > 1 and any(
            ids <= {id(voter) for voter in voters} for voters in self._votes.values()
        )

    def lead(self, prior: int = 0) -> float:
        """Probability that the leading answer is ahead of the second, in [0.5, 1).

        ``prior`` are votes that it is given beforehand, where there is one.
        """
        counts = sorted((len(voters) for voters in self._votes.values()), reverse=True)
        first, second = (*counts, 0, 0)[:2]
        return probability_ahead(first + prior if first else 0, second)

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
