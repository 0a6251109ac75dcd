"""The strategy protocol: one task, one metered model, one answer; knows nothing of money."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler
    from router.types import Answer, Task


@dataclass(frozen=True, slots=True)
class Needs:
    """What a strategy can and cannot serve; an arm that cannot serve a request is not feasible.

    ``votable`` strategies need an answer kind with a canonical form. ``tools`` is True when tool
    calls pass through, ``many_choices`` when a client's ``n`` > 1 can be served, ``logprobs``
    when token log-probabilities of the shown answer can be returned, ``formats`` when an answer
    keeps the client's ``response_format`` and samples that break it are passed over.
    """

    votable: bool = False
    tools: bool = False
    many_choices: bool = False
    logprobs: bool = True
    formats: bool = False


class Strategy(Protocol):
    """A way of spending test-time compute. A frozen dataclass whose fields are its parameters.

    ``name`` is the registry name; ``str(strategy)`` is the canonical text with parameters, for
    example ``self_consistency(samples=5)``; ``title`` is one line for tables; ``source`` cites
    the paper.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[Needs]

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:
        """List every call that a run can make, given a bound of the task's own prompt tokens."""
        ...

    async def run(self, task: Task, sampler: Sampler) -> Answer:
        """Answer the task; after a first success, a refused or failed call ends it, best so far."""
        ...
