"""Solutions that grow step by step and are judged by their steps: one search, in two shapes.

A beam search is one tree that keeps several solutions; a diverse tree search is several trees that
keep one each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router import answers
from router.strategies.calls import STOPPING, Seeded, first_error, side_by_side
from router.strategies.candidates import UNSAID_QUALITY
from router.strategies.prompts import (
    MAX_CARRIED_BYTES,
    STEP_BY_STEP,
    answer_from,
    best_text,
    bound,
    carried_bytes,
    hint_bound,
    request,
    shown_text,
    tail,
    with_hint,
)
from router.types import Answer
from router.verifiers.base import Verdict
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Sample, Task
    from router.verifiers.base import Verifier

STEP_SEPARATOR = "\n\n"
ASK = (
    "Write only the next step of the solution, in a few lines, and stop. When nothing is left to "
    "work out, give the final answer instead. {hint}"
)
SO_FAR = "Steps so far:\n{steps}\n\n"


@dataclass(frozen=True, slots=True)
class Beam:
    """A partial solution; ``quality`` in [0, 1] of its steps, ``done`` once it cannot grow."""

    steps: tuple[str, ...] = ()
    last: Sample | None = None
    quality: float = UNSAID_QUALITY
    done: bool = False

    @property
    def text(self) -> str:
        """The solution as it is read."""
        return STEP_SEPARATOR.join(self.steps)


@dataclass(frozen=True, slots=True)
class StepSearch:
    """``trees`` searches that keep ``width`` solutions each and grow ``expand`` steps from each.

    The first steps of all trees are drawn in one call. It ends after ``depth`` steps, or when all
    that is kept has a final answer. A step has at most ``step_tokens``. ``verifier`` judges each
    partial solution; one it cannot judge counts 0.5.
    """

    trees: int
    width: int
    expand: int
    depth: int
    verifier: str
    step_tokens: int
    temperature: float

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound each round's calls for steps, and a verdict on every partial solution."""
        judging = parse_verifier(self.verifier).worst_case(task, prompt_tokens)
        calls: list[CallBound] = []
        n_calls, n = 1, self.trees * self.expand
        for at in range(self.depth):
            grow = growing_bound(task, prompt_tokens, n_steps=at, step_tokens=self.step_tokens, n=n)
            calls += [grow] * n_calls
            calls += judging * (n_calls * n)
            of_tree = n_calls * n // self.trees
            n_calls, n = self.trees * min(self.width, of_tree), self.expand
        return tuple(calls)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the quality of the steps of the answer.

        Raises only if the first call gave nothing.
        """
        growing = Growing(
            task,
            Seeded(task, sampler),
            parse_verifier(self.verifier),
            self.step_tokens,
            self.temperature,
        )
        (first,) = await growing.grown([Beam()], self.trees * self.expand)
        rated, complete = await growing.judged(first)
        cuts = range(0, len(rated), self.expand)
        trees = [best_beams(rated[i : i + self.expand], self.width) for i in cuts]
        for _ in range(1, self.depth):
            still = [[beam for beam in tree if not beam.done] for tree in trees]
            if not any(still) or not complete:
                break
            try:
                grown = await growing.grown([b for tree in still for b in tree], self.expand)
            except STOPPING:
                complete = False
                break
            rated, complete = await growing.judged([b for children in grown for b in children])
            sizes, fresh = iter(grown), iter(rated)
            for i, tree in enumerate(still):
                children = [next(fresh) for _ in tree for _ in next(sizes)]
                finished = [beam for beam in trees[i] if beam.done]
                trees[i] = best_beams((*finished, *children), self.width)
        best = best_beams([beam for tree in trees for beam in tree], 1)[0]
        return growing.answer(best, complete=complete)


def best_beams(beams: Sequence[Beam], n: int) -> list[Beam]:
    """Give the ``n`` best different beams: by quality, finished ones first, then the earlier."""
    different = {beam.text: beam for beam in reversed(beams)}
    ordered = [beam for beam in beams if different.get(beam.text) is beam]
    return sorted(ordered, key=lambda beam: (-beam.quality, not beam.done))[:n]


@dataclass(slots=True)
class Growing:
    """Grows and judges beams for one run; ``samples`` keeps every step that was drawn."""

    task: Task
    sampler: Seeded
    verifier: Verifier
    step_tokens: int
    temperature: float
    samples: list[Sample] = field(default_factory=list)

    async def grown(self, beams: Sequence[Beam], n: int) -> list[list[Beam]]:
        """Draw ``n`` next steps for each beam; a step that repeats the last one ends it.

        Raises what stopped one of the calls.
        """
        results = await side_by_side([self._drawn(beam, n) for beam in beams])
        drawn = [result for result in results if isinstance(result, tuple)]
        self.samples.extend(sample for samples in drawn for sample in samples)
        if (error := first_error(results)) is not None:
            raise error
        return [
            [self._longer(beam, sample) for sample in samples]
            for beam, samples in zip(beams, drawn, strict=True)
        ]

    async def judged(self, beams: Sequence[Beam]) -> tuple[list[Beam], bool]:
        """Give the beams with their qualities; False if a judge was stopped."""
        texts = list(dict.fromkeys(beam.text for beam in beams))
        jobs = [self.verifier.verify(self.task, Answer(text), self.sampler) for text in texts]
        results = await side_by_side(jobs)
        told = {
            text: result.quality if isinstance(result, Verdict) else None
            for text, result in zip(texts, results, strict=True)
        }
        rated = [
            replace(beam, quality=UNSAID_QUALITY if quality is None else quality)
            for beam in beams
            for quality in (told[beam.text],)
        ]
        return rated, first_error(results) is None

    def answer(self, beam: Beam, *, complete: bool) -> Answer:
        """Make a beam the answer; one that says nothing leaves what was drawn."""
        shown = beam.last or best_text(self.samples)
        if beam.text:
            shown = replace(shown, text=beam.text, logprobs=None)
        answer = answer_from(self.task, shown, self.samples)
        return replace(answer, confidence=beam.quality, complete=complete)

    async def _drawn(self, beam: Beam, n: int) -> tuple[Sample, ...]:
        hint = next_step_hint(self.task, beam, self.step_tokens)
        asked = request(
            self.task,
            with_hint(self.task.messages, hint),
            max_tokens=self.step_tokens,
            n=n,
        )
        temperature = self.task.temperature or self.temperature
        return await self.sampler.sample(replace(asked, temperature=temperature, logprobs=False))

    def _longer(self, beam: Beam, sample: Sample) -> Beam:
        step = shown_text(sample)
        if not step or step in beam.steps:
            return replace(beam, last=beam.last or sample, done=True)
        done = answers.extract(f"\n{step}", self.task.answer_kind) is not None and (
            "answer:" in step.lower() or "\\boxed" in step
        )
        return Beam((*beam.steps, step), sample, beam.quality, done=done)


def next_step_hint(task: Task, beam: Beam, step_tokens: int) -> str:
    """Ask for the next step after what was worked out, cut to its bound."""
    ask = ASK.format(hint=answers.format_hint(task.answer_kind))
    shown = tail(beam.text, _so_far_bytes(task, len(beam.steps), step_tokens))
    return f"{SO_FAR.format(steps=shown) if shown else STEP_BY_STEP + ' '}{ask}"


def growing_bound(
    task: Task, prompt_tokens: int, *, n_steps: int, step_tokens: int, n: int
) -> CallBound:
    """Bound one call for ``n`` next steps of a solution that has up to ``n_steps``."""
    longest = "x" * (_so_far_bytes(task, n_steps, step_tokens) + len(SO_FAR) + len(STEP_BY_STEP))
    ask = ASK.format(hint=answers.format_hint(task.answer_kind))
    return bound(task, prompt_tokens, hint_bound(f"{longest}{ask}"), max_tokens=step_tokens, n=n)


def _so_far_bytes(task: Task, n_steps: int, step_tokens: int) -> int:
    each = carried_bytes(task, step_tokens) + len(STEP_SEPARATOR)
    return min(MAX_CARRIED_BYTES, n_steps * each)
