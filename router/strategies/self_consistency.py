"""Self-consistency: sample several chains of thought and return the most common answer.

Source: Wang et al. (2022), arXiv:2203.11171, unweighted majority vote; stopped early as in
Aggarwal et al. (2023), arXiv:2305.11860, Beta criterion over the two leading answers, or as in
Li et al. (2024), arXiv:2401.10480, when a window of samples agrees. How many samples a question
gets can follow its predicted difficulty, after Wang et al. (2024), arXiv:2408.13457.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, ClassVar

from router.errors import StrategyConfigError
from router.parameters import canonical, check, number, one_of
from router.strategies.base import Needs
from router.strategies.prompts import bound, hint_bound, request, step_by_step, with_hint
from router.strategies.voting import MAX_SAMPLES, voted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.strategies.voting import Ballot
    from router.types import Answer, Sample, SampleRequest, Task

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
        prior = self._prior(task.difficulty)

        def is_clear(ballot: Ballot, fresh: Sequence[Sample]) -> bool:
            if self.stop == WINDOW:
                return ballot.agrees(fresh)
            return ballot.lead(prior) >= self.stop_at

        batches = (self._request(task, at, n) for at, n in self._batches(task.difficulty))
        return await voted(task, sampler, batches, is_clear)

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
