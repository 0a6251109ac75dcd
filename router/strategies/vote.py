"""A vote over samples of another strategy's call: self-consistency with any prompt.

Source: Wang et al. (2022), arXiv:2203.11171, whose chains of thought follow few-shot prompts; the
early stop is the Beta criterion of Aggarwal et al. (2023), arXiv:2305.11860. A policy that was
fitted on recorded samples names such votes as it derived them, `policies.recipes.Vote`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router.errors import StrategyConfigError
from router.parameters import check, number, strategy_text
from router.strategies.base import Needs
from router.strategies.chain_of_thought import ChainOfThought
from router.strategies.direct import Direct
from router.strategies.few_shot import FewShot
from router.strategies.voting import MAX_SAMPLES, voted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.strategies.voting import Ballot
    from router.types import Answer, Sample, Task

USUAL_TEMPERATURE = 0.7
ALL_AT_ONCE = 0

Source = Direct | ChainOfThought | FewShot
"""Strategies whose answer comes from one call, of which many samples can be drawn."""


@dataclass(frozen=True, slots=True)
class Vote:
    """Majority vote over up to ``samples`` of the first call of ``of``; ties to the earliest.

    They are drawn ``batch`` at a time, 0 is all at once, until the leading answer stays ahead of
    the second with probability ``stop_at``; 1 never stops early. ``temperature`` holds unless the
    client asks for one above 0. Samples without a readable answer never win.
    """

    name: ClassVar[str] = "vote"
    title: ClassVar[str] = "sample another strategy's call, take the most common answer"
    source: ClassVar[str] = "Wang et al. 2022, arXiv:2203.11171; Aggarwal et al. 2023, 2305.11860"
    needs: ClassVar[Needs] = Needs(votable=True)

    of: str = strategy_text("cot")
    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    stop_at: float = number(1.0, 0.5, 1.0, open_low=True)
    batch: int = number(ALL_AT_ONCE, ALL_AT_ONCE, MAX_SAMPLES)
    temperature: float = number(USUAL_TEMPERATURE, 0.0, 2.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        source_of(self.of)

    def __str__(self) -> str:
        further = (
            ("stop_at", self.stop_at, 1.0),
            ("batch", self.batch, ALL_AT_ONCE),
            ("temperature", self.temperature, USUAL_TEMPERATURE),
        )
        told = "".join(f",{name}={value:.12g}" for name, value, usual in further if value != usual)
        return f"{self.name}({self.of},samples={self.samples}{told})"

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound every batch."""
        first = source_of(self.of).worst_case(replace(task, n=1), prompt_tokens)[0]
        return tuple(replace(first, n_samples=n) for _, n in self._batches())

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the winner's share of all samples drawn."""
        one = source_of(self.of).request(replace(task, n=1))
        temperature = task.temperature or self.temperature
        batches = (
            replace(
                one,
                n=n,
                temperature=temperature,
                seed=None if task.seed is None else task.seed + offset,
            )
            for offset, n in self._batches()
        )
        return await voted(task, sampler, batches, self._is_clear)

    def _is_clear(self, ballot: Ballot, _fresh: Sequence[Sample]) -> bool:
        return ballot.lead() >= self.stop_at

    def _batches(self) -> tuple[tuple[int, int], ...]:
        """Give where each batch begins and how many samples it draws."""
        size = self.samples if self.stop_at >= 1.0 else self.batch or self.samples
        starts = range(0, self.samples, size)
        return tuple((start, min(size, self.samples - start)) for start in starts)


def source_of(text: str) -> Source:
    """Make the strategy that a vote samples; StrategyConfigError for one that makes many calls."""
    from router.strategies.registry import parse_strategy  # noqa: PLC0415 - it lists this one

    made = parse_strategy(text)
    if isinstance(made, Direct | ChainOfThought | FewShot):
        return made
    msg = f"vote: samples are drawn of direct, cot or few_shot, got {text!r}"
    raise StrategyConfigError(msg)
