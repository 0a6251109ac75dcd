"""What a held request may use: a meter, or one for each stage of a cascade within one hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cost_models.types import Usage
from router.providers.metered import Allowance, Meter
from router.strategies.cascade import CascadeRun
from router.verifiers.response_format import with_format
from storage.ledger import Attempted, Call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.providers.retries import RetryBudget
    from router.routing.candidates import Offer
    from router.routing.catalog import Model
    from router.strategies.cascade import Attempt
    from router.types import Answer, CallRecord, Task


def ledger_call(call: CallRecord, vendor: str, stage: int = 0) -> Call:
    """Give a call as the ledger keeps it; ``vendor`` was asked where the record says nobody."""
    return Call(
        model=call.model,
        role=call.role.value,
        usage=call.usage,
        cost_nano_usd=call.cost_nano_usd,
        latency_s=call.latency_s,
        price_source=_price_source(call),
        status=call.status,
        in_doubt=call.in_doubt,
        error=call.error,
        stage=stage,
        provider=call.vendor or vendor,
    )


class Lease:
    """The right to spend what is held for ``offer`` until ``deadline`` of ``time.monotonic``.

    Each stage of a cascade gets what the stages before it left. All calls together are tried again
    as often as ``retries`` says.
    """

    def __init__(self, offer: Offer, deadline: float, retries: RetryBudget | None = None) -> None:
        self._offer = offer
        self._deadline = deadline
        self._retries = retries
        self._meters: list[Meter] = []
        self._cascade = None if offer.escalation is None else CascadeRun(offer.escalation)

    async def run(self, task: Task) -> Answer:
        """Answer the task as the offer says."""
        if self._cascade is not None:
            return with_format(task, await self._cascade.run(task, self._samplers()))
        return with_format(task, await self._offer.strategy.run(task, self.meter()))

    def meter(self) -> Meter:
        """Give the meter of the whole offer, for one that is no cascade."""
        return next(self._samplers())

    @property
    def is_over(self) -> bool:
        """Whether its time has passed."""
        return time.monotonic() >= self._deadline

    def another(self, offer: Offer) -> Lease:
        """Give the right to spend what is held for another offer, in the time that is left."""
        return Lease(offer, self._deadline, self._retries)

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """Every call, stage by stage."""
        return tuple(call for meter in self._meters for call in meter.calls)

    @property
    def usage(self) -> Usage:
        """Sum over ``calls``."""
        return Usage.total(meter.usage for meter in self._meters)

    @property
    def upstream_s(self) -> float:
        """Seconds in which at least one call was in flight."""
        return sum(meter.upstream_s for meter in self._meters)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The stages of a cascade that were begun."""
        return () if self._cascade is None else tuple(self._cascade.attempts)

    def ledger_calls(self) -> tuple[Call, ...]:
        """Give the calls as the ledger keeps them, each with its stage and the price it was at."""
        return tuple(
            ledger_call(call, offer.model.vendor, stage)
            for stage, (offer, meter) in enumerate(
                zip(self._offer.parts, self._meters, strict=False)
            )
            for call in meter.calls
        )

    def ledger_attempts(self) -> tuple[Attempted, ...]:
        """Give the stages of a cascade as the ledger keeps them."""
        cascade = self._cascade
        if cascade is None:
            return ()
        return tuple(
            Attempted(
                arm=attempt.arm,
                judge=cascade.escalation.judge,
                latency_s=attempt.latency_s,
                answer_value=attempt.answer.value if attempt.answer else None,
                confidence=attempt.answer.confidence if attempt.answer else None,
                trust=attempt.trust,
                trusted=cascade.trusted(attempt),
                error=attempt.error,
            )
            for attempt in self.attempts
        )

    def _hedge_after_s(self, model: Model) -> float | None:
        """When to ask a second time; never where the request's own cap cut what that needs."""
        offer = self._offer
        if model.pool is None or offer.worst_case_nano_usd < offer.uncapped_nano_usd:
            return None
        return model.pool.hedge_after_s

    def _samplers(self) -> Iterator[Meter]:
        """Make the meter of each stage when its turn comes."""
        for offer in self._offer.parts:
            model = offer.model
            spent = sum(meter.cost_nano_usd for meter in self._meters)
            allowance = Allowance(
                max_cost_nano_usd=max(0, self._offer.worst_case_nano_usd - spent),
                max_calls=len(offer.calls) * model.n_at_once,
                deadline=self._deadline,
                hedge_after_s=self._hedge_after_s(model),
            )
            meter = Meter(model.provider, model.price, allowance, model.throughput, self._retries)
            self._meters.append(meter)
            yield meter


def _price_source(call: CallRecord) -> str:
    """Name the price of a call, and the deployment where the model has several."""
    if not call.deployment:
        return call.price_source
    return f"{call.price_source}, deployment {call.deployment}"
