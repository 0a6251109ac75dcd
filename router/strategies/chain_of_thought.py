"""Zero-shot chain of thought: ask for the steps, then read the answer off them.

Source: Kojima et al. (2022), arXiv:2205.11916: reasoning extraction, then answer extraction. The
second stage runs only where the first left no answer that can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from router import answers
from router.errors import AllowanceExceededError, ProviderError
from router.parameters import canonical, check
from router.strategies.base import Needs
from router.strategies.prompts import (
    SEPARATOR,
    SHORT_ANSWER_TOKENS,
    answer_from,
    bound,
    hint_bound,
    request,
    step_by_step,
    turns_bound,
    with_hint,
)
from router.types import CallRole, Message

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, SampleRequest, Task

CARRIED_BYTES = 800
"""How much of the end of the reasoning goes into the second stage: enough for its conclusion."""

THEREFORE = "Therefore, what is the final answer?"


@dataclass(frozen=True, slots=True)
class ChainOfThought:
    """One call that reasons step by step; a short second one if no answer can be read from it."""

    name: ClassVar[str] = "cot"
    title: ClassVar[str] = "reason step by step, then answer"
    source: ClassVar[str] = "Kojima et al. 2022, arXiv:2205.11916"
    needs: ClassVar[Needs] = Needs()

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the reasoning, and for kinds with a short form the extraction."""
        reasoning = bound(task, prompt_tokens, hint_bound(step_by_step(task)))
        cap = SHORT_ANSWER_TOKENS.get(task.answer_kind)
        if cap is None:
            return (reasoning,)
        turns = _extraction(task, "x" * CARRIED_BYTES)
        return (reasoning, bound(task, prompt_tokens, turns_bound(turns), max_tokens=cap))

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; what stops the second stage leaves the reasoning as the answer."""
        (sample, *_) = await sampler.sample(self.request(task))
        answer = answer_from(task, sample)
        cap = SHORT_ANSWER_TOKENS.get(task.answer_kind)
        if answer.value is not None or cap is None or not sample.text.strip():
            return answer
        turns = (*task.messages, *_extraction(task, sample.text))
        second = replace(request(task, turns, max_tokens=cap), logprobs=False)
        try:
            (short, *_) = await sampler.sample(second, CallRole.EXTRACT)
        except (ProviderError, AllowanceExceededError):
            return replace(answer, complete=False)
        value = answers.extract(short.text, task.answer_kind)
        if value is None:
            return replace(answer, samples=(sample, short))
        shown = replace(sample, text=f"{sample.text.rstrip()}{SEPARATOR}Answer: {value}")
        return replace(
            answer, text=shown.text, value=value, samples=(sample, short), choices=(shown,)
        )

    def request(self, task: Task) -> SampleRequest:
        """Give the first call of a run: the reasoning."""
        return request(task, with_hint(task.messages, step_by_step(task)))


def _extraction(task: Task, reasoning: str) -> tuple[Message, Message]:
    """Give the turns that follow the question in the second stage."""
    carried = reasoning.encode(errors="surrogatepass")[-CARRIED_BYTES:].decode(errors="ignore")
    ask = " ".join(part for part in (THEREFORE, answers.direct_hint(task.answer_kind)) if part)
    return Message("assistant", carried), Message("user", ask)
