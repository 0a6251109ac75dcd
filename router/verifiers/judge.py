"""A model as the judge: of every step, or of the whole answer.

Sources: step verdicts as in Lightman et al. (2023), arXiv:2305.20050, asked for in words as in
Zheng et al. (2023), arXiv:2306.05685 (model as judge); self-evaluation as P(True) in Kadavath et
al. (2022), arXiv:2207.05221. Both draw on the request's own meter, so they are paid and capped
like every other call.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cost_models.estimates import CallBound
from router.parameters import canonical, check, number
from router.providers.base import bytes_bound, utf8_length
from router.types import CallRole, Message, SampleRequest
from router.verifiers.base import Demands, Verdict
from router.verifiers.steps import aggregate, aggregation, split_steps

if TYPE_CHECKING:
    from router.providers.base import Sampler
    from router.types import Answer, Task

MAX_CARRIED_BYTES = 6_000
"""Most that the judge reads of an answer: its end, where the conclusion is."""

BYTES_PER_TOKEN = 6
"""Bytes that the judge reads for each token that an answer may have."""

ASK_STEPS = (
    "Above is a proposed solution with numbered steps. Check every step on its own. Write one "
    "line for each step, 'Step N: right' or 'Step N: wrong', and nothing else."
)
ASK_WHOLE = (
    "Above is a proposed answer. Check it. Is it right? End with one last line 'Verdict: P', "
    "where P is a whole number from 0 (surely wrong) to 100 (surely right)."
)
STEP_LINE = re.compile(
    r"^\W{0,4}step\s{1,3}(\d{1,3})\W{1,6}(right|correct|wrong|incorrect)", re.IGNORECASE
)
GOOD = frozenset({"right", "correct"})
VERDICT = re.compile(r"verdict\W{1,6}(\d{1,3})(?:\s*%|\b)", re.IGNORECASE)
BARE = re.compile(
    r"\A\W{0,4}(?:(\d{1,3})\s*%?|(yes|no|right|correct|wrong|incorrect))\b", re.IGNORECASE
)
YES = frozenset({"yes", "right", "correct"})
PERCENT = 100


class _Judge:
    """What both judges share: one call, after the answer, on the request's own meter."""

    __slots__ = ()

    grader: ClassVar[str]
    judge_tokens: int

    @property
    def name(self) -> str:
        """What the canonical text begins with."""
        return self.grader

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call: the question, as much of the answer as is read, and the asking."""
        turns = (Message("assistant", "x" * _carried(task)), Message("user", ASK_STEPS + ASK_WHOLE))
        return (CallBound(prompt_tokens + bytes_bound(turns), self._cap(task)),)

    def _cap(self, task: Task) -> int:
        return min(self.judge_tokens, task.max_tokens)

    async def _ask(self, task: Task, shown: str, ask: str, sampler: Sampler) -> str:
        turns = (Message("assistant", last_bytes(shown, _carried(task))), Message("user", ask))
        request = SampleRequest(
            messages=(*task.messages, *turns),
            max_tokens=self._cap(task),
            temperature=0.0,
            seed=task.seed,
        )
        (sample, *_) = await sampler.sample(request, CallRole.JUDGE)
        return sample.text


@dataclass(frozen=True, slots=True)
class StepJudge(_Judge):
    """Ask the model which steps of the answer are right; one call an answer.

    A step that the reply does not mention is not judged. Weak where the judge is the model that
    answered, which it is inside a strategy.
    """

    grader: ClassVar[str] = "step_judge"
    title: ClassVar[str] = "the model judges every step, in one call"
    demands: ClassVar[Demands] = Demands(model_calls=1, per_step=True, weak=True)

    aggregation: str = aggregation()
    judge_tokens: int = number(256, 8, 4096)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:
        """Judge every step of the answer's text."""
        steps = split_steps(answer.text)
        if sampler is None or not steps:
            return Verdict(None, "there is nobody to ask" if steps else "there are no steps")
        shown = "\n".join(f"Step {i}: {step}" for i, step in enumerate(steps, start=1))
        reply = await self._ask(task, shown, ASK_STEPS, sampler)
        said = [found for line in reply.splitlines() if (found := STEP_LINE.match(line))]
        told = {int(found[1]): float(found[2].lower() in GOOD) for found in said}
        qualities = tuple(told.get(i) for i in range(1, len(steps) + 1))
        wrong = [str(i) for i, quality in enumerate(qualities, start=1) if quality == 0.0]
        reason = (
            f"the judge calls wrong: step {', '.join(wrong)}" if wrong else "no step was faulted"
        )
        return Verdict(aggregate(qualities, self.aggregation), reason, qualities)


@dataclass(frozen=True, slots=True)
class SelfJudge(_Judge):
    """Ask the model how sure it is that its answer is right; one call an answer. Weak."""

    grader: ClassVar[str] = "self_judge"
    title: ClassVar[str] = "the model says how sure it is of the answer"
    demands: ClassVar[Demands] = Demands(model_calls=1, weak=True)

    judge_tokens: int = number(128, 4, 4096)

    def __post_init__(self) -> None:
        check(self)

    def __str__(self) -> str:
        return canonical(self)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:
        """Judge the answer's text; None where the reply holds no verdict."""
        if sampler is None or not answer.text.strip():
            return Verdict(None, "there is nobody to ask or nothing to judge")
        reply = await self._ask(task, answer.text, ASK_WHOLE, sampler)
        stated = VERDICT.findall(reply)
        bare = BARE.match(reply)
        percent = stated[-1] if stated else bare[1] if bare else None
        if percent is not None:
            sure = min(int(percent), PERCENT) / PERCENT
            return Verdict(sure, f"the model is {sure:.0%} sure of it")
        if bare:
            return Verdict(float(bare[2].lower() in YES), f"the model says {bare[2].lower()}")
        return Verdict(None, "the model gave no verdict")


def _carried(task: Task) -> int:
    return min(MAX_CARRIED_BYTES, BYTES_PER_TOKEN * task.max_tokens)


def last_bytes(text: str, n_bytes: int) -> str:
    """Give the end of ``text`` in at most ``n_bytes`` UTF-8 bytes; lone surrogates are dropped."""
    if utf8_length(text) <= n_bytes and text.isascii():
        return text
    return text.encode(errors="surrogatepass")[-n_bytes:].decode(errors="ignore")
