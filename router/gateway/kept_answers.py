"""Answers to idempotency keys in the ledger's database, for every process that shares it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from storage.answers import KeyPlace

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from router.gateway.idempotency import Place
    from storage.answers import Claim
    from storage.store import Ledger


@dataclass(slots=True)
class LedgerAnswers:
    """An answer is kept for ``keep_s``; a process silent for ``stale_after_s`` is dead."""

    ledger: Ledger
    clock: Callable[[], datetime]
    keep_s: float = 24 * 3600.0
    stale_after_s: float = 60.0

    async def claim(self, place: Place, digest: bytes) -> Claim:
        """Claim a key for a body, or say what stands in the way."""
        claiming = self.ledger.claiming(
            _at(place, digest), self.clock(), self.keep_s, self.stale_after_s
        )
        return await asyncio.shield(asyncio.wrap_future(claiming))

    async def keep(self, place: Place, digest: bytes, answer: bytes | None) -> None:
        """Keep the answer to a claimed key; None gives the key back."""
        keeping = self.ledger.keeping(_at(place, digest), answer)
        await asyncio.shield(asyncio.wrap_future(keeping))


def _at(place: Place, digest: bytes) -> KeyPlace:
    tenant, path, key = place
    return KeyPlace(tenant, path, sha256(key).hexdigest(), digest.hex())
