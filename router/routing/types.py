"""What the routing service takes and gives: the values between the HTTP face and the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from router.providers.base import BYTES_PER_TOKEN, bytes_bound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cost_models.types import Arm, Usage
    from policies.types import Decision
    from router.strategies.cascade import Attempt
    from router.types import Answer, CallRecord, Task
    from storage.rates import Permit

AUTO = "auto"
AUTO_POLICY = f"{AUTO}/"
"""What comes before the version of a policy that a client asks for by name."""


def is_auto(model: str) -> bool:
    """Tell whether a policy picks the arm: the one in service, or the one that is named."""
    return model == AUTO or model.startswith(AUTO_POLICY)


def policy_named(model: str) -> str | None:
    """Give the version of the policy that ``auto/VERSION`` names, None for any other model."""
    return model.removeprefix(AUTO_POLICY) if model.startswith(AUTO_POLICY) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the caller asks of one request; an operator's ceilings always win. None is no limit.

    ``accuracy_target`` in (0, 1]: the cheapest arm predicted to reach it is picked, or the best
    one if none does. ``strategy`` names one strategy, ``allowed_models`` the models.
    """

    accuracy_target: float | None = None
    max_cost_usd: float | None = None
    max_latency_s: float | None = None
    allowed_models: tuple[str, ...] | None = None
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request as the engine sees it.

    ``model`` is ``auto``, ``auto/VERSION`` of a kept policy, or a configured model's name.

    ``min_max_tokens`` says how far the task's ``max_tokens`` may be lowered where money is short;
    None leaves it alone, since the client set it. ``tenant`` and ``team`` are the key's; ``user``,
    ``tags`` and ``session`` are what the client says. All of them name budgets that apply.
    ``permit`` is of a key with rate limits, and ends with the request.
    ``cacheable`` is False for one that neither wants an answer of before nor leaves one.
    """

    request_id: str
    model: str
    task: Task
    limits: Limits = field(default_factory=Limits)
    min_max_tokens: int | None = None
    tenant: str = "default"
    team: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    session: str | None = None
    cacheable: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    permit: Permit | None = None

    @property
    def likely_tokens(self) -> int:
        """A guess from the bytes of the prompt and the cap."""
        prompt = ceil(bytes_bound(self.task.messages) / BYTES_PER_TOKEN)
        return prompt + self.task.max_tokens * self.task.n


@dataclass(frozen=True, slots=True)
class Candidate:
    """An arm as ``/v1/plan`` shows it: its predictions, and why it is out if it is.

    ``worst_case_nano_usd`` is what would be held; ``rejected`` is None for a feasible arm.
    """

    arm: Arm
    predicted_quality: float | None
    expected_cost_usd: float | None
    expected_latency_s: float | None
    worst_case_nano_usd: int | None
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A dry run: every arm with its predictions, and the decision that would be taken.

    ``decision`` is None when no arm is feasible.
    """

    request_id: str
    decision: Decision | None
    candidates: tuple[Candidate, ...]
    policy_version: str
    difficulty: float | None
    in_distribution: bool | None


@dataclass(frozen=True, slots=True)
class Served:
    """A served request after its commit: what the client gets and what the ledger holds.

    ``overhead_s`` is wall time spent outside upstream calls. ``attempts`` are the stages that a
    cascade began, none for any other arm. ``cached_from`` is the request that was answered so
    before, None for an answer of its own.
    """

    request_id: str
    decision: Decision
    answer: Answer
    usage: Usage
    cost_nano_usd: int
    latency_s: float
    overhead_s: float
    calls: tuple[CallRecord, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    cached_from: str | None = None

    @property
    def model(self) -> str:
        """The model that gave the answer."""
        answered = (a.arm.model for a in reversed(self.attempts) if a.answer is not None)
        return next(answered, self.decision.arm.model)
