"""Sequential revision: tell the model what a verifier found, and keep what is better.

Sources: sequential revisions in Snell et al. (2024), arXiv:2408.03314; feedback from outside the
model as in Gou et al. (2023), arXiv:2305.11738, because models do not correct themselves well
without it (Huang et al. 2023, arXiv:2310.01798).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number, verifier_text
from router.strategies.base import Needs
from router.strategies.calls import STOPPING, Seeded
from router.strategies.candidates import Candidate
from router.strategies.prompts import (
    answer_from,
    bound,
    carried_bytes,
    hint_bound,
    request,
    shown_text,
    step_by_step,
    tail,
    turns_bound,
    with_hint,
)
from router.types import Message
from router.verifiers.base import Verdict
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, Task
    from router.verifiers.base import Verifier

MAX_REASON_BYTES = 600
ASK = (
    "A check of your answer says: {reason}\n"
    "Find the mistake and write the whole answer again, corrected."
)


@dataclass(frozen=True, slots=True)
class Revision:
    """Answer, have ``verifier`` judge, and revise up to ``rounds`` times.

    The model sees its best answer so far and what the verifier said of it. A revision is kept
    only when the verifier likes it better. It ends when the quality reaches ``stop_at`` or the
    verifier cannot say: then there is nothing to tell.
    """

    name: ClassVar[str] = "revision"
    title: ClassVar[str] = "answer, hear what a verifier found, revise; keep what is better"
    source: ClassVar[str] = "Snell et al. 2024, arXiv:2408.03314; Gou et al. 2023, 2305.11738"
    needs: ClassVar[Needs] = Needs()

    rounds: int = number(2, 1, 16, always_shown=True)
    verifier: str = verifier_text("arithmetic")
    stop_at: float = number(1.0, 0.0, 1.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        parse_verifier(self.verifier)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the first answer, every revision, and a verdict on each."""
        judging = parse_verifier(self.verifier).worst_case(task, prompt_tokens)
        turns = _turns(task, "x" * carried_bytes(task), "x" * MAX_REASON_BYTES)
        added = hint_bound(step_by_step(task))
        revising = bound(task, prompt_tokens, added + turns_bound(turns))
        return (bound(task, prompt_tokens, added), *judging, *(revising, *judging) * self.rounds)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; ``confidence`` is the quality of the answer, None if not judged."""
        seeded = Seeded(task, sampler)
        verifier = parse_verifier(self.verifier)
        asked = with_hint(task.messages, step_by_step(task))
        (sample, *_) = await seeded.sample(request(task, asked))
        drawn = [sample]
        complete = True
        best, whole = await _judged(task, sample, verifier, seeded)
        for _ in range(self.rounds):
            quality = best.verdict.quality
            complete = complete and whole
            if not complete or quality is None or quality >= self.stop_at:
                break
            turns = _turns(task, shown_text(best.sample), best.verdict.reason)
            try:
                (sample, *_) = await seeded.sample(request(task, (*asked, *turns)))
            except STOPPING:
                complete = False
                break
            drawn.append(sample)
            revised, whole = await _judged(task, sample, verifier, seeded)
            if (revised.verdict.quality or 0.0) > quality:
                best = revised
        answer = answer_from(task, best.sample, drawn)
        return replace(answer, confidence=best.verdict.quality, complete=complete and whole)


async def _judged(
    task: Task, sample: Sample, verifier: Verifier, sampler: Sampler
) -> tuple[Candidate, bool]:
    """Judge one sample; False when the verifier itself was stopped."""
    answer = answer_from(task, sample)
    try:
        return Candidate(sample, answer, await verifier.verify(task, answer, sampler)), True
    except STOPPING as error:
        return Candidate(sample, answer, Verdict(None, str(error))), False


def _turns(task: Task, answer: str, reason: str) -> tuple[Message, Message]:
    ask = ASK.format(reason=tail(reason, MAX_REASON_BYTES))
    return Message("assistant", tail(answer, carried_bytes(task))), Message("user", ask)
