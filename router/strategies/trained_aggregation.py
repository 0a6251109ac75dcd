"""Trained aggregation: a small model fitted on recorded sample sets picks the answer.

Source: a learned reader of sample sets is Qi et al. (2025), arXiv:2506.09014; here it is a logistic
regression over facts of each answer, see `policies.aggregation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from policies.errors import PolicyNotReadyError
from router.errors import StrategyConfigError
from router.parameters import NO_VERIFIER, canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.candidates import NEVER, Draw, grouped
from router.strategies.prompts import answer_from, best_text
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from policies.aggregation import Aggregator
    from policies.sample_sets import Drawn
    from router.providers.base import Sampler
    from router.strategies.candidates import Candidate
    from router.types import Answer, Task

MAX_SAMPLES = 128


@dataclass(frozen=True, slots=True)
class TrainedAggregation:
    """Draw ``samples`` answers in one call; the aggregator in ``file`` picks among them.

    The file is written by ``rheostat fit-aggregator`` and read once, when the strategy is made;
    without one the most common answer is given. ``verifier`` scores every sample, ``none`` leaves
    that out; an aggregator that was fitted on scores needs one.
    """

    name: ClassVar[str] = "trained_aggregation"
    title: ClassVar[str] = "sample several answers, a model fitted on recorded sets picks one"
    source: ClassVar[str] = "after Qi et al. 2025, arXiv:2506.09014"
    needs: ClassVar[Needs] = Needs(votable=True)

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    file: str = ""
    verifier: str = verifier_text(NO_VERIFIER)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        if self.verifier != NO_VERIFIER:
            parse_verifier(self.verifier)
        fitted = load(self.file)
        if fitted and fitted.manifest.get("with_score") and self.verifier == NO_VERIFIER:
            msg = f"trained_aggregation: {self.file} was fitted on scores; set a verifier"
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call for all samples and every verdict."""
        return self._draw().worst_case(task, prompt_tokens)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the probability of the answer to be right.

        Without an aggregator it is the share of the votes.
        """
        found = await self._draw().run(task, sampler)
        groups = grouped(task, found.all)
        if not groups:
            shown = best_text(found.samples)
            answer = replace(answer_from(task, shown, found.samples), value=None)
            return replace(answer, complete=found.complete)
        fitted = load(self.file)
        if fitted is None:
            worth = [len(group) / len(found.all) for group in groups]
        else:
            worth = [float(p) for p in fitted.probabilities(_drawn(groups, found.all))]
        winner = max(range(len(groups)), key=worth.__getitem__)
        answer = answer_from(task, groups[winner][0].sample, found.samples)
        return replace(answer, confidence=worth[winner], complete=found.complete)

    def _draw(self) -> Draw:
        return Draw(self.samples, self.samples, self.temperature, NEVER, self.verifier)


def _drawn(groups: Sequence[Sequence[Candidate]], drawn: Sequence[Candidate]) -> list[Drawn]:
    """Describe samples as the aggregator knows them; what is the same answer has one text."""
    from policies.sample_sets import Drawn  # noqa: PLC0415 - only a process that aggregates loads it

    texts = {id(one): group[0].answer.value for group in groups for one in group}
    return [
        Drawn(
            answer=texts.get(id(one)),
            n_tokens=float(one.sample.n_tokens),
            logprob=one.sample.mean_logprob,
            score=one.verdict.quality,
        )
        for one in drawn
    ]


@lru_cache(maxsize=32)
def load(file: str) -> Aggregator | None:
    """Read an aggregator, None for no file; raise StrategyConfigError for what is none."""
    if not file:
        return None
    from policies.aggregation import read_aggregator  # noqa: PLC0415 - it loads scikit-learn

    try:
        return read_aggregator(Path(file))
    except PolicyNotReadyError as error:
        msg = f"trained_aggregation: {error}"
        raise StrategyConfigError(msg) from error
