"""Direct: one call, the model as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router import answers
from router.parameters import canonical, check
from router.strategies.base import Needs
from router.strategies.prompts import (
    SHORT_ANSWER_TOKENS,
    answer_from,
    bound,
    hint_bound,
    request,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, SampleRequest, Task

OUTPUT_FIELDS = ("tools", "functions", "response_format")
"""Fields by which the client says itself what the output looks like."""


@dataclass(frozen=True, slots=True)
class Direct:
    """Pass the messages on and give back what comes.

    Where the client declared the kind of the answer, a short hint asks for the answer alone and
    a small cap holds; otherwise, and with tools or a response format, nothing is touched.
    """

    name: ClassVar[str] = "direct"
    title: ClassVar[str] = "one call, no reasoning asked for"
    source: ClassVar[str] = "the baseline of every other strategy"
    needs: ClassVar[Needs] = Needs(tools=True, many_choices=True, formats=True)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """One call for the ``n`` completions that the client asks for."""
        hint, cap = _terms(task)
        return (bound(task, prompt_tokens, hint_bound(hint), max_tokens=cap, n=task.n),)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer with one call; raises what the provider or the meter raises."""
        return self.answer(task, await sampler.sample(self.request(task)))

    def request(self, task: Task) -> SampleRequest:
        """Give the one call of a run, for a caller that streams it."""
        hint, cap = _terms(task)
        return request(task, with_hint(task.messages, hint), max_tokens=cap, n=task.n)

    def answer(self, task: Task, samples: Sequence[Sample]) -> Answer:
        """Give the first sample as the answer, and all of them as the client's choices."""
        return replace(answer_from(task, samples[0], samples), choices=tuple(samples))


def _terms(task: Task) -> tuple[str, int | None]:
    """Give the hint to append and the cap of a sample; none where nothing is to be touched."""
    if not task.kind_is_declared or any(task.extra.get(name) for name in OUTPUT_FIELDS):
        return "", None
    return answers.direct_hint(task.answer_kind), SHORT_ANSWER_TOKENS.get(task.answer_kind)
