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
from router.routing.embeddings import Embedded, embedding_run
from router.routing.exemplars import Exemplars
from router.routing.fallbacks import Failure, alternatives
from router.routing.leases import Lease
from router.routing.outbox import Outbox
from router.routing.output_sizes import OutputSizes
from router.routing.permits import Permits
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
from router.routing.types import Served, is_auto, policy_named
from router.routing.webhook import event_of
from router.verifiers.response_format import with_format
from storage.errors import LedgerBusyError, LedgerError, LedgerUnavailableError
from storage.ledger import Asked, OpenEntry, Refusal, SettleEntry
from storage.policies import kept_versions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from cost_models.rates import RateLimits
    from policies.types import Decision
    from router.providers.deployments import DeploymentState
    from router.routing.catalog import Catalog
    from router.routing.chooser import Choice, Chooser
    from router.routing.embeddings import EmbeddingModel, EmbeddingRun, EmbedRequest
    from router.routing.pacing import Pacer
    from router.routing.types import ChatRequest, Plan
    from router.routing.webhook import Webhook
    from router.strategies.direct import Direct
    from router.types import Answer, Chunk
    from storage.alerts import Alert
    from storage.forecasts import Outlook
    from storage.ledger import Settlement
    from storage.outcomes import Grade
    from storage.rates import Permit
    from storage.store import Ledger

T = TypeVar("T")
OPENING_LOST = "the ledger failed while the hold was written"
MAX_DOUBTFUL = 10_000
"""Openings without an answer to look for later. The first of an outage are kept: only what was
under way at its beginning can have been written."""

DOUBTFUL_AT_ONCE = 500
BUSY_SETTLEMENTS = 2
BUSY_PAUSE_S = 0.1
"""How often a settlement is tried again at once where others keep the ledger locked, and when."""

