"""Limits on how fast somebody asks, and what is left of one: the generic cell rate algorithm.

Source: ITU-T I.371. What was asked is kept as the time until which something counts as used: a
request moves it by its share of the minute, and fits where it is then at most a minute ahead.
"""

from __future__ import annotations

from dataclasses import dataclass

NS_PER_S = 1_000_000_000
MINUTE_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast the keys of one name may ask, each at least 1; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None

    def __bool__(self) -> bool:
        """Tell whether there is a limit at all."""
        return self != NO_LIMITS


NO_LIMITS = RateLimits()


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit per minute, of which some counts as used for ``busy_ns`` >= 0 nanoseconds more."""

    limit: int
    busy_ns: int

    @property
    def remaining(self) -> int:
        """What may still be asked at once, at least 0."""
        return max(0, self.limit + -self.busy_ns * self.limit // MINUTE_NS)

    @property
    def reset_s(self) -> float:
        """Seconds until nothing counts as used."""
        return self.busy_ns / NS_PER_S

    def cost_ns(self, n: int) -> int:
        """Share of the minute that ``n`` take, in nanoseconds."""
        return n * MINUTE_NS // self.limit

    def wait_s(self, n: int) -> float:
        """Seconds until ``n`` fit, 0 where they do now."""
        return max(0, self.busy_ns + self.cost_ns(n) - MINUTE_NS) / NS_PER_S
