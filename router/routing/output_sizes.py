"""How long answers are: for each arm the tokens of the completions that this process has seen."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cost_models.types import Arm
    from router.routing.types import ChatRequest
    from router.types import Answer, CallRecord

REMEMBERED = 400
"""Answers remembered of one arm, the newest."""

MIN_SEEN = 30
"""Answers of an arm without which nothing is said of it."""

QUANTILE = 0.99
"""Share of an arm's answers that its usual cap does not cut."""

CUT_TIMES = 2
"""An answer that its cap cut is counted as so many times its length: it would have gone on."""


@dataclass(slots=True)
class OutputSizes:
    """Tokens of the longest completion of each of an arm's latest answers."""

    _seen: dict[Arm, deque[int]] = field(default_factory=dict, init=False)

    def observe(
        self, arm: Arm, request: ChatRequest, answer: Answer, calls: Sequence[CallRecord]
    ) -> None:
        """Take note of an answer.

        One that was cut where its client wanted it says nothing; nor does usage that is estimated.
        A call for several completions counts as their mean where the client asked for them, else
        as their sum, which is too much and so cuts nothing.
        """
        was_cut = answer.finish_reason == "length"
        if was_cut and request.min_max_tokens is None:
            return
        sizes = [
            ceil(call.usage.completion_tokens / request.task.n)
            for call in calls
            if call.status == "ok" and not call.usage.estimated
        ]
        if sizes:
            size = max(sizes) * (CUT_TIMES if was_cut else 1)
            self._seen.setdefault(arm, deque(maxlen=REMEMBERED)).append(size)

    def usual_cap(self, arm: Arm) -> int | None:
        """Give the cap in tokens that cuts one in a hundred of the arm's answers.

        None until enough were seen.
        """
        seen = self._seen.get(arm, ())
        if len(seen) < MIN_SEEN:
            return None
        return sorted(seen)[ceil(QUANTILE * len(seen)) - 1]
