"""Run a cascade: one strategy after the other, on the models that its stages name.

Sources: Chen et al. (2023), arXiv:2305.05176 (run, judge, escalate the model); Yue et al. (2023),
arXiv:2310.03094 (agreement of diverse prompts as the judge).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from math import exp
from operator import itemgetter
from typing import TYPE_CHECKING

from policies.types import AnswerKind
from router import answers
from router.errors import RequestError
from router.strategies.calls import STOPPING, Seeded
from router.strategies.escalation import Rule
from router.strategies.registry import parse_strategy
from router.verifiers.base import Verdict
from router.verifiers.registry import parse_verifier
from router.verifiers.response_format import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cost_models.estimates import CallBound
    from cost_models.types import Arm
    from router.providers.base import Sampler
    from router.strategies.base import Strategy
    from router.strategies.escalation import Escalation
    from router.types import Answer, Task
    from router.verifiers.base import Verifier

REPEATED_TEMPERATURE = 0.7
"""Temperature of an arm that a cascade runs more than once, unless the client asks for one."""


@dataclass(slots=True)
class Attempt:
    """What one stage came to; ``answer`` is None where it failed or was stopped.

    ``trust`` in [0, 1] is what its rule said of the answer, None where it could not say.
    ``latency_s`` is None while it runs.
    """

    arm: Arm
    answer: Answer | None = None
    trust: float | None = None
    latency_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as it is run: its strategy, and the verifier of a rule that has one."""

    arm: Arm
    strategy: Strategy
    verifier: Verifier | None
    seed_offset: int
    repeated: bool
    shows_confidence: bool

    def task(self, task: Task) -> Task:
        """Give the task as this stage gets it: seeds of its own, what its judge needs."""
        temperature = task.temperature
        if self.repeated and not temperature:
            temperature = REPEATED_TEMPERATURE
        logprobs = task.logprobs or (self.shows_confidence and self.strategy.needs.logprobs)
        seed = None if task.seed is None else task.seed + self.seed_offset
        return replace(task, seed=seed, temperature=temperature, logprobs=logprobs)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """List every call of the stage, its judge's included."""
        own = self.strategy.worst_case(self.task(task), prompt_tokens)
        judging = () if self.verifier is None else self.verifier.worst_case(task, prompt_tokens)
        return (*own, *judging)


def stages_of(escalation: Escalation, task: Task) -> tuple[Stage, ...]:
    """Lay out the stages for one task; no two completions of a run share a seed."""
    verifier = None if escalation.verifier is None else parse_verifier(escalation.verifier)
    stages: list[Stage] = []
    n_drawn = 0
    for i, arm in enumerate(escalation.stages):
        last = i == len(escalation.stages) - 1
        stage = Stage(
            arm=arm,
            strategy=parse_strategy(arm.strategy),
            verifier=verifier,
            seed_offset=n_drawn,
            repeated=escalation.stages.count(arm) > 1,
            shows_confidence=escalation.rule is Rule.CONFIDENT and not last,
        )
        stages.append(stage)
        n_drawn += sum(call.n_samples for call in stage.worst_case(task, 0))
    return tuple(stages)


