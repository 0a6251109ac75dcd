"""A circuit breaker: an upstream that keeps failing is left alone for a while, then tried once.

Source: Nygard (2007), Release It!, the circuit breaker, over a window of the latest outcomes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 20
"""So many of the latest outcomes are looked at."""

SLACK_S = 0.001
"""A timer may end this much early."""

MAX_REST_S = 600.0
"""An upstream that asks for a longer pause is tried again after this one."""


class BreakerState(StrEnum):
    """Whether an upstream is asked: as ever, not at all, once to see, or after its own pause."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RESTING = "resting"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Open after ``failures`` among the latest outcomes, if they are half of them or more.

    It stays open for ``open_s``, twice as long each time that the probe after it fails, up to
    ``max_open_s``.
    """

    failures: int = 5
    open_s: float = 5.0
    max_open_s: float = 60.0


class Breaker:
    """The breaker of one upstream; kept on one event loop.

    ``begin`` before a call says whether it is the probe, which alone decides after a failure. A
    pause that the upstream asks for is kept without a probe after it.
    """

    def __init__(
        self,
        settings: BreakerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or BreakerSettings()
        self._clock = clock
        self._failed = 0
        self._n_known = 0
        self._open_until_s: float | None = None
        self._open_s = self._settings.open_s
        self._rest_until_s = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """Say what would be done with a call now."""
        now_s = self._clock()
        if self._open_until_s is not None:
            is_over = now_s >= self._open_until_s - SLACK_S
            return BreakerState.HALF_OPEN if is_over else BreakerState.OPEN
        resting = now_s < self._rest_until_s - SLACK_S
        return BreakerState.RESTING if resting else BreakerState.CLOSED

    @property
    def takes_calls(self) -> bool:
        """Whether a call may be made now."""
        if self._open_until_s is None and not self._rest_until_s:
            return True
        state = self.state
        return state is BreakerState.CLOSED or (
            state is BreakerState.HALF_OPEN and not self._probing
        )

    @property
    def rests_for_s(self) -> float:
        """Seconds of the pause that the upstream asked for; infinite where it is not alone."""
        if self._open_until_s is not None:
            return math.inf
        return max(0.0, self._rest_until_s - self._clock())

    @property
    def opens_again_in_s(self) -> float:
        """Seconds until a call may be made; 0 while a probe is under way."""
        until_s = self._rest_until_s if self._open_until_s is None else self._open_until_s
        return max(0.0, until_s - self._clock())

    def begin(self) -> bool:
        """Count a call that is about to be made; True when it is the probe."""
        is_probe = self._open_until_s is not None and not self._probing
        self._probing = self._probing or is_probe
        return is_probe

    def succeeded(self, *, is_probe: bool) -> None:
        """Take note that the upstream did its work."""
        if is_probe:
            self._close()
        self._note(failed=0)

    def failed(self, *, is_probe: bool) -> None:
        """Take note that the upstream failed."""
        if is_probe:
            self._open_s = min(self._settings.max_open_s, 2.0 * self._open_s)
            self._open()
            return
        self._note(failed=1)
        n_failed = self._failed.bit_count()
        if n_failed >= self._settings.failures and 2 * n_failed >= self._n_known:
            self._open()

    def asked_to_wait(self, seconds: float) -> None:
        """Keep the pause that the upstream asks for."""
        until_s = self._clock() + min(seconds, MAX_REST_S)
        self._rest_until_s = max(self._rest_until_s, until_s)

    def abandoned(self, *, is_probe: bool) -> None:
        """Forget a call that ended for other reasons; the next one is the probe in its place."""
        if is_probe:
            self._probing = False

    def _note(self, *, failed: int) -> None:
        self._failed = (self._failed << 1 | failed) & ((1 << WINDOW) - 1)
        self._n_known = min(WINDOW, self._n_known + 1)

    def _open(self) -> None:
        if self._open_until_s is None or self._probing:
            self._open_until_s = self._clock() + self._open_s
        self._probing = False

    def _close(self) -> None:
        self._failed = self._n_known = 0
        self._open_until_s = None
        self._open_s = self._settings.open_s
        self._probing = False
