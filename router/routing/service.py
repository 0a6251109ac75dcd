"""The way of one query: offers, decision, hold, run, settle.

Money moves at two points only, both in a worker thread: the hold before the first upstream call,
and the settlement after the last one, which happens whatever became of the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar, cast

from cost_models.errors import BudgetExceededError
from policies.types import Query
from router.routing.books import Books
from router.routing.candidates import offers
from router.routing.embeddings import Embedded, embedding_run
from router.routing.exemplars import Exemplars
from router.routing.fallbacks import alternatives
from router.routing.heart import Heart
from router.routing.permits import Permits
from router.routing.runner import Runner
from router.routing.runs import Said, scopes_for, told, whole_chunks
from router.routing.settings import ServiceSettings
from router.routing.types import is_auto, policy_named
from router.verifiers.response_format import with_format
from storage.errors import LedgerError
from storage.ledger import Asked, OpenEntry, Refusal
from storage.policies import kept_versions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence

    from cost_models.rates import RateLimits
    from router.providers.deployments import DeploymentState
    from router.routing.catalog import Catalog
    from router.routing.chooser import Choice, Chooser
    from router.routing.embeddings import EmbeddingModel, EmbeddingRun, EmbedRequest
    from router.routing.fallbacks import Failure
    from router.routing.pacing import Pacer
    from router.routing.runner import Consider
    from router.routing.runs import Run
    from router.routing.types import ChatRequest, Plan, Served
    from router.routing.webhook import Webhook
    from router.strategies.direct import Direct
    from router.types import Chunk
    from storage.alerts import Alert
    from storage.forecasts import Outlook
    from storage.ledger import SettleEntry
    from storage.outcomes import Grade
    from storage.rates import Permit
    from storage.store import Ledger

T = TypeVar("T")
MAX_LISTED = 50
"""Policies that are listed as models; older ones can be named all the same."""

LOG = logging.getLogger("rheostat.service")


def utc_now() -> datetime:
    """Tell the time: the service's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a service leaves behind: entries to settle, openings in doubt, alerts to send."""

    unsettled: tuple[SettleEntry, ...]
    doubtful: tuple[str, ...]
    untold: tuple[Alert, ...]


