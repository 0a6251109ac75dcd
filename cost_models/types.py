"""The nouns of cost: an arm, what a run consumed, and an arm with its price on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ARM_SEPARATOR = "|"

TURNED_AWAY = "turned_away"
"""Status of an attempt at a call that failed, was not billed, and was followed by another."""


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """Model x strategy: what a policy chooses between.

    ``model`` is the name that clients and reports see; ``strategy`` is the canonical text of a
    strategy with its parameters, for example ``self_consistency(samples=5)``. ``str(arm)`` is
    the only text form, ``MODEL|STRATEGY``.
    """

    model: str
    strategy: str

    def __post_init__(self) -> None:
        if not self.model or not self.strategy or ARM_SEPARATOR in self.strategy:
            msg = f"an arm needs a model and a strategy without '|', got {self!r}"
            raise ValueError(msg)

    def __str__(self) -> str:
        return f"{self.model}{ARM_SEPARATOR}{self.strategy}"

    @classmethod
    def parse(cls, text: str) -> Arm:
        """Read ``MODEL|STRATEGY``; ValueError when there is no separator."""
        model, separator, strategy = text.rpartition(ARM_SEPARATOR)
        if not separator:
            msg = f"an arm is written MODEL|STRATEGY, got {text!r}"
            raise ValueError(msg)
        return cls(model, strategy)


@dataclass(frozen=True, slots=True)
class Usage:
    """What was consumed; usages add.

    ``prompt_tokens`` includes ``cached_prompt_tokens`` and ``cache_write_tokens``;
    ``completion_tokens`` includes ``reasoning_tokens``. ``machine_ns`` is the share of an owned
    machine's busy time, in nanoseconds. ``estimated`` marks counts nobody reported.
    """

    n_calls: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    machine_ns: int = 0
    estimated: bool = False

    def __post_init__(self) -> None:
        counts = (
            self.n_calls,
            self.prompt_tokens,
            self.cached_prompt_tokens,
            self.cache_write_tokens,
            self.completion_tokens,
            self.reasoning_tokens,
            self.machine_ns,
        )
        if min(counts) < 0:
            msg = f"usage counts must be at least 0, got {self!r}"
            raise ValueError(msg)
        if self.cached_prompt_tokens + self.cache_write_tokens > self.prompt_tokens:
            msg = f"cached and cache-written tokens are part of prompt_tokens, got {self!r}"
            raise ValueError(msg)
        if self.reasoning_tokens > self.completion_tokens:
            msg = f"reasoning tokens are part of completion_tokens, got {self!r}"
            raise ValueError(msg)

    @classmethod
    def total(cls, usages: Iterable[Usage]) -> Usage:
        """Sum usages; one alone is given as it is."""
        rest = iter(usages)
        first = next(rest, None)
        return cls() if first is None else sum(rest, start=first)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            n_calls=self.n_calls + other.n_calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_prompt_tokens=self.cached_prompt_tokens + other.cached_prompt_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            machine_ns=self.machine_ns + other.machine_ns,
            estimated=self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class PricedArm:
    """An arm that fits a request, with what it is expected to cost and the most it can cost.

    ``expected_cost_usd`` and ``expected_latency_s`` are predictions (float);
    ``worst_case_nano_usd`` is what is held before the first call, an upper bound.
    """

    arm: Arm
    expected_cost_usd: float
    worst_case_nano_usd: int
    expected_latency_s: float = 0.0
