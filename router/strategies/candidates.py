"""Samples with what a verifier says of them, drawn batch by batch until one is good enough."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router import answers
from router.parameters import NO_VERIFIER
from router.strategies.calls import STOPPING, Seeded, side_by_side
from router.strategies.prompts import (
    answer_from,
    bound,
    hint_bound,
    request,
    step_by_step,
    with_hint,
)
from router.verifiers.base import Verdict
from router.verifiers.registry import parse_verifier
from router.verifiers.response_format import fits, format_verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, Task
    from router.verifiers.base import Verifier

NEVER = 2.0
"""A quality that no sample reaches: everything is drawn."""

UNSAID_QUALITY = 0.5
"""What an answer counts as that its verifier cannot judge: neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample, the answer that it stands for, and the verdict on it.

    ``fits`` is False for one that breaks the response format: it has no vote.
    """

    sample: Sample
    answer: Answer
    verdict: Verdict
    fits: bool = True

    @property
    def quality(self) -> float:
        """Quality in [0, 1]; `UNSAID_QUALITY` where the verifier could not say."""
        said = self.verdict.quality
        return UNSAID_QUALITY if said is None else said


@dataclass(slots=True)
class Candidates:
    """What was drawn so far; ``complete`` is False once an upstream or a cap stopped it."""

    all: list[Candidate] = field(default_factory=list)
    complete: bool = True

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample, in the order of drawing."""
        return tuple(candidate.sample for candidate in self.all)


@dataclass(frozen=True, slots=True)
class Draw:
    """How candidates are drawn: ``samples`` at most, ``batch`` at a time, until ``stop_at``."""

    samples: int
    batch: int
    temperature: float
    stop_at: float
    verifier: str

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound every batch, each followed by its verdicts."""
        added = hint_bound(step_by_step(task))
        judging: tuple[CallBound, ...] = ()
        if self.verifier != NO_VERIFIER:
            judging = parse_verifier(self.verifier).worst_case(task, prompt_tokens)
        return tuple(
            call
            for n in self._batches()
            for call in (bound(task, prompt_tokens, added, n=n), *judging * n)
        )

    async def run(self, task: Task, sampler: Sampler) -> Candidates:
        """Draw and judge; raises only if the first call gave nothing."""
        seeded = Seeded(task, sampler)
        verifier = None if self.verifier == NO_VERIFIER else parse_verifier(self.verifier)
        messages = with_hint(task.messages, step_by_step(task))
        found = Candidates()
        for n in self._batches():
            asked = request(task, messages, n=n)
            asked = replace(asked, temperature=task.temperature or self.temperature)
            try:
                fresh = await seeded.sample(asked)
            except STOPPING:
                if not found.all:
                    raise
                found.complete = False
                break
            verdicts, whole = await judged(task, fresh, verifier, seeded)
            found.all += [
                Candidate(sample, answer_from(task, sample), verdict, fits(task, sample))
                for sample, verdict in zip(fresh, verdicts, strict=True)
            ]
            found.complete = whole
            if not whole or any(
                candidate.fits and (candidate.verdict.quality or 0.0) >= self.stop_at
                for candidate in found.all
            ):
                break
        return found

    def _batches(self) -> tuple[int, ...]:
        starts = range(0, self.samples, self.batch)
        return tuple(min(self.batch, self.samples - start) for start in starts)


async def judged(
    task: Task, samples: Sequence[Sample], verifier: Verifier | None, sampler: Sampler
) -> tuple[list[Verdict], bool]:
    """Judge samples beside one another, the same text once; False if a judge was stopped.

    What breaks the response format is bad without a judge.
    """
    if verifier is None:
        return [_unjudged(task, sample) for sample in samples], True
    by_text = {sample.text: sample for sample in samples if fits(task, sample)}
    jobs = [
        verifier.verify(task, answer_from(task, sample), sampler) for sample in by_text.values()
    ]
    results = await side_by_side(jobs)
    told = {
        text: result if isinstance(result, Verdict) else Verdict(None, str(result))
        for text, result in zip(by_text, results, strict=True)
    }
    whole = all(isinstance(result, Verdict) for result in results)
    return [told.get(sample.text) or _unjudged(task, sample) for sample in samples], whole


def _unjudged(task: Task, sample: Sample) -> Verdict:
    return Verdict(None) if fits(task, sample) else format_verdict(task, sample)


def grouped(task: Task, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Group candidates whose answers are the same, by first appearance; unreadable ones not."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        value = candidate.answer.value
        if value is None or not candidate.fits:
            continue
        same = (known for known in groups if answers.same(known, value, task.answer_kind))
        groups.setdefault(next(same, value), []).append(candidate)
    return list(groups.values())
