"""Universal self-consistency: let the model say which of its answers agrees most with the others.

Source: Chen et al. (2023), arXiv:2311.17311. It needs no canonical form, so free text and code can
be served too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router.parameters import canonical, check, number
from router.strategies.base import Needs
from router.strategies.calls import STOPPING, Seeded
from router.strategies.prompts import (
    answer_from,
    best_text,
    bound,
    hint_bound,
    request,
    shown_text,
    step_by_step,
    with_hint,
)
from router.strategies.sample_sets import listed, listed_bound
from router.types import CallRole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, Task

MAX_SAMPLES = 32
ASK = (
    "Above are several responses to this request. Which one agrees most with the others? Reply "
    "with one line 'Response N', where N is its number, and nothing else."
)
CHOSEN = re.compile(r"response\W{0,6}(\d{1,3})", re.IGNORECASE)
BARE = re.compile(r"\A\W{0,4}(\d{1,3})\b")


@dataclass(frozen=True, slots=True)
class UniversalSelfConsistency:
    """Draw ``samples`` answers; a further call names the one that agrees most with the others.

    Where the reply names none the first whole answer is given. Equal answers need no such call.
    """

    name: ClassVar[str] = "universal_self_consistency"
    title: ClassVar[str] = "sample several answers, let the model pick the most consistent one"
    source: ClassVar[str] = "Chen et al. 2023, arXiv:2311.17311"
    needs: ClassVar[Needs] = Needs()

    samples: int = number(5, 2, MAX_SAMPLES, always_shown=True)
    temperature: float = number(0.7, 0.0, 2.0, open_low=True)
    choice_tokens: int = number(32, 4, 1024)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the call for all samples and the one that picks."""
        added = hint_bound(step_by_step(task))
        shown = listed_bound(task, self.samples, ASK)
        return (
            bound(task, prompt_tokens, added, n=self.samples),
            bound(task, prompt_tokens, shown, max_tokens=self.choice_tokens),
        )

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; what stops the second call leaves the first whole answer."""
        seeded = Seeded(task, sampler)
        asked = request(task, with_hint(task.messages, step_by_step(task)), n=self.samples)
        asked = replace(asked, temperature=task.temperature or self.temperature)
        drawn = await seeded.sample(asked)
        if len({shown_text(sample) for sample in drawn}) == 1:
            return answer_from(task, drawn[0], drawn)
        picking = request(
            task,
            with_hint(task.messages, listed(task, drawn, ASK)),
            max_tokens=self.choice_tokens,
        )
        picking = replace(picking, logprobs=False, temperature=0.0)
        try:
            (reply, *_) = await seeded.sample(picking, CallRole.AGGREGATE)
        except STOPPING:
            return replace(answer_from(task, best_text(drawn), drawn), complete=False)
        return answer_from(task, chosen(reply.text, drawn) or best_text(drawn), drawn)


def chosen(reply: str, drawn: Sequence[Sample]) -> Sample | None:
    """Read which sample the reply names; None where it names none of them."""
    named = CHOSEN.findall(reply) or BARE.findall(reply)
    number_said = int(named[-1]) if named else 0
    return drawn[number_said - 1] if 1 <= number_said <= len(drawn) else None
