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
from typing import TYPE_CHECKING, Any, TypeVar

from cost_models.errors import BudgetExceededError, RheostatError
from policies.errors import NoAffordableArmError
from policies.types import Query
from router.errors import WebhookError
from router.routing.admission import Admission, Attempt
from router.routing.candidates import offers
from router.routing.embeddings import Embedded, embedding_run
from router.routing.exemplars import Exemplars
from router.routing.leases import Lease
from router.routing.output_sizes import OutputSizes
from router.routing.permits import Permits
from router.routing.scopes import scopes_of
from router.routing.types import Served, policy_named
from router.routing.webhook import event_of
from router.strategies.direct import Direct
from router.types import Answer, Chunk, Sample
from router.verifiers.response_format import with_format
from storage.errors import LedgerBusyError, LedgerError, LedgerUnavailableError
from storage.ledger import Asked, OpenEntry, Refusal, SettleEntry
from storage.policies import kept_versions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from cost_models.rates import RateLimits
    from cost_models.types import Usage
    from policies.types import Decision
    from router.routing.candidates import Offer
    from router.routing.catalog import Catalog
    from router.routing.chooser import Choice, Chooser
    from router.routing.embeddings import EmbeddingModel, EmbeddingRun, EmbedRequest
    from router.routing.pacing import Pacer
    from router.routing.types import ChatRequest, Plan
    from router.routing.webhook import Webhook
    from router.types import Task
    from storage.alerts import Alert
    from storage.forecasts import Outlook
    from storage.ledger import Settlement
    from storage.outcomes import Grade
    from storage.rates import Permit
    from storage.store import Ledger

