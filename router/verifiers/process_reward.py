"""A process reward model behind HTTP: a trained judge of every step.

Sources: Lightman et al. (2023), arXiv:2305.20050; Snell et al. (2024), arXiv:2408.03314, for the
use of the last step's score.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import environ
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from router.errors import ProviderError, StrategyConfigError
from router.parameters import canonical, check, number, one_of
from router.providers.reward import PLAIN, VLLM, RewardModel
from router.verifiers.base import Demands, Verdict, WithoutCalls
from router.verifiers.steps import aggregate, aggregation, split_steps

if TYPE_CHECKING:
    from router.providers.base import Sampler
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class ProcessRewardVerifier(WithoutCalls):
    """Ask the reward model ``model`` at ``url`` for the quality of every step.

    ``form`` is ``vllm`` (the server's address, without ``/pooling``) or ``plain``; see
    `router.providers.reward`. ``mark`` is the step separator of the model, for ``vllm`` alone.
    ``key_variable`` names the environment variable that holds the server's key: a key itself would
    be part of an arm's name.
    ``verify`` raises ProviderError when the server fails. Its calls are not metered: the server is
    the operator's own.
    """

    grader: ClassVar[str] = "process_reward"
    title: ClassVar[str] = "a process reward model behind HTTP judges every step"
    demands: ClassVar[Demands] = Demands(service=True, per_step=True)

    url: str
    model: str = "process-reward-model"
    form: str = one_of(VLLM, VLLM, PLAIN)
    mark: str = "<extra_0>"
    aggregation: str = aggregation()
    timeout_s: float = number(30.0, 0.0, 600.0, open_low=True)
    key_variable: str = ""

    def __post_init__(self) -> None:
        check(self)
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = f"process_reward: url must be an http(s) address, got {self.url!r}"
            raise StrategyConfigError(msg)
        if not self.mark:
            msg = "process_reward: mark must not be empty; it separates the steps"
            raise StrategyConfigError(msg)

        if self.key_variable and not self.key_variable.isidentifier():
            msg = (
                "process_reward: key_variable is the name of an environment variable, "
                "not the key itself"
            )
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:  # noqa: ARG002 - protocol
        """Judge every step of the answer's text."""
        steps = split_steps(answer.text)
        if not steps:
            return Verdict(None, "there are no steps")
        served = RewardModel(
            self.url, self.model, self.form, self.mark, self.timeout_s, self._key()
        )
        scores = await served.score(task.text, steps)
        weakest = min(range(len(scores)), key=scores.__getitem__)
        reason = f"step {weakest + 1} is the weakest, at {scores[weakest]:.2f}"
        return Verdict(aggregate(scores, self.aggregation), reason, scores)

    def _key(self) -> str:
        """Read the server's key; ProviderError where the variable that was named is not set."""
        if not self.key_variable:
            return ""
        key = environ.get(self.key_variable, "")
        if not key:
            msg = f"the environment variable {self.key_variable} with its key is not set"
            raise ProviderError(self.model, msg)
        return key
