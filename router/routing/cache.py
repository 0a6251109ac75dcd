"""Answers to requests that were asked before, word for word, by the same tenant.

Kept in this process, not in the database: a hit is to be cheaper than a look-up there, and no text
of an answer is to be stored that nobody asked to store. Each process has its own, bounded.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING

from router.types import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.routing.types import ChatRequest
    from router.types import Answer

MEBIBYTE = 1 << 20
DESCRIBED = tuple(field.name for field in fields(Task) if field.name != "messages")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """For how long an answer counts, and how much is kept: answers, and bytes of them in all."""

    ttl_s: float
    max_entries: int = 10_000
    max_bytes: int = 64 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer, the model that gave it, and the request that it was given to first."""

    request_id: str
    model: str
    answer: Answer


def key_of(request: ChatRequest) -> bytes | None:
    """Give what a request is known by; None for one that is not asked to be answered alike.

    Only a request with temperature 0 or a seed is: any other one asks for a fresh sample. Who
    asks is part of the key, and so is everything that the answer can depend on.
    """
    task = request.task
    if not request.cacheable or (task.temperature != 0 and task.seed is None):
        return None
    asked = {
        "tenant": request.tenant,
        "model": request.model,
        "limits": repr(request.limits),
        "min_max_tokens": request.min_max_tokens,
        "messages": [message.to_wire() for message in task.messages],
        "task": {name: getattr(task, name) for name in DESCRIBED},
    }
    return sha256(json.dumps(asked, sort_keys=True, default=str).encode()).digest()


class AnswerCache:
    """The answers of one process; the least lately used goes first. For one event loop."""

    def __init__(
        self, settings: CacheSettings, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock_s = clock_s
        self._kept: OrderedDict[bytes, tuple[float, int, CachedAnswer]] = OrderedDict()
        self._n_bytes = 0

    def find(self, key: bytes) -> CachedAnswer | None:
        """Give the answer to a request, None where there is none or it is too old."""
        found = self._kept.get(key)
        if found is None:
            return None
        if self._clock_s() >= found[0]:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[2]

    def keep(self, key: bytes, cached: CachedAnswer) -> None:
        """Keep an answer that is whole and is not known to be wrong."""
        answer = cached.answer
        n_bytes = len(repr(answer))
        if not answer.complete or answer.verified is False or n_bytes > self._settings.max_bytes:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (self._clock_s() + self._settings.ttl_s, n_bytes, cached)
        self._n_bytes += n_bytes
        while (
            len(self._kept) > self._settings.max_entries or self._n_bytes > self._settings.max_bytes
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        self._n_bytes -= self._kept.pop(key)[1]