@dataclass(slots=True)
class CascadeRun:
    """One run of a cascade; ``attempts`` grows with every stage that begins."""

    escalation: Escalation
    attempts: list[Attempt] = field(default_factory=list)

    async def run(self, task: Task, samplers: Iterable[Sampler]) -> Answer:
        """Answer the task; ``samplers`` has one for each stage, taken as it begins.

        A stage that fails counts as no answer and the next one is run. Raises what the first
        failure was if there is no answer at all.
        """
        failure: Exception | None = None
        for stage, sampler in zip(stages_of(self.escalation, task), samplers, strict=True):
            attempt = Attempt(stage.arm)
            self.attempts.append(attempt)
            began = time.monotonic()
            try:
                attempt.answer = await stage.strategy.run(stage.task(task), sampler)
                attempt.trust = await self._trust(stage, attempt.answer, task, sampler)
            except (*STOPPING, RequestError) as error:
                attempt.error = str(error)
                failure = failure or error
            finally:
                attempt.latency_s = time.monotonic() - began
            if self.trusted(attempt):
                break
        answered = [(a.answer, a.trust or 0.0) for a in self.attempts if a.answer is not None]
        if not answered and failure is not None:
            raise failure
        return self._answer(task, answered)

    async def _trust(
        self, stage: Stage, answer: Answer, task: Task, sampler: Sampler
    ) -> float | None:
        """Say how far the rule trusts an answer; not at all if it breaks the response format."""
        if not _fits(answer, task):
            return 0.0
        if self.escalation.rule is Rule.AGREE:
            before = [a.answer for a in self.attempts[:-1] if a.answer is not None]
            if not before:
                return None
            return float(any(_same(answer, other, task) for other in before))
        if stage.verifier is not None:
            return (await _verdict(stage, answer, task, sampler)).quality
        return confidence_of(answer, task)

    def trusted(self, attempt: Attempt) -> bool:
        """Tell whether an attempt's answer ends the cascade."""
        least = self.escalation.confidence if self.escalation.rule is Rule.CONFIDENT else 1.0
        return attempt.trust is not None and attempt.trust >= (least or 1.0)

    def _answer(self, task: Task, answered: Sequence[tuple[Answer, float]]) -> Answer:
        """Give the trusted answer, else the last one, or the one that its verifier likes best."""
        able = [one for one in answered if _fits(one[0], task)] or answered
        answer, _ = able[-1]
        if self.escalation.rule is Rule.VERIFIED:
            answer, _ = max(reversed(able), key=itemgetter(1))
            trust = next(a.trust for a in self.attempts if a.answer is answer)
            if trust is not None:
                by = self.escalation.verifier
                answer = replace(answer, verified=trust >= 1.0, verified_by=by)
        confidence = answer.confidence
        if self.escalation.rule is Rule.AGREE:
            n_same = sum(_same(answer, other, task) for other, _ in answered)
            confidence = n_same / len(answered) if answer.value is not None else None
        choices = answer.choices
        if not task.logprobs:
            choices = tuple(replace(choice, logprobs=None) for choice in choices)
        return replace(
            answer,
            confidence=confidence,
            samples=tuple(sample for other, _ in answered for sample in other.samples),
            choices=choices,
            complete=answer.complete and self.attempts[-1].error is None,
        )


def confidence_of(answer: Answer, task: Task) -> float | None:
    """Give a strategy's own confidence, else the geometric mean of its tokens' probabilities.

    None for an answer without a readable value of its kind, and where neither is known.
    """
    if answer.value is None and task.answer_kind is not AnswerKind.TEXT:
        return None
    if answer.confidence is not None:
        return answer.confidence
    shown = answer.choices[0] if answer.choices else None
    if shown is None or shown.mean_logprob is None:
        return None
    return exp(min(shown.mean_logprob, 0.0))


def _fits(answer: Answer, task: Task) -> bool:
    return all(fits(task, sample) for sample in answer.choices)


async def _verdict(stage: Stage, answer: Answer, task: Task, sampler: Sampler) -> Verdict:
    verifier = stage.verifier
    if verifier is None:
        return Verdict(None)
    own = stage.task(task)
    n_drawn = sum(call.n_samples for call in stage.strategy.worst_case(own, 0))
    judged = replace(own, seed=None if own.seed is None else own.seed + n_drawn)
    try:
        return await verifier.verify(task, answer, Seeded(judged, sampler))
    except STOPPING as error:
        return Verdict(None, str(error))


def _same(answer: Answer, other: Answer | None, task: Task) -> bool:
    if other is None or answer.value is None or other.value is None:
        return False
    return answers.same(answer.value, other.value, task.answer_kind)
