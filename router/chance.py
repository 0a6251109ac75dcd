"""Seeded chance that is the same on every machine, for every version of every library."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")
BITS = 64


class Dice:
    """A stream of independent draws fixed by ``key``: SHA-256 in counter mode.

    Draws of one key never depend on those of another, so work can be done in any order.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._n_drawn = 0

    def below(self, end: int) -> int:
        """Whole number in [0, ``end``); the bias is under ``end`` / 2**64."""
        digest = hashlib.sha256(f"{self._key}|{self._n_drawn}".encode()).digest()
        self._n_drawn += 1
        return int.from_bytes(digest[: BITS // 8]) * end >> BITS

    def between(self, low: int, high: int) -> int:
        """Whole number in [``low``, ``high``]."""
        return low + self.below(high - low + 1)

    def uniform(self) -> float:
        """Float in [0, 1), of 53 random bits."""
        return float(self.below(1 << 53)) / float(1 << 53)

    def pick(self, items: Sequence[T]) -> T:
        """One of ``items``, each as likely."""
        return items[self.below(len(items))]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` different places of ``items``, in random order (Fisher and Yates)."""
        pool = list(items)
        for i in range(count):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All ``items`` in random order."""
        return self.sample(items, len(items))
