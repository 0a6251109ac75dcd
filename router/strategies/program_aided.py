"""Program-aided answers: the model writes Python, a sandbox runs it, the result is the answer.

Sources: Gao et al. (2022), arXiv:2211.10435 (PAL); Chen et al. (2022), arXiv:2211.12588 (program of
thoughts). A program that fails is shown its error, as in Chen et al. (2023), arXiv:2304.05128.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.parameters import canonical, check, number
from router.sandbox.base import WRITE_PROGRAM, Limits
from router.sandbox.monty import sandbox
from router.strategies.base import Needs
from router.strategies.calls import STOPPING, Seeded
from router.strategies.prompts import (
    SEPARATOR,
    answer_from,
    bound,
    carried_bytes,
    hint_bound,
    request,
    tail,
    turns_bound,
    with_hint,
)
from router.types import Message

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Sample, Task

AGAIN = "The program failed: {error}\nWrite the whole program again, corrected, in one code block."
MAX_ERROR_BYTES = 400


@dataclass(frozen=True, slots=True)
class ProgramAided:
    """Have the model write a program, run it, and give what it prints.

    A program that fails goes back with its error up to ``repairs`` times. ``time_s`` bounds a run
    of a program. Where none works the answer is read from the first reply's text. Needs
    ``rheostat[sandbox]``; without it making one is an error.
    """

    name: ClassVar[str] = "program_aided"
    title: ClassVar[str] = "write a program, run it in a sandbox, answer with its result"
    source: ClassVar[str] = "Gao et al. 2022, arXiv:2211.10435; Chen et al. 2022, 2211.12588"
    needs: ClassVar[Needs] = Needs(logprobs=False)

    repairs: int = number(1, 0, 8, always_shown=True)
    time_s: float = number(2.0, 0.0, 30.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        sandbox()

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the first program and every repair; running one costs no tokens."""
        turns = _turns(task, "x" * carried_bytes(task), "x" * MAX_ERROR_BYTES)
        again = bound(task, prompt_tokens, hint_bound(WRITE_PROGRAM) + turns_bound(turns))
        return (bound(task, prompt_tokens, hint_bound(WRITE_PROGRAM)), *(again,) * self.repairs)

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; what stops a repair leaves the first reply as the answer."""
        seeded = Seeded(task, sampler)
        asked = with_hint(task.messages, WRITE_PROGRAM)
        messages = asked
        drawn: list[Sample] = []
        complete = True
        for _ in range(1 + self.repairs):
            try:
                (sample, *_) = await seeded.sample(request(task, messages))
            except STOPPING:
                if not drawn:
                    raise
                complete = False
                break
            drawn.append(sample)
            program = answers.extract(sample.text, AnswerKind.CODE)
            if program is None:
                break
            done = await sandbox().run(program, Limits(time_s=self.time_s))
            if done.result is not None:
                return _answer(task, sample, done.result, drawn)
            error = done.error or "it printed nothing"
            messages = (*asked, *_turns(task, sample.text, error))
        return replace(answer_from(task, drawn[0], drawn), complete=complete)


def _answer(task: Task, sample: Sample, result: str, drawn: list[Sample]) -> Answer:
    """Give the program with what it printed under it; the value is that result by kind."""
    said = f"Answer: {result}"
    value = answers.extract(said, task.answer_kind) or answers.extract(result, task.answer_kind)
    shown = replace(sample, text=f"{sample.text.rstrip()}{SEPARATOR}{said}")
    answer = answer_from(task, shown, drawn)
    return replace(answer, value=value)


def _turns(task: Task, reply: str, error: str) -> tuple[Message, Message]:
    ask = AGAIN.format(error=tail(error, MAX_ERROR_BYTES))
    return Message("assistant", tail(reply, carried_bytes(task))), Message("user", ask)