@dataclass(slots=True)
class RoutingService:
    """Serve requests over a catalog, a chooser and the ledger; built once, at start.

    Every request that reached its hold is settled, also when the strategy raised, the client
    left, or the server is stopping: ``aclose`` waits for settlements under way. One that the
    ledger could not take is tried again with every heartbeat; its hold stays until then.
    """

    catalog: Catalog
    chooser: Chooser
    ledger: Ledger
    settings: ServiceSettings = field(default_factory=ServiceSettings)
    clock: Callable[[], datetime] = utc_now
    webhook: Webhook | None = None
    exemplars: Exemplars = field(default_factory=Exemplars)
    pacer: Pacer | None = None
    embedders: Mapping[str, EmbeddingModel] = field(default_factory=dict)
    books: Books = field(init=False)
    heart: Heart = field(init=False)
    _runner: Runner = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        permits = Permits(self.ledger, self.clock, settings.stale_after_s)
        self.books = Books(self.ledger, self.clock, permits)
        self.heart = Heart(
            self.books,
            self._take_up,
            settings.heartbeat_s,
            settings.stale_after_s,
            self.webhook,
            self.pacer,
        )
        self._runner = Runner(
            self.books, settings, self._consider, self._others, self.chooser.observe
        )

    async def start(self) -> None:
        """Charge what dead replicas left open, load the policy in service, begin to beat."""
        await self.heart.start()
        if self.pacer is not None:
            await asyncio.to_thread(self._read_spending, self.pacer)

    async def aclose(self) -> None:
        """Wait for settlements under way, then close the models and the ledger."""
        await self.retire()
        await asyncio.to_thread(self.ledger.close)

    async def retire(self) -> Unfinished:
        """Wait for settlements under way and close the models; give what the ledger lacks still.

        The ledger stays open, for the service that takes this one's place.
        """
        await self.heart.stop()
        await self.books.all_written()
        with suppress(LedgerError):
            await asyncio.to_thread(self.books.settle_again)
        for model in self.catalog.models.values():
            await model.provider.aclose()
        for embedding in self.embedders.values():
            await embedding.embedder.aclose()
        books = self.books
        return Unfinished(tuple(books.unsettled), tuple(books.doubtful), tuple(self.heart.untold))

    def follow(self, before: RoutingService) -> None:
        """Take the place of another service of the same ledger: whom it let in may end here."""
        self.books.permits = before.books.permits

    def take_over(self, unfinished: Unfinished) -> None:
        """Go on with what another service of the same ledger could not end."""
        self.books.unsettled.extend(unfinished.unsettled)
        self.books.doubtful.extend(unfinished.doubtful)
        self.heart.untold.extend(unfinished.untold)

    def models(self) -> Sequence[str]:
        """Names of the configured models."""
        return tuple(self.catalog.models)

    async def policies(self) -> Sequence[str]:
        """Versions of the policies that a request can name, the newest first."""
        return await asyncio.to_thread(
            self.ledger.read, lambda session: kept_versions(session, MAX_LISTED)
        )

    async def plan(self, request: ChatRequest) -> Plan:
        """Decide without running: every arm with its predictions and why it is out.

        An arm whose worst case could not be held even if all that is in flight cost nothing more
        is out; the cap that a client left open is not lowered here, as it may be for a request.
        """
        await self._prepare(request)
        choice = self._consider(self.exemplars.shown(request))
        status = await asyncio.to_thread(
            self.ledger.budget_status, self.clock(), scopes_for(request)
        )
        unspent = min((budget.unspent_nano_usd for budget in status), default=None)
        return (choice if unspent is None else choice.affordable(unspent)).plan()

    async def admit(self, request: ChatRequest | EmbedRequest, limits: RateLimits) -> Permit:
        """Count a request in the limits of its key; RateLimitedError where it comes too fast."""
        return await self.books.permits.admit(request, limits)

    async def let_go(self, request: ChatRequest | EmbedRequest) -> None:
        """End the permit of a request that used nothing."""
        await self.books.let_go(request)

    async def kept(self, work: Awaitable[T]) -> T:
        """Await ``work`` to its end even if the caller is cancelled meanwhile."""
        return await self.books.kept(work)

    async def answer(self, request: ChatRequest) -> Served:
        """Serve one request; the answer is in the ledger when this returns."""
        run = await self._begin(request)
        while True:
            try:
                answer = await run.lease.run(run.task)
            except BaseException as error:
                following = await self._runner.replaced(run, error)
                if following is None:
                    raise
                run = following
            else:
                return await self._runner.finish(run, answer)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Served, None]:
        """Serve one request piece by piece: chunks, then the served request after its commit.

        A plain call streams as the upstream does; any other strategy gives its answer whole. An
        arm that fails before it said anything is replaced by another.
        """
        run = await self._begin(request)
        while True:
            task, said = run.task, Said()
            try:
                if run.streams:
                    strategy = cast("Direct", run.offer.strategy)
                    async with aclosing(run.lease.meter().stream(strategy.request(task))) as chunks:
                        async for chunk in chunks:
                            for each in said.hear(chunk):
                                yield each
                    answer = strategy.answer(task, (said.sample,))
                    if not said.calls:
                        answer = with_format(task, answer)
                else:
                    answer = await run.lease.run(task)
                    said.begun = True
                    for chunk in whole_chunks(answer):
                        yield chunk
            except BaseException as error:
                following = await self._runner.replaced(run, error, begun=said.begun)
                if following is None:
                    raise
                run = following
            else:
                yield await self._runner.finish(run, answer)
                return

    def embedding_models(self) -> Sequence[str]:
        """Names of the configured embedding models."""
        return tuple(self.embedders)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Turn texts into vectors: held at their worst case, settled at what was used."""
        started_s = time.monotonic()
        try:
            run, entry_id = await self._hold_embedding(request)
        except BaseException:
            if request.permit is not None:
                await self.let_go(request)
            raise
        failure: BaseException | None = None
        try:
            vectors = await run.vectors(self.settings.request_timeout_s)
        except BaseException as error:
            failure = error
            raise
        finally:
            cancelled = isinstance(failure, asyncio.CancelledError)
            settle = run.settlement(entry_id, told(failure), cancelled=cancelled)
            settlement = await self.books.settle(settle, request, run.usage.prompt_tokens)
        return Embedded(
            request_id=request.request_id,
            model=request.model,
            vectors=vectors,
            usage=run.usage,
            cost_nano_usd=settlement.cost_nano_usd,
            overhead_s=max(0.0, time.monotonic() - started_s - run.latency_s),
        )

    async def _hold_embedding(self, request: EmbedRequest) -> tuple[EmbeddingRun, int]:
        """Give the call to make, and the entry under which its worst case is held."""
        run = embedding_run(self.embedders, request)
        asked = request.asked()
        try:
            entry = OpenEntry(asked, run.decision, run.worst_nano_usd)
            return run, await self.books.open(entry, self.settings.budget_wait_s)
        except BudgetExceededError as error:
            await self.books.refuse(Refusal(asked, str(error), arm=run.decision.arm, cause=error))
            raise

    async def feedback(self, request_id: str, grade: Grade, tenant: str) -> None:
        """Record a judgement; EntryNotFoundError for a request that ``tenant`` did not make."""
        await asyncio.to_thread(
            self.ledger.record_outcome, request_id, grade, self.clock(), tenant=tenant
        )

    async def ready(self) -> list[str]:
        """Name what keeps the service from serving; never a paid call."""
        try:
            await asyncio.to_thread(self.ledger.budget_status, self.clock())
        except LedgerError as error:
            return [str(error)]
        return []

    async def _begin(self, request: ChatRequest) -> Run:
        """Hold the worst case of a request; one that is refused gives its permit back."""
        asked_s = time.monotonic()
        try:
            await self._prepare(request)
            asked = self.asked(request)
            return await self._runner.begin(asked, self.exemplars.shown(request), asked_s)
        except BaseException:
            if request.permit is not None:
                await self.let_go(request)
            raise

    async def _prepare(self, request: ChatRequest) -> None:
        """Make the policy that a request names ready."""
        version = policy_named(request.model)
        if version is not None and not self.chooser.has(version):
            await asyncio.to_thread(self.chooser.fetch, self.ledger, version)

    def deployments(self) -> Sequence[DeploymentState]:
        """Say how the upstreams of the models do."""
        pools = (model.pool for model in self.catalog.models.values())
        return [state for pool in pools if pool is not None for state in pool.states()]

    def _consider(self, request: ChatRequest) -> Choice:
        now = self.clock()
        offered = offers(self.catalog.on(now.date()), request)
        choice = self.chooser.consider(request, offered, self._pace(request, now))
        if is_auto(request.model) and (down := self.catalog.down):
            return choice.reachable(down)
        return choice

    def _others(
        self, whole: ChatRequest, failures: Sequence[Failure]
    ) -> Iterable[tuple[ChatRequest, Consider]]:
        """Give what could serve a request after some arms failed it, the first choice first."""
        return alternatives(self.catalog, whole, failures, self._consider)

    def _take_up(self, now: datetime) -> None:
        """Take over what others put into the ledger; called in the heart's thread."""
        self.exemplars.follow(self.ledger, self.catalog, now)
        self.chooser.judges.follow(self.ledger, self.catalog, now)
        self.chooser.follow(self.ledger)

    def _pace(self, request: ChatRequest, now: datetime) -> Outlook | None:
        """Give what paces a request; what was spent is read again in the background, if due."""
        if self.pacer is None:
            return None
        if self.pacer.is_due():
            reading = asyncio.to_thread(self._read_spending, self.pacer)
            self.books.keep(asyncio.ensure_future(reading))
        return self.pacer.pace(scopes_for(request), now)

    def _read_spending(self, pacer: Pacer) -> None:
        """Read what paced budgets have spent; without the ledger the last figures stay."""
        try:
            pacer.refresh(self.ledger, self.clock())
        except LedgerError as error:
            LOG.warning("pacing goes on with older figures: %s", error)

    def asked(self, request: ChatRequest) -> Asked:
        """Give what the ledger keeps of a request."""
        query = Query(
            query_id=request.request_id,
            text=request.task.text,
            answer_kind=request.task.answer_kind,
            tenant=request.tenant,
            posing=str(request.task.posing),
        )
        conversation = None
        if self.settings.store_prompts:
            conversation = "\n\n".join(f"{m.role}: {m.text}" for m in request.task.messages)
        return Asked(
            query=query,
            model_asked=request.model,
            scopes=scopes_for(request),
            end_user=request.user,
            team=request.team,
            tags=request.tags,
            session=request.session,
            prompt_text=conversation,
            keep_query_text=self.settings.keep_query_text,
        )
