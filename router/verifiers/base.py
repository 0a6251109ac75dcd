"""The verifier protocol: how good is an answer, judged from outside the model that gave it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class Verdict:
    """``quality`` in [0, 1], or None when the verifier cannot say; ``reason`` is for a person.

    ``steps`` has one quality for each step of the answer, None for a step that was not judged;
    it is empty where the verifier looks at the answer alone.
    """

    quality: float | None
    reason: str = ""
    steps: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Demands:
    """What one verdict costs and what it needs.

    ``model_calls`` is the most upstream calls that a verdict makes through the request's own
    meter. ``service`` is True when each asks a server of its own, at that server's price.
    ``extra`` is the optional install that it needs. ``per_step`` says that it judges steps, so
    that it can guide a search. ``weak`` marks a model that judges itself: its verdicts correlate
    with its own mistakes (Huang et al. 2023, arXiv:2310.01798). ``exact`` marks a rule whose word
    is what right means: how reliable any other is has to be measured (`storage.reliability`).
    """

    model_calls: int = 0
    service: bool = False
    extra: str | None = None
    per_step: bool = False
    weak: bool = False
    exact: bool = False


class Verifier(Protocol):
    """A judge of answers: a frozen dataclass whose fields are its parameters.

    ``grader`` names it in the registry and in the ledger's outcomes; ``str(verifier)`` is its
    canonical text.
    """

    grader: ClassVar[str]
    title: ClassVar[str]
    demands: ClassVar[Demands]

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """List every call of one verdict, given a bound of the task's own prompt tokens."""
        ...

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:
        """Judge ``answer``; never raises on odd text.

        A verifier that asks a model draws on ``sampler`` and raises what that raises; without
        one its quality is None.
        """
        ...


class WithoutCalls:
    """What verifiers share that draw no sample from the request's model."""

    __slots__ = ()

    grader: ClassVar[str]
    demands: ClassVar[Demands] = Demands()

    @property
    def name(self) -> str:
        """What the canonical text begins with."""
        return self.grader

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:  # noqa: ARG002 - protocol
        """Make no call."""
        return ()


class Rule(WithoutCalls, ABC):
    """A verifier that judges at once, in this process, by a rule of its own."""

    __slots__ = ()

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:  # noqa: ARG002 - protocol
        """Judge ``answer`` by the rule."""
        return self.judge(task, answer)

    @abstractmethod
    def judge(self, task: Task, answer: Answer) -> Verdict:
        """Apply the rule; never raises on odd text."""
