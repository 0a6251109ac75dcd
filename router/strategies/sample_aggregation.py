"""Sample-set aggregation: the model reads all its samples and writes the answer.

Source: Qi et al. (2025), arXiv:2506.09014, with the model itself, prompted, as the aggregator. The
trained one is in `policies.aggregation`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router import answers
from router.parameters import canonical, check, number
from router.strategies.base import Needs
from router.strategies.calls import STOPPING, Seeded
from router.strategies.prompts import (
    answer_from,
    bound,
    hint_bound,
    request,
    step_by_step,
    with_hint,
)
from router.strategies.sample_sets import listed, listed_bound
from router.strategies.voting import Ballot
from router.types import CallRole

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Task

MAX_SAMPLES = 32
ASK = (
    "Above are several responses to this request; some may be wrong. Compare them, decide what is "
    "right (it may be none of them), and give the final answer to the request."
)


@dataclass(frozen=True, slots=True)
class SampleAggregation:
    """Draw ``samples`` answers; a further call reads them all and answers.

    Where nothing can be read from that last reply although the kind has a canonical form, the
    most common answer of the samples is given instead.
    """

    name: ClassVar[str] = "sample_aggregation"
    title: ClassVar[str] = "sample several answers, let the model read them all and answer"
    source: ClassVar[str] = "Qi et al. 2025, arXiv:2506.09014"
    needs: ClassVar[Needs] = Needs()

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the call for all samples and the one that reads them."""
        added = hint_bound(step_by_step(task))
        shown = listed_bound(task, self.samples, _ask(task))
        return (
            bound(task, prompt_tokens, added, n=self.samples),
            bound(task, prompt_tokens, shown),
        )

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; what stops the second call leaves the samples' own best."""
        seeded = Seeded(task, sampler)
        asked = request(task, with_hint(task.messages, step_by_step(task)), n=self.samples)
        asked = replace(asked, temperature=task.temperature or self.temperature)
        drawn = await seeded.sample(asked)
        ballot = Ballot(task)
        ballot.count(drawn)
        fallback = ballot.answer()
        reading = request(task, with_hint(task.messages, listed(task, drawn, _ask(task))))
        try:
            (reply, *_) = await seeded.sample(reading, CallRole.AGGREGATE)
        except STOPPING:
            return replace(fallback, complete=False)
        answer = answer_from(task, reply, (*drawn, reply))
        unread = answer.value is None and fallback.value is not None
        if unread or not (reply.text or reply.refusal):
            return replace(fallback, samples=(*drawn, reply))
        return answer


def _ask(task: Task) -> str:
    return "\n".join(part for part in (ASK, answers.format_hint(task.answer_kind)) if part)
