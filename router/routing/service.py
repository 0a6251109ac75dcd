"""The way of one query: offers, decision, hold, run, settle.

Money moves at two points only, both in a worker thread: the hold before the first upstream call,
and the settlement after the last one, which happens whatever became of the request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cost_models.errors import BudgetExceededError, RheostatError
from policies.errors import NoAffordableArmError
from policies.types import Query
from router.errors import ProviderError, RequestError, WebhookError
from router.providers.retries import RetryBudget
from router.routing.admission import Admission, Attempt
from router.routing.candidates import offers
from router.routing.fallbacks import Failure, alternatives
from router.routing.leases import Lease
from router.routing.runs import (
    CLIENT_LEFT,
    Run,
    Said,
    after,
    scopes_for,
    told,
    whole_chunks,
    with_failures,
)
from router.routing.types import AUTO, Served
from router.routing.webhook import event_of
from storage.errors import LedgerError, LedgerUnavailableError
from storage.ledger import Asked, OpenEntry, Refusal, SettleEntry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from policies.types import Decision
    from router.providers.deployments import DeploymentState
    from router.routing.catalog import Catalog
    from router.routing.chooser import Choice, Chooser
    from router.routing.types import ChatRequest, Plan
    from router.routing.webhook import Webhook
    from router.strategies.direct import Direct
    from router.types import Answer, Chunk
    from storage.alerts import Alert
    from storage.ledger import Settlement
    from storage.outcomes import Grade
    from storage.store import Ledger

T = TypeVar("T")
OPENING_LOST = "the ledger failed while the hold was written"
MAX_DOUBTFUL = 10_000
"""Openings without an answer to look for later. The first of an outage are kept: only what was
under way at its beginning can have been written."""

DOUBTFUL_AT_ONCE = 500
ROLL_UP_AT_ONCE = 60
"""Hours that one heartbeat rolls up at most: more are there after an upgrade only."""
LOG = logging.getLogger("rheostat.service")


def utc_now() -> datetime:
    """Tell the time: the service's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """``request_timeout_s`` bounds a request's upstream work from its hold on.

    Its calls that failed and cost nothing are tried again up to ``max_retries`` times in all, and
    when its arm fails, others serve it, up to ``max_fallbacks`` of them. One that would fit if what
    is in flight cost nothing more waits up to ``budget_wait_s``.

    The text of a query is kept for learning unless ``keep_query_text`` is False; the whole
    conversation only with ``store_prompts``. A replica says every ``heartbeat_s`` that it is
    alive; one that was silent for ``stale_after_s`` is dead.
    """

    request_timeout_s: float = 300.0
    budget_wait_s: float = 30.0
    max_retries: int = 2
    max_fallbacks: int = 2
    keep_query_text: bool = True
    store_prompts: bool = False
    heartbeat_s: float = 10.0
    stale_after_s: float = 60.0


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
    _settling: set[asyncio.Future[Any]] = field(default_factory=set, init=False)
    _unsettled: deque[SettleEntry] = field(default_factory=deque, init=False)
    _doubtful: deque[str] = field(default_factory=deque, init=False)
    _untold: deque[Alert] = field(default_factory=deque, init=False)
    _heart: asyncio.Task[None] | None = field(default=None, init=False)

    async def start(self) -> None:
        """Charge what dead replicas left open, load the policy in service, begin to beat."""
        await self._tend_and_tell()
        self._heart = asyncio.create_task(self._beat())

    async def aclose(self) -> None:
        """Wait for settlements under way, then close the models and the ledger."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait({self._heart})
        while self._settling:
            await asyncio.wait(self._settling)
        with suppress(LedgerError):
            await asyncio.to_thread(self._settle_again)
        for model in self.catalog.models.values():
            await model.provider.aclose()
        await asyncio.to_thread(self.ledger.close)

    def models(self) -> Sequence[str]:
        """Names of the configured models."""
        return tuple(self.catalog.models)

    async def plan(self, request: ChatRequest) -> Plan:
        """Decide without running: every arm with its predictions and why it is out.

        An arm whose worst case could not be held even if all that is in flight cost nothing more
        is out; the cap that a client left open is not lowered here, as it may be for a request.
        """
        choice = self._consider(request)
        status = await asyncio.to_thread(
            self.ledger.budget_status, self.clock(), scopes_for(request)
        )
        unspent = min((budget.unspent_nano_usd for budget in status), default=None)
        return (choice if unspent is None else choice.affordable(unspent)).plan()

    async def answer(self, request: ChatRequest) -> Served:
        """Serve one request; the answer is in the ledger when this returns."""
        run = await self._begin(request)
        while True:
            try:
                answer = await run.lease.run(run.task)
            except BaseException as error:
                following = await self._fall_back(run, error)
                if following is None:
                    raise
                run = following
            else:
                return await self._finish(run, answer)

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
                else:
                    answer = await run.lease.run(task)
                    said.begun = True
                    for chunk in whole_chunks(answer):
                        yield chunk
            except BaseException as error:
                following = await self._fall_back(run, error, begun=said.begun)
                if following is None:
                    raise
                run = following
            else:
                yield await self._finish(run, answer)
                return

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

    def deployments(self) -> Sequence[DeploymentState]:
        """Say how the upstreams of the models do."""
        pools = (model.pool for model in self.catalog.models.values())
        return [state for pool in pools if pool is not None for state in pool.states()]

    def _consider(self, request: ChatRequest) -> Choice:
        today = self.clock().date()
        choice = self.chooser.consider(request, offers(self.catalog.on(today), request))
        if request.model == AUTO and (down := self.catalog.down):
            return choice.reachable(down)
        return choice

    async def _begin(self, request: ChatRequest) -> Run:
        """Choose an arm whose worst case fits every budget and hold it, or refuse the request.

        What does not fit is tried again as `router.routing.admission` says, until it fits, waits in
        vain, or cannot be served.
        """
        asked_s = time.monotonic()
        asked = self._asked(request)
        whole = Attempt(request, self._consider(request))
        admission = Admission(self._consider, whole, self.settings.budget_wait_s)
        try:
            attempt, decision, entry_id = await self._admit(admission, asked)
        except NoAffordableArmError as error:
            await self._refuse(Refusal(asked, str(error)))
            raise
        offer = attempt.choice.offer(decision.arm)
        deadline = time.monotonic() + self.settings.request_timeout_s
        lease = Lease(offer, deadline, RetryBudget(self.settings.max_retries))
        return Run(
            asked,
            request,
            attempt.request,
            entry_id,
            offer,
            decision,
            lease,
            asked_s=asked_s,
            started_s=asked_s,
        )

    async def _admit(
        self, admission: Admission, asked: Asked, failures: Sequence[Failure] = ()
    ) -> tuple[Attempt, Decision, int]:
        """Hold the worst case of the arm that is chosen; give it with the entry's id.

        A first attempt that no budget takes is written down as refused. Raises
        NoAffordableArmError, RequestError and BudgetExceededError.
        """
        attempt = admission.whole
        while True:
            decision = attempt.choice.decide()
            if failures:
                decision = after(decision, failures)
            offer = attempt.choice.offer(decision.arm)
            entry = OpenEntry(asked, decision, offer.worst_case_nano_usd)
            try:
                return attempt, decision, await self._open(entry, attempt.wait_s)
            except BudgetExceededError as error:
                following = admission.after(attempt, offer, error)
                if following is None:
                    if not failures:
                        refusal = Refusal(asked, str(error), arm=decision.arm, cause=error)
                        await self._refuse(refusal)
                    raise
                attempt = following

    async def _fall_back(
        self, run: Run, error: BaseException, *, begun: bool = False
    ) -> Run | None:
        """Settle an attempt that failed and begin the next one; None where there is none to try.

        Only upstreams that failed are replaced, before anything was said, within the request's
        time, its own cap and every budget.
        """
        settlement = await self._settle(run, None, error)
        may = isinstance(error, ProviderError) and not begun and not run.lease.is_over
        if not may or len(run.failures) >= self.settings.max_fallbacks:
            return None
        failed = Failure(run.decision.arm, str(error), settlement.cost_nano_usd, run.lease)
        failures = (*run.failures, failed)
        for request, consider in alternatives(self.catalog, run.whole, failures, self._consider):
            admission = Admission(consider, Attempt(request, consider(request)), 0.0)
            try:
                attempt, decision, entry_id = await self._admit(admission, run.asked, failures)
            except (NoAffordableArmError, RequestError, BudgetExceededError):
                continue
            offer = attempt.choice.offer(decision.arm)
            return replace(
                run,
                request=attempt.request,
                entry_id=entry_id,
                offer=offer,
                decision=decision,
                lease=run.lease.another(offer),
                started_s=time.monotonic(),
                failures=failures,
            )
        return None

    async def _open(self, entry: OpenEntry, wait_s: float) -> int:
        """Hold an entry's worst case; one whose client leaves meanwhile is given back."""
        opening = self.ledger.opening(entry, self.clock(), wait_s)
        opened = asyncio.wrap_future(opening.future)
        try:
            return await asyncio.shield(opened)
        except LedgerUnavailableError:
            if len(self._doubtful) < MAX_DOUBTFUL:
                self._doubtful.append(entry.asked.query.query_id)
            raise
        except asyncio.CancelledError:
            self.ledger.withdraw(opening)
            self._keep(asyncio.ensure_future(self._undo(opened)))
            raise

    async def _refuse(self, refusal: Refusal) -> None:
        """Write a refusal down; a ledger that cannot take it does not change what is answered."""
        try:
            await self._kept(asyncio.wrap_future(self.ledger.refusing(refusal, self.clock())))
        except LedgerError as error:
            LOG.warning("a refusal was not written to the ledger: %s", error)

    def _asked(self, request: ChatRequest) -> Asked:
        query = Query(
            query_id=request.request_id,
            text=request.task.text,
            answer_kind=request.task.answer_kind,
            tenant=request.tenant,
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

    async def _finish(self, run: Run, answer: Answer) -> Served:
        now_s = time.monotonic()
        settlement = await self._settle(run, answer, None)
        self.chooser.observe(run.decision.arm, now_s - run.started_s)
        served = Served(
            request_id=run.request.request_id,
            decision=run.decision,
            answer=answer,
            usage=run.lease.usage,
            cost_nano_usd=settlement.cost_nano_usd,
            latency_s=now_s - run.asked_s,
            overhead_s=max(0.0, time.monotonic() - run.asked_s - run.lease.upstream_s),
            calls=run.lease.calls,
            attempts=run.lease.attempts,
        )
        return with_failures(served, run.failures) if run.failures else served

    async def _settle(
        self, run: Run, answer: Answer | None, error: BaseException | None
    ) -> Settlement:
        """Write what the run used and free the rest; goes on in the background if cancelled."""
        settle = SettleEntry(
            entry_id=run.entry_id,
            calls=run.lease.ledger_calls(),
            attempts=run.lease.ledger_attempts(),
            latency_s=time.monotonic() - run.started_s,
            answer_value=answer.value if answer else None,
            confidence=answer.confidence if answer else None,
            complete=answer.complete if answer else False,
            error=told(error),
        )
        return await self._kept(self._write(settle))

    async def _write(self, settle: SettleEntry) -> Settlement:
        """Settle an entry, or keep it for later if the ledger cannot take it now."""
        try:
            return await asyncio.wrap_future(self.ledger.settling(settle, self.clock()))
        except LedgerUnavailableError as error:
            LOG.warning("entry %d is not settled yet: %s", settle.entry_id, error)
            self._unsettled.append(settle)
            raise

    def _settle_again(self) -> None:
        """Settle what the ledger could not take; LedgerUnavailableError if it still cannot."""
        while self._unsettled:
            try:
                self.ledger.settle(self._unsettled[0], self.clock())
            except LedgerUnavailableError:
                raise
            except RheostatError as error:
                LOG.warning("entry %d stays open: %s", self._unsettled[0].entry_id, error)
            self._unsettled.popleft()

    def _close_doubtful(self) -> None:
        """Settle at nothing what was opened after all though the ledger failed to say so."""
        while self._doubtful:
            some = [self._doubtful[i] for i in range(min(len(self._doubtful), DOUBTFUL_AT_ONCE))]
            for entry_id in self.ledger.find_open(some):
                lost = SettleEntry(entry_id, (), 0.0, complete=False, error=OPENING_LOST)
                self.ledger.settle(lost, self.clock())
            for _ in some:
                self._doubtful.popleft()

    async def _undo(self, opening: asyncio.Future[int]) -> None:
        """Settle at nothing an entry whose client left while its hold was being written."""
        with suppress(RheostatError):
            entry_id = await opening
            settle = SettleEntry(entry_id, (), 0.0, complete=False, error=CLIENT_LEFT)
            await self._write(settle)

    async def _kept(self, work: Awaitable[T]) -> T:
        """Await ``work`` to its end even if the caller is cancelled meanwhile."""
        return await asyncio.shield(self._keep(asyncio.ensure_future(work)))

    def _keep(self, work: asyncio.Future[T]) -> asyncio.Future[T]:
        self._settling.add(work)
        work.add_done_callback(self._done)
        return work

    def _done(self, work: asyncio.Future[T]) -> None:
        """Let go of work that has ended; whoever awaited it may be gone, with its error unread."""
        self._settling.discard(work)
        if not work.cancelled():
            work.exception()

    async def _beat(self) -> None:
        """Beat until cancelled: an error that ended this would let others take us for dead."""
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            try:
                await self._kept(self._tend_and_tell())
            except RheostatError as error:
                LOG.warning("the heartbeat met an error: %s", error)

    async def _tend_and_tell(self) -> None:
        """Tend, then send what was passed, in the background: a slow receiver stops no beat."""
        try:
            await asyncio.to_thread(self._tend)
        finally:
            while self._untold:
                alert = self._untold.popleft()
                if self.webhook is not None:
                    self._keep(asyncio.ensure_future(self._send(self.webhook, alert)))

    async def _send(self, webhook: Webhook, alert: Alert) -> None:
        """Send an alert; one that cannot be delivered is in the log all the same."""
        try:
            await webhook.send(event_of(alert), self.clock())
        except WebhookError as error:
            LOG.warning("an alert was not delivered: %s", error)

    def _tend(self) -> None:
        """Say that we live, charge for dead ones, tell of thresholds, roll up, follow policies."""
        now = self.clock()
        self.ledger.beat(now)
        self._settle_again()
        self._close_doubtful()
        for entry in self.ledger.recover(now, self.settings.stale_after_s):
            LOG.warning(
                "request %s was left open by a dead process; charged %d nano-USD, in doubt",
                entry.request_id,
                entry.charged_nano_usd,
            )
        for alert in self.ledger.alerts(now):
            LOG.warning("%s", alert)
            self._untold.append(alert)
        self.ledger.roll_up(now, ROLL_UP_AT_ONCE)
        done = self.ledger.judge_trial(now)
        if done is not None:
            LOG.warning("%s", done)
        self.chooser.follow(self.ledger)
