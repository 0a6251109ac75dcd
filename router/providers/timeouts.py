"""How long each phase of an upstream call may take, and the clock of one call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from router.errors import ProviderTimeoutError
from router.providers.alarm import Alarm

if TYPE_CHECKING:
    from types import TracebackType

    from router.types import Chunk


class Phase(StrEnum):
    """What was waited for when a call took too long; named as the setting that bounds it."""

    CONNECT = "connect"
    FIRST_TOKEN = "first_token"  # noqa: S105 - no secret
    BETWEEN_TOKENS = "between_tokens"
    TOTAL = "total"


WAITED_FOR = {
    Phase.FIRST_TOKEN: "its first token",
    Phase.BETWEEN_TOKENS: "its next token",
    Phase.TOTAL: "the end of its reply",
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, a first token, from token to token, and in all.

    Tokens are seen in streams alone: a reply that is not streamed is bounded by ``connect_s`` and
    ``total_s``.
    """

    connect_s: float = 10.0
    first_token_s: float = 300.0
    between_tokens_s: float = 60.0
    total_s: float = 600.0


class Patience:
    """The clock of one call, ``with`` which it is made: until when to wait for what comes next.

    Signs of life without a token (comments, a role) do not make it wait any longer. The time for
    which the reader of a stream holds it up counts in ``total_s`` alone.
    """

    __slots__ = ("_alarm", "_begun", "_heard", "_limits", "_phase", "_total_at", "_until_s")

    def __init__(self, limits: Timeouts, *, streamed: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        self._limits = limits
        self._begun = self._heard = False
        self._total_at = now_s + limits.total_s
        self._phase = Phase.FIRST_TOKEN if streamed else Phase.TOTAL
        self._until_s = self._total_at
        if streamed:
            self._until_s = min(now_s + limits.first_token_s, self._total_at)
        self._alarm = Alarm(self._until_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._alarm.close()

    def heard(self, chunk: Chunk) -> None:
        """Take note of a piece of the reply."""
        if self._begun or chunk.says_something:
            self._begun = self._heard = True

    def waiting(self) -> Alarm:
        """Give what the wait that begins now happens in; TimeoutError when it takes too long."""
        if self._heard:
            self._heard = False
            self._phase = Phase.BETWEEN_TOKENS
            now_s = asyncio.get_running_loop().time()
            self._until_s = min(now_s + self._limits.between_tokens_s, self._total_at)
            self._alarm.until_s = self._until_s
        return self._alarm

    def late(self, model: str, whom: str) -> ProviderTimeoutError:
        """Make the error for a wait that came to its end."""
        phase = self._phase if self._until_s < self._total_at else Phase.TOTAL
        waited_s: float = getattr(self._limits, f"{phase}_s")
        msg = f"{whom} took more than {waited_s:g} s ({phase}_s) to send {WAITED_FOR[phase]}"
        return ProviderTimeoutError(model, msg, phase=phase)
