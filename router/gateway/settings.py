"""What the HTTP face needs to know of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cost_models.rates import RateLimits
    from storage.keys import Key

MEBIBYTE = 1 << 20


def utc_now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits and keys of the gateway.

    With ``pepper`` and ``find_key`` (by public id, may block) the ledger's keys open too.

    ``keys`` maps the name of each key, which is its tenant, to the key; None lets everybody in.
    ``teams`` maps those names to teams, where they have one, and ``limits`` to how fast they may
    ask. A request may say the ``tags``.
    A request without a cap has ``default_max_tokens``, lowered at most to ``min_max_tokens`` where
    money is short. A stream that has nothing to send for ``progress_s`` sends a comment instead.
    """

    default_max_tokens: int = 512
    min_max_tokens: int = 64
    max_body_bytes: int = 16 * MEBIBYTE
    keys: Mapping[str, str] | None = field(default=None, repr=False)
    teams: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, RateLimits] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    pepper: str | None = field(default=None, repr=False)
    find_key: Callable[[str], Key | None] | None = None
    progress_s: float = 3.0
    clock: Callable[[], datetime] = utc_now
