"""Long chain of thought: tell a reasoning model how much to think.

Sources: effort and budget are parameters of the vendors' own interfaces; what longer thinking buys
is Muennighoff et al. (2025), arXiv:2501.19393, and Snell et al. (2024), arXiv:2408.03314.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from router.answers import format_hint
from router.errors import StrategyConfigError
from router.parameters import canonical, check, number, one_of
from router.strategies.base import Needs
from router.strategies.prompts import answer_from, bound, hint_bound, request, with_hint

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Task

NO_EFFORT = "unset"
SHARE_OF_THINKING = 0.75
"""Most of a completion's cap that thinking may take, so that the answer has room."""


@dataclass(frozen=True, slots=True)
class LongThought:
    """One call to a reasoning model with an ``effort``, or with a budget of thinking tokens.

    ``effort`` is sent as ``reasoning_effort``; ``unset`` sends none. ``thinking_tokens`` above 0
    is sent as ``thinking.budget_tokens``, at most three quarters of the completion's cap. What the
    model thinks is counted in the completion, priced, and kept as the sample's reasoning.
    """

    name: ClassVar[str] = "long_thought"
    title: ClassVar[str] = "one call to a reasoning model, told how much to think"
    source: ClassVar[str] = (
        "Muennighoff et al. 2025, arXiv:2501.19393; Snell et al. 2024, 2408.03314"
    )
    needs: ClassVar[Needs] = Needs()

    effort: str = one_of(
        "medium", NO_EFFORT, "none", "minimal", "low", "medium", "high", always_shown=True
    )
    thinking_tokens: int = number(0, 0, 200_000)

    def __post_init__(self) -> None:
        check(self)
        if self.effort == NO_EFFORT and not self.thinking_tokens:
            msg = "long_thought: set effort or thinking_tokens; with neither it is direct"
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call; thinking counts against the same cap as the answer."""
        told = self._told(task)
        return (bound(told, prompt_tokens, hint_bound(format_hint(task.answer_kind))),)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer with one call; raises what the provider or the meter raises."""
        hinted = with_hint(task.messages, format_hint(task.answer_kind))
        asked = replace(request(self._told(task), hinted), temperature=task.temperature)
        (sample, *_) = await sampler.sample(asked)
        return answer_from(task, sample)

    def _told(self, task: Task) -> Task:
        """Give the task with the fields that say how much to think."""
        more: dict[str, Any] = {}
        if self.effort != NO_EFFORT:
            more["reasoning_effort"] = self.effort
        budget = min(self.thinking_tokens, int(SHARE_OF_THINKING * task.max_tokens))
        if budget > 0:
            more["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return replace(task, extra={**task.extra, **more})