T = TypeVar("T")
CLIENT_LEFT = "the client left"
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

    A request that would fit if what is in flight cost nothing more waits up to ``budget_wait_s``.
    The text of a query is kept for learning unless ``keep_query_text`` is False; the whole
    conversation only with ``store_prompts``. A replica says every ``heartbeat_s`` that it is
    alive; one that was silent for ``stale_after_s`` is dead.
    """

    request_timeout_s: float = 300.0
    budget_wait_s: float = 30.0
    keep_query_text: bool = True
    store_prompts: bool = False
    heartbeat_s: float = 10.0
    stale_after_s: float = 60.0


@dataclass(slots=True)
class _Run:
    """One request between its hold and its settlement."""

    request: ChatRequest
    entry_id: int
    offer: Offer
    decision: Decision
    lease: Lease
    started_s: float

    @property
    def task(self) -> Task:
        """The task, with what was predicted of it."""
        return replace(self.request.task, difficulty=self.decision.difficulty)


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

    def __post_init__(self) -> None:
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
        status = await asyncio.to_thread(self.ledger.budget_status, self.clock(), _scopes(request))
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
        try:
            answer = await run.lease.run(run.task)
        except BaseException as error:
            await self._settle(run, None, error)
            raise
        return await self._finish(run, answer)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Served, None]:
        """Serve one request piece by piece: chunks, then the served request after its commit.

        A plain call streams as the upstream does; any other strategy gives its answer whole.
        """
        run = await self._begin(request)
        strategy, task = run.offer.strategy, run.task
        try:
            if not run.offer.stages and isinstance(strategy, Direct) and task.n == 1:
                text, refusal, finish_reason, calls = "", "", "stop", False
                async with aclosing(run.lease.meter().stream(strategy.request(task))) as chunks:
                    async for chunk in chunks:
                        text += str(chunk.delta.get("content") or "")
                        refusal += str(chunk.delta.get("refusal") or "")
                        calls = calls or bool(chunk.delta.get("tool_calls"))
                        finish_reason = chunk.finish_reason or finish_reason
                        yield chunk
                said = Sample(text, finish_reason, refusal=refusal or None)
                answer = strategy.answer(task, (said,))
                if not calls:
                    answer = with_format(task, answer)
            else:
                answer = await run.lease.run(task)
                for chunk in whole_chunks(answer):
                    yield chunk
        except BaseException as error:
            await self._settle(run, None, error)
            raise
        yield await self._finish(run, answer)

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
            settle = run.settlement(entry_id, _told(failure), cancelled=cancelled)
            settlement = await self.kept(self._write(settle, self._ended(request, run.usage)))
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

    def _consider(self, request: ChatRequest) -> Choice:
        now = self.clock()
        offered = offers(self.catalog.on(now.date()), request)
        return self.chooser.consider(request, offered, self._pace(request, now))

    def _pace(self, request: ChatRequest, now: datetime) -> Outlook | None:
        """Give what paces a request; what was spent is read again in the background, if due."""
        if self.pacer is None:
            return None
        if self.pacer.is_due():
            reading = asyncio.to_thread(self._read_spending, self.pacer)
            self._keep(asyncio.ensure_future(reading))
        return self.pacer.pace(_scopes(request), now)

    def _read_spending(self, pacer: Pacer) -> None:
        """Read what paced budgets have spent; without the ledger the last figures stay."""
        try:
            pacer.refresh(self.ledger, self.clock())
        except LedgerError as error:
            LOG.warning("pacing goes on with older figures: %s", error)

    async def _begin(self, request: ChatRequest) -> _Run:
        """Hold the worst case of a request; one that is refused gives its permit back."""
        try:
            return await self._admit_to_budgets(request)
        except BaseException:
            if request.permit is not None:
                await self.let_go(request)
            raise

    async def _admit_to_budgets(self, request: ChatRequest) -> _Run:
        """Choose an arm whose worst case fits every budget and hold it, or refuse the request.

        What does not fit is tried again as `router.routing.admission` says, until it fits, waits in
        vain, or cannot be served.
        """
        started_s = time.monotonic()
        await self._prepare(request)
        asked = self.asked(request)
        request = self.exemplars.shown(request)
        attempt = Attempt(request, self._consider(request))
        wait_s, usual_cap = self.settings.budget_wait_s, self._sizes.usual_cap
        admission = Admission(self._consider, attempt, wait_s, usual_cap)
        while True:
            try:
                decision = attempt.choice.decide()
            except NoAffordableArmError as error:
                await self._refuse(Refusal(asked, str(error)))
                raise
            offer = attempt.choice.offer(decision.arm)
            entry = OpenEntry(asked, decision, offer.worst_case_nano_usd)
            try:
                entry_id = await self._open(entry, attempt.wait_s)
            except BudgetExceededError as error:
                following = admission.after(attempt, offer, error)
                if following is None:
                    await self._refuse(Refusal(asked, str(error), arm=decision.arm, cause=error))
                    raise
                attempt = following
            else:
                lease = Lease(offer, time.monotonic() + self.settings.request_timeout_s)
                return _Run(attempt.request, entry_id, offer, decision, lease, started_s)

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
            scopes=_scopes(request),
            end_user=request.user,
            team=request.team,
            tags=request.tags,
            session=request.session,
            prompt_text=conversation,
            keep_query_text=self.settings.keep_query_text,
        )

    async def _finish(self, run: _Run, answer: Answer) -> Served:
        latency_s = time.monotonic() - run.started_s
        settlement = await self._settle(run, answer, None)
        self.chooser.observe(run.decision.arm, latency_s)
        self._sizes.observe(run.decision.arm, run.request, answer, run.lease.calls)
        return Served(
            request_id=run.request.request_id,
            decision=run.decision,
            answer=answer,
            usage=run.lease.usage,
            cost_nano_usd=settlement.cost_nano_usd,
            latency_s=latency_s,
            overhead_s=max(0.0, time.monotonic() - run.started_s - run.lease.upstream_s),
            calls=run.lease.calls,
            attempts=run.lease.attempts,
        )

    async def _settle(
        self, run: _Run, answer: Answer | None, error: BaseException | None
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
            error=_told(error),
        )
        ended = self._ended(run.request, run.lease.usage)
        return await self.kept(self._write(settle, ended))

    def _ended(
        self, request: ChatRequest | EmbedRequest, usage: Usage
    ) -> tuple[Permit, int] | None:
        """Give the permit that ends with a request, and the tokens that it used."""
        permit = self._permits.take_out(request)
        return None if permit is None else (permit, usage.prompt_tokens + usage.completion_tokens)

    async def _write(
        self, settle: SettleEntry, ended: tuple[Permit, int] | None = None
    ) -> Settlement:
        """Settle an entry, or keep it for later if the ledger cannot take it now.

        A ledger that is only busy is asked again: the answer is there, and was paid for.
        """
        try:
            for _ in range(BUSY_SETTLEMENTS):
                with suppress(LedgerBusyError):
                    settling = self.ledger.settling(settle, self.clock(), ended)
                    return await asyncio.wrap_future(settling)
                await asyncio.sleep(BUSY_PAUSE_S)
            return await asyncio.wrap_future(self.ledger.settling(settle, self.clock(), ended))
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


def _scopes(request: ChatRequest) -> tuple[str, ...]:
    return scopes_of(
        request.tenant,
        request.user,
        team=request.team,
        tags=request.tags,
        session=request.session,
    )


def whole_chunks(answer: Answer) -> tuple[Chunk, ...]:
    """Give a finished answer as the chunks of a stream."""
    (shown,) = answer.choices[:1] or (Sample(answer.text),)
    said: dict[str, Any] = {"content": answer.text}
    if shown.refusal:
        said = {"refusal": shown.refusal}
    elif shown.tool_calls:
        said = {"tool_calls": list(shown.tool_calls)}
        said |= {"content": answer.text} if answer.text else {}
    if shown.reasoning:
        said["reasoning_content"] = shown.reasoning
    return (
        Chunk({"role": "assistant", "content": ""}),
        Chunk(said, logprobs=shown.logprobs),
        Chunk({}, finish_reason=answer.finish_reason),
    )


def _told(error: BaseException | None) -> str | None:
    """Say why there is no answer: our own words, or only the kind of a foreign error."""
    if error is None:
        return None
    if isinstance(error, RheostatError):
        return str(error)
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return CLIENT_LEFT
    return type(error).__name__
