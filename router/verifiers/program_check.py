"""Check an answer with a program: the model writes one, a sandbox runs it, the results must agree.

Agreement of reasoning in words and by program is the signal of Yue et al. (2023), arXiv:2310.03094
(mixture of thoughts); the program is that of Gao et al. (2022), arXiv:2211.10435.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cost_models.estimates import CallBound
from policies.types import AnswerKind
from router import answers
from router.parameters import canonical, check, number
from router.providers.base import bytes_bound
from router.sandbox.base import WRITE_PROGRAM, Limits
from router.sandbox.monty import sandbox
from router.types import CallRole, Message, SampleRequest
from router.verifiers.base import Demands, Verdict

if TYPE_CHECKING:
    from router.providers.base import Sampler
    from router.types import Answer, Task

ASK = Message("user", WRITE_PROGRAM)


@dataclass(frozen=True, slots=True)
class ProgramCheck:
    """Right is an answer that a program of the model's own comes to as well; one call an answer.

    The program is written from the question alone, without sight of the answer. One that fails,
    and an answer of a kind that cannot be compared, are "cannot say". Needs ``rheostat[sandbox]``.
    """

    grader: ClassVar[str] = "program_check"
    title: ClassVar[str] = "equal to what a program comes to that the model writes"
    demands: ClassVar[Demands] = Demands(model_calls=1, extra="sandbox")

    program_tokens: int = number(400, 16, 8192)
    time_s: float = number(2.0, 0.0, 30.0, open_low=True)

    def __post_init__(self) -> None:
        check(self)
        sandbox()

    def __str__(self) -> str:
        return canonical(self)

    @property
    def name(self) -> str:
        """What the canonical text begins with."""
        return self.grader

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """Bound the one call: the question and the asking."""
        cap = min(self.program_tokens, task.max_tokens)
        return (CallBound(prompt_tokens + bytes_bound((ASK,)), cap),)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:
        """Judge the canonical answer."""
        value = answer.value or answers.extract(answer.text, task.answer_kind)
        if sampler is None or value is None:
            return Verdict(None, "there is nobody to ask or no answer to compare")
        request = SampleRequest(
            messages=(*task.messages, ASK),
            max_tokens=min(self.program_tokens, task.max_tokens),
            temperature=0.0,
            seed=task.seed,
        )
        (sample, *_) = await sampler.sample(request, CallRole.VERIFY)
        program = answers.extract(sample.text, AnswerKind.CODE)
        if program is None:
            return Verdict(None, "the model wrote no program")
        done = await sandbox().run(program, Limits(time_s=self.time_s))
        found = done.result
        if found is None:
            return Verdict(None, f"the program gave nothing: {done.error or 'no output'}")
        read = answers.extract(f"Answer: {found}", task.answer_kind)
        if read is None:
            return Verdict(None, "what the program gave cannot be compared")
        if answers.same(value, read, task.answer_kind):
            return Verdict(1.0, "a program comes to the same")
        return Verdict(0.0, f"a program comes to {read[:80]}, not to {value[:80]}")