ROLL_UP_AT_ONCE = 60
"""Hours that one heartbeat rolls up at most: more are there after an upgrade only."""
MAX_LISTED = 50
"""Policies that are listed as models; older ones can be named all the same."""

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
    _sizes: OutputSizes = field(default_factory=OutputSizes, init=False)
    _settling: set[asyncio.Future[Any]] = field(default_factory=set, init=False)
    _unsettled: deque[SettleEntry] = field(default_factory=deque, init=False)
    _doubtful: deque[str] = field(default_factory=deque, init=False)
    _untold: deque[Alert] = field(default_factory=deque, init=False)
    _heart: asyncio.Task[None] | None = field(default=None, init=False)
    _permits: Permits = field(init=False)
    _outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self._outbox = Outbox(self.ledger)
        self._permits = Permits(self.ledger, self.clock, self.settings.stale_after_s)

    async def start(self) -> None:
        """Charge what dead replicas left open, load the policy in service, begin to beat."""
        await self._tend_and_tell()
        if self.pacer is not None:
            await asyncio.to_thread(self._read_spending, self.pacer)
        self._heart = asyncio.create_task(self._beat())

    async def aclose(self) -> None:
        """Wait for settlements under way, then close the models and the ledger."""
        await self.retire()
        await asyncio.to_thread(self.ledger.close)

    async def retire(self) -> Unfinished:
        """Wait for settlements under way and close the models; give what the ledger lacks still.

        The ledger stays open, for the service that takes this one's place.
        """
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait({self._heart})
        while self._settling:
            await asyncio.wait(self._settling)
        with suppress(LedgerError):
            await asyncio.to_thread(self._settle_again)
        for model in self.catalog.models.values():
            await model.provider.aclose()
        for embedding in self.embedders.values():
            await embedding.embedder.aclose()
        return Unfinished(tuple(self._unsettled), tuple(self._doubtful), tuple(self._untold))

    def follow(self, before: RoutingService) -> None:
        """Take the place of another service of the same ledger: whom it let in may end here."""
        self._permits = before._permits

    def take_over(self, unfinished: Unfinished) -> None:
        """Go on with what another service of the same ledger could not end."""
        self._unsettled.extend(unfinished.unsettled)
        self._doubtful.extend(unfinished.doubtful)
        self._untold.extend(unfinished.untold)

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
        return await self._permits.admit(request, limits)

    async def let_go(self, request: ChatRequest | EmbedRequest) -> None:
        """End the permit of a request that used nothing."""
        await self.kept(self._permits.end(request))

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
                    if not said.calls:
                        answer = with_format(task, answer)
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
            settlement = await self.kept(
                self._write(settle, self._ended(request, run.usage.prompt_tokens))
            )
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
            return run, await self._open(entry, self.settings.budget_wait_s)
        except BudgetExceededError as error:
            await self._refuse(Refusal(asked, str(error), arm=run.decision.arm, cause=error))
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

    def _pace(self, request: ChatRequest, now: datetime) -> Outlook | None:
        """Give what paces a request; what was spent is read again in the background, if due."""
        if self.pacer is None:
            return None
        if self.pacer.is_due():
            reading = asyncio.to_thread(self._read_spending, self.pacer)
            self._keep(asyncio.ensure_future(reading))
        return self.pacer.pace(scopes_for(request), now)

    def _read_spending(self, pacer: Pacer) -> None:
        """Read what paced budgets have spent; without the ledger the last figures stay."""
        try:
            pacer.refresh(self.ledger, self.clock())
        except LedgerError as error:
            LOG.warning("pacing goes on with older figures: %s", error)

    async def _begin(self, request: ChatRequest) -> Run:
        """Hold the worst case of a request; one that is refused gives its permit back."""
        try:
            return await self._admit_to_budgets(request)
        except BaseException:
            if request.permit is not None:
                await self.let_go(request)
            raise

    async def _admit_to_budgets(self, request: ChatRequest) -> Run:
        """Choose an arm whose worst case fits every budget and hold it, or refuse the request.

        What does not fit is tried again as `router.routing.admission` says, until it fits, waits in
        vain, or cannot be served.
        """
        asked_s = time.monotonic()
        await self._prepare(request)
        asked = self.asked(request)
        request = self.exemplars.shown(request)
        whole = Attempt(request, self._consider(request))
        wait_s, usual_cap = self.settings.budget_wait_s, self._sizes.usual_cap
        admission = Admission(self._consider, whole, wait_s, usual_cap)
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
        may = (
            isinstance(error, ProviderError)
            and not begun
            and not run.lease.is_over
            and len(run.failures) < self.settings.max_fallbacks
        )
        settlement = await self._settle(run, None, error, ends=not may)
        if not may:
            return None
        failed = Failure(run.decision.arm, str(error), settlement.cost_nano_usd, run.lease)
        following = None
        try:
            following = await self._another(run, (*run.failures, failed))
        finally:
            if following is None:
                await self.kept(self._permits.end(run.request, run.used_tokens))
        return following

    async def _another(self, run: Run, failures: tuple[Failure, ...]) -> Run | None:
        """Begin the attempt after ``failures``; None where no arm is left that fits."""
        for request, consider in alternatives(self.catalog, run.whole, failures, self._consider):
            admission = Admission(
                consider, Attempt(request, consider(request)), 0.0, self._sizes.usual_cap
            )
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
        opening = self.ledger.to_open(entry, self.clock(), wait_s)
        opened = self._outbox.send(opening)
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
            await self.kept(asyncio.wrap_future(self.ledger.refusing(refusal, self.clock())))
        except LedgerError as error:
            LOG.warning("a refusal was not written to the ledger: %s", error)

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

    async def _finish(self, run: Run, answer: Answer) -> Served:
        now_s = time.monotonic()
        settlement = await self._settle(run, answer, None)
        self.chooser.observe(run.decision.arm, now_s - run.started_s)
        self._sizes.observe(run.decision.arm, run.request, answer, run.lease.calls)
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
        self, run: Run, answer: Answer | None, error: BaseException | None, *, ends: bool = True
    ) -> Settlement:
        """Write what the run used and free the rest; goes on in the background if cancelled.

        With it the request ends, unless another attempt may follow.
        """
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
        ended = self._ended(run.request, run.used_tokens) if ends else None
        return await self.kept(self._write(settle, ended))

    def _ended(
        self, request: ChatRequest | EmbedRequest, n_tokens: int
    ) -> tuple[Permit, int] | None:
        """Give the permit that ends with a request, and the tokens that it used."""
        permit = self._permits.take_out(request)
        return None if permit is None else (permit, n_tokens)

    async def _write(
        self, settle: SettleEntry, ended: tuple[Permit, int] | None = None
    ) -> Settlement:
        """Settle an entry, or keep it for later if the ledger cannot take it now.

        A ledger that is only busy is asked again: the answer is there, and was paid for.
        """
        try:
            for _ in range(BUSY_SETTLEMENTS):
                with suppress(LedgerBusyError):
                    return await self._sent(settle, ended)
                await asyncio.sleep(BUSY_PAUSE_S)
            return await self._sent(settle, ended)
        except LedgerUnavailableError as error:
            LOG.warning("entry %d is not settled yet: %s", settle.entry_id, error)
            self._unsettled.append(settle)
            raise

    def _sent(
        self, settle: SettleEntry, ended: tuple[Permit, int] | None
    ) -> asyncio.Future[Settlement]:
        return self._outbox.send(*self.ledger.to_settle(settle, self.clock(), ended))

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

    async def kept(self, work: Awaitable[T]) -> T:
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
                await self.kept(self._tend_and_tell())
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
        """Say that we live, charge for dead ones, tell of thresholds, roll up, follow others."""
        now = self.clock()
        self.ledger.beat(now)
        self._settle_again()
        self._close_doubtful()
        self._permits.tend()
        for entry in self.ledger.recover(now, self.settings.stale_after_s):
            LOG.warning(
                "request %s was left open by a dead process; charged %d nano-USD, in doubt",
                entry.request_id,
                entry.charged_nano_usd,
            )
        for alert in self.ledger.alerts(now, {} if self.pacer is None else self.pacer.paced):
            LOG.warning("%s", alert)
            self._untold.append(alert)
        self.ledger.roll_up(now, ROLL_UP_AT_ONCE)
        self.ledger.forget_answers(now)
        done = self.ledger.judge_trial(now)
        if done is not None:
            LOG.warning("%s", done)
        self.exemplars.follow(self.ledger, self.catalog, now)
        self.chooser.judges.follow(self.ledger, self.catalog, now)
        self.chooser.follow(self.ledger)
