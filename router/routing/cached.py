"""The service with a cache of answers in front of it: a hit costs nothing and is written down."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cost_models.types import Arm, Usage
from policies.types import Decision
from router.routing.cache import AnswerCache, CachedAnswer, key_of
from router.routing.service import RoutingService, whole_chunks
from router.routing.types import Served
from router.types import Chunk
from storage.ledger import OpenEntry, SettleEntry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from router.routing.types import ChatRequest

STRATEGY = "cache"
"""Stands where an arm has its strategy: what the ledger groups hits by, and learns nothing from."""

VERSION = "fixed:cache"
PLAIN_DELTA = frozenset({"role", "content"})


@dataclass
class CachingService(RoutingService):
    """Answer what was asked before from memory, and everything else as the service does."""

    cache: AnswerCache | None = None

    async def answer(self, request: ChatRequest) -> Served:
        """Serve one request; a hit, too, is in the ledger when this returns."""
        key = key_of(request)
        hit = self._find(key)
        if hit is not None:
            return await self._hit(request, hit)
        served = await RoutingService.answer(self, request)
        self._remember(key, served)
        return served

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Served, None]:
        """Serve one request piece by piece; a hit in the shape of an answer that comes whole.

        What a stream says beside its text (tool calls, log-probabilities, reasoning) is not
        gathered, so such an answer is not kept.
        """
        key = key_of(request)
        hit = self._find(key)
        if hit is not None:
            for chunk in whole_chunks(hit.answer):
                yield chunk
            yield await self._hit(request, hit)
            return
        is_plain = True
        async with aclosing(RoutingService.stream(self, request)) as items:
            async for item in items:
                if isinstance(item, Chunk):
                    is_plain = is_plain and not item.logprobs and item.delta.keys() <= PLAIN_DELTA
                elif is_plain:
                    self._remember(key, item)
                yield item

    def _find(self, key: bytes | None) -> CachedAnswer | None:
        return None if key is None or self.cache is None else self.cache.find(key)

    def _remember(self, key: bytes | None, served: Served) -> None:
        if key is not None and self.cache is not None:
            self.cache.keep(key, CachedAnswer(served.request_id, served.model, served.answer))

    async def _hit(self, request: ChatRequest, hit: CachedAnswer) -> Served:
        """Write a hit down at no cost."""
        began_s = time.monotonic()
        reason = f"the same request as {hit.request_id}, from the cache"
        decision = Decision(Arm(hit.model, STRATEGY), 1.0, VERSION, reason=reason)
        answer = hit.answer
        settle = SettleEntry(0, (), 0.0, answer.value, answer.confidence, complete=answer.complete)
        entry = OpenEntry(self.asked(request), decision, 0)
        written = self.ledger.recording_hit(entry, settle, self.clock())
        try:
            await self.kept(asyncio.wrap_future(written))
        finally:
            if request.permit is not None:
                await self.let_go(request)
        seconds = time.monotonic() - began_s
        return Served(
            request_id=request.request_id,
            decision=decision,
            answer=answer,
            usage=Usage(),
            cost_nano_usd=0,
            latency_s=seconds,
            overhead_s=seconds,
            cached_from=hit.request_id,
        )
