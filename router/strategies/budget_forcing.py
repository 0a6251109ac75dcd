"""Budget forcing: make a model think on by putting "Wait" in its mouth, or stop and answer.

Source: Muennighoff et al. (2025), arXiv:2501.19393, section 3. It needs an upstream that goes on
with an assistant message that it is given (a prefill).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from router import answers
from router.parameters import canonical, check, number, one_of
from router.strategies.base import Needs
from router.strategies.calls import STOPPING, Seeded
from router.strategies.prompts import (
    SHORT_ANSWER_TOKENS,
    answer_from,
    bound,
    carried_bytes,
    hint_bound,
    request,
    step_by_step,
    tail,
    turns_bound,
    with_hint,
)
from router.types import CallRole, Message

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, SampleRequest, Task

WAIT = "\nWait,"
FINAL = "\n\nAnswer:"
PLAIN = "plain"
VLLM = "vllm"
GO_ON = {"continue_final_message": True, "add_generation_prompt": False}
"""What vLLM and SGLang want beside a last assistant message to go on with it."""


@dataclass(frozen=True, slots=True)
class BudgetForcing:
    """Think for up to ``thinking_tokens`` at a time, go on ``waits`` times, then answer.

    A model that stops thinking by itself is made to go on with "Wait,"; one that runs into the
    cap is stopped. Where the thinking holds no answer that can be read, a short last call begins
    with "Answer:". Thinking that only repeats itself is not gone on with. ``prefill`` is
    ``plain`` for upstreams that go on with a last assistant message as they are, ``vllm`` for
    those that must be told.
    """

    name: ClassVar[str] = "budget_forcing"
    title: ClassVar[str] = "make the model think on, or stop and answer"
    source: ClassVar[str] = "Muennighoff et al. 2025, arXiv:2501.19393"
    needs: ClassVar[Needs] = Needs(votable=True, logprobs=False)

    waits: int = number(1, 0, 8, always_shown=True)
    thinking_tokens: int = number(512, 16, 65_536)
    prefill: str = one_of(PLAIN, PLAIN, VLLM)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the first thoughts, every going on, and the last short call."""
        told = self._told(task)
        added = hint_bound(step_by_step(task))
        begun = turns_bound((Message("assistant", "x" * self._kept_bytes(task)),))
        cap = self.thinking_tokens
        first = bound(task, prompt_tokens, added, max_tokens=cap)
        further = bound(told, prompt_tokens, added + begun, max_tokens=cap)
        final = bound(told, prompt_tokens, added + begun, max_tokens=_answer_cap(task))
        return (first, *(further,) * self.waits, final)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; what stops a later call leaves the thoughts so far as the answer."""
        seeded = Seeded(task, sampler)
        hinted = with_hint(task.messages, step_by_step(task))
        (sample, *_) = await seeded.sample(request(task, hinted, max_tokens=self.thinking_tokens))
        drawn, thought, complete = [sample], sample.text, True
        if not thought.strip():
            return answer_from(task, sample)
        for _ in range(self.waits):
            if drawn[-1].finish_reason != "stop":
                break
            asked = self._on(task, f"{thought}{WAIT}", self.thinking_tokens)
            try:
                (sample, *_) = await seeded.sample(asked)
            except STOPPING:
                complete = False
                break
            if not sample.text.strip() or sample.text.strip() in thought:
                break
            drawn.append(sample)
            thought = f"{thought}{WAIT}{sample.text}"
        answer = self._answer(task, thought, drawn)
        if not complete or answer.value is not None:
            return replace(answer, complete=complete)
        asked = self._on(task, f"{thought}{FINAL}", _answer_cap(task))
        try:
            (short, *_) = await seeded.sample(asked, CallRole.EXTRACT)
        except STOPPING:
            return replace(answer, complete=False)
        if answers.extract(f"Answer: {short.text}", task.answer_kind) is None:
            return replace(answer, samples=(*drawn, short))
        return self._answer(task, f"{thought}{FINAL}{short.text}", [*drawn, short])

    def _answer(self, task: Task, text: str, drawn: list[Sample]) -> Answer:
        return answer_from(task, replace(drawn[-1], text=text, logprobs=None), drawn)

    def _on(self, task: Task, begun: str, max_tokens: int) -> SampleRequest:
        """Ask to go on with what the assistant has begun to say."""
        said = Message("assistant", tail(begun, self._kept_bytes(task)))
        messages = (*with_hint(task.messages, step_by_step(task)), said)
        return request(self._told(task), messages, max_tokens=max_tokens)

    def _told(self, task: Task) -> Task:
        more: dict[str, Any] = GO_ON if self.prefill == VLLM else {}
        return replace(task, extra={**task.extra, **more})

    def _kept_bytes(self, task: Task) -> int:
        """Bound what is carried of the thoughts, with the words put between them."""
        return (self.waits + 1) * (carried_bytes(task, self.thinking_tokens) + len(WAIT + FINAL))


def _answer_cap(task: Task) -> int:
    return SHORT_ANSWER_TOKENS.get(task.answer_kind, task.max_tokens)
