"""The nouns of choosing: what was asked, what was decided, what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cost_models.types import Arm


class AnswerKind(StrEnum):
    """What an answer is, which decides how answers are compared. ``TEXT`` is never voted on."""

    NUMBER = "number"
    CHOICE = "choice"
    EXPRESSION = "expression"
    CODE = "code"
    JSON = "json"
    TOOL_CALL = "tool_call"
    TEXT = "text"


class PolicyKind(StrEnum):
    """What is fitted; ``BEST`` takes the one with the higher cross-validated score."""

    UTILITY = "utility"
    GROUP_RELATIVE = "group-relative"
    BEST = "best"


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked: nothing derived.

    ``text`` is the last user message, ``posing`` the rest of the request in short, as
    `policies.posing.Posing` writes it.
    """

    query_id: str
    text: str
    answer_kind: AnswerKind = AnswerKind.TEXT
    tenant: str = "default"
    posing: str = ""


@dataclass(frozen=True, slots=True)
class Offered:
    """The arms that a decision was made among, with what was forecast of each.

    ``quality`` is the probability of a right answer, None before any fit; ``cost_usd`` the expected
    cost. Both are as long as ``arms``.
    """

    arms: tuple[Arm, ...]
    cost_usd: tuple[float, ...]
    quality: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What another policy would have picked from the same offers; it was not run."""

    policy_version: str
    arm: Arm


@dataclass(frozen=True, slots=True)
class Decision:
    """An arm with everything that replaying the choice needs.

    ``attempt`` counts from 0. ``propensity`` in (0, 1] is the probability with which this arm
    was picked. ``difficulty`` in [0, 1]: 0 trivial, 1 hopeless; None when nothing was fitted.
    ``reason`` is one sentence for a person. ``offered`` is what could be picked, None where there
    was no choice.
    """

    arm: Arm
    propensity: float
    policy_version: str
    predicted_quality: float | None = None
    predicted_cost_usd: float | None = None
    difficulty: float | None = None
    attempt: int = 0
    reason: str = ""
    offered: Offered | None = None
    shadow: Shadowed | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.propensity <= 1.0:
            msg = f"propensity must be in (0, 1], got {self.propensity}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision; ``quality`` in [0, 1], or None when nobody judged."""

    answer: str
    quality: float | None
    cost_usd: float
    latency_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Episode:
    """Query, decision and outcome together: one training row."""

    query: Query
    decision: Decision
    outcome: Outcome
