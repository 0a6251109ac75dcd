"""An engine that can be replaced while it serves: requests under way end where they began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from router.routing.types import Served
from router.types import Chunk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Sequence

    from cost_models.rates import RateLimits
    from router.routing.embeddings import Embedded, EmbedRequest
    from router.routing.service import RoutingService
    from router.routing.types import ChatRequest, Plan
    from storage.outcomes import Grade
    from storage.rates import Permit

T = TypeVar("T")
Item = Chunk | Served


@dataclass(slots=True, eq=False)
class _Post:
    """One service with the number of requests that it has under way."""

    service: RoutingService
    n_running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        self.n_running += 1

    def leave(self) -> None:
        self.n_running -= 1
        if not self.n_running:
            self.idle.set()

    async def wait_idle(self) -> None:
        while self.n_running:
            self.idle.clear()
            await self.idle.wait()


class SwitchingEngine:
    """What the gateway serves: the service of now, which `switch` replaces."""

    def __init__(self, service: RoutingService) -> None:
        self._post = _Post(service)

    @property
    def service(self) -> RoutingService:
        """The service that the next request goes to."""
        return self._post.service

    def switch(self, service: RoutingService) -> Coroutine[Any, Any, None]:
        """Send requests to ``service`` from now on; await the end of those that the other has."""
        service.follow(self._post.service)
        before, self._post = self._post, _Post(service)
        return before.wait_idle()

    def models(self) -> Sequence[str]:
        """Names of the configured models."""
        return self._post.service.models()

    def embedding_models(self) -> Sequence[str]:
        """Names of the configured embedding models."""
        return self._post.service.embedding_models()

    async def policies(self) -> Sequence[str]:
        """Versions of the policies that a request can name."""
        return await self._post.service.policies()

    async def admit(self, request: ChatRequest | EmbedRequest, limits: RateLimits) -> Permit:
        """Count a request in the limits of its key."""
        return await self._post.service.admit(request, limits)

    async def answer(self, request: ChatRequest) -> Served:
        """Serve one request."""
        return await self._counted(self._post, self._post.service.answer(request))

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Turn texts into vectors."""
        return await self._counted(self._post, self._post.service.embed(request))

    def stream(self, request: ChatRequest) -> AsyncGenerator[Item, None]:
        """Serve one request piece by piece."""
        return _Counted(self._post, self._post.service.stream(request))

    async def plan(self, request: ChatRequest) -> Plan:
        """Decide without running."""
        return await self._counted(self._post, self._post.service.plan(request))

    async def feedback(self, request_id: str, grade: Grade, tenant: str) -> None:
        """Record a judgement."""
        await self._post.service.feedback(request_id, grade, tenant)

    async def ready(self) -> list[str]:
        """Name what keeps the service from serving."""
        return await self._post.service.ready()

    async def _counted(self, post: _Post, work: Awaitable[T]) -> T:
        post.enter()
        try:
            return await work
        finally:
            post.leave()


class _Counted(AsyncGenerator[Item, None]):
    """A stream that counts as under way from its first item until it ends or is closed.

    Items are handed through as they are awaited: nothing runs in between.
    """

    def __init__(self, post: _Post, inner: AsyncGenerator[Item, None]) -> None:
        self._post = post
        self._inner = inner
        self._open = False

    def __anext__(self) -> Any:  # noqa: ANN401 - what the stream's own gives
        if not self._open:
            self._open = True
            self._post.enter()
        return self._inner.__anext__()

    async def asend(self, value: None) -> Item:
        return await self._inner.asend(value)

    async def athrow(self, *raised: Any) -> Item:  # noqa: ANN401 - as a generator's own
        return await self._inner.athrow(*raised)

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            if self._open:
                self._open = False
                self._post.leave()
