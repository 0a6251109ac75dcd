"""From a request to a run, from a run to the next where it failed, and to the served request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cost_models.errors import BudgetExceededError
from policies.errors import NoAffordableArmError
from router.errors import ProviderError, RequestError
from router.providers.retries import RetryBudget
from router.routing.admission import Admission, Attempt
from router.routing.fallbacks import Failure
from router.routing.leases import Lease
from router.routing.output_sizes import OutputSizes
from router.routing.runs import Run, after, told, with_failures
from router.routing.types import Served
from storage.ledger import OpenEntry, Refusal, SettleEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cost_models.types import Arm
    from policies.types import Decision
    from router.routing.books import Books
    from router.routing.chooser import Choice
    from router.routing.settings import ServiceSettings
    from router.routing.types import ChatRequest
    from router.types import Answer
    from storage.ledger import Asked, Settlement

    Consider = Callable[[ChatRequest], Choice]
    Others = Callable[[ChatRequest, Sequence[Failure]], Iterable[tuple[ChatRequest, Consider]]]


@dataclass(slots=True)
class Runner:
    """Begins, replaces and ends runs; money is held before each and settled after it.

    ``consider`` forecasts what a request could be served with, ``others`` gives what could
    take the place of attempts that failed, and ``observe`` hears how long an arm took.
    """

    books: Books
    settings: ServiceSettings
    consider: Consider
    others: Others
    observe: Callable[[Arm, float], None]
    _sizes: OutputSizes = field(default_factory=OutputSizes, init=False)

    async def begin(self, asked: Asked, request: ChatRequest, asked_s: float) -> Run:
        """Choose an arm whose worst case fits every budget and hold it, or refuse the request.

        What does not fit is tried again as `router.routing.admission` says, until it fits, waits in
        vain, or cannot be served. ``asked_s`` of `time.monotonic` is when it came.
        """
        whole = Attempt(request, self.consider(request))
        wait_s, usual_cap = self.settings.budget_wait_s, self._sizes.usual_cap
        admission = Admission(self.consider, whole, wait_s, usual_cap)
        try:
            attempt, decision, entry_id = await self._admit(admission, asked)
        except NoAffordableArmError as error:
            await self.books.refuse(Refusal(asked, str(error)))
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

    async def replaced(self, run: Run, error: BaseException, *, begun: bool = False) -> Run | None:
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
                await self.books.let_go(run.request, run.used_tokens)
        return following

    async def finish(self, run: Run, answer: Answer) -> Served:
        """Settle a run that has its answer."""
        now_s = time.monotonic()
        settlement = await self._settle(run, answer, None)
        self.observe(run.decision.arm, now_s - run.started_s)
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
                return attempt, decision, await self.books.open(entry, attempt.wait_s)
            except BudgetExceededError as error:
                following = admission.after(attempt, offer, error)
                if following is None:
                    if not failures:
                        refusal = Refusal(asked, str(error), arm=decision.arm, cause=error)
                        await self.books.refuse(refusal)
                    raise
                attempt = following

    async def _another(self, run: Run, failures: tuple[Failure, ...]) -> Run | None:
        """Begin the attempt after ``failures``; None where no arm is left that fits."""
        for request, consider in self.others(run.whole, failures):
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
        return await self.books.settle(settle, run.request, run.used_tokens if ends else None)
