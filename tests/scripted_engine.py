"""The gateway's engine with scripted answers and no ledger."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from cost_models.pricing import Price
from cost_models.rates import Bucket
from cost_models.types import Arm, Usage
from policies.types import Decision
from router.errors import RequestError
from router.providers.embeddings import encoded
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, Script, ScriptedProvider
from router.routing.embeddings import Embedded
from router.routing.types import AUTO, Candidate, Plan, Served
from router.types import Answer, Chunk, Sample, SampleRequest
from storage.errors import EntryNotFoundError
from storage.rates import Permit, RateAsk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from cost_models.errors import RheostatError
    from cost_models.rates import RateLimits
    from router.routing.embeddings import EmbedRequest
    from router.routing.types import ChatRequest
    from storage.outcomes import Grade

PRICE = Price(
    input_usd_per_million_tokens=Decimal(1),
    output_usd_per_million_tokens=Decimal(2),
    source="test",
)


@dataclass
class ScriptedEngine:
    """Answer from a script, one metered call a request, over two models of the same skill.

    ``refusal`` is raised instead of an answer, ``failure`` is an error nobody foresees, and
    ``late_failure`` one that comes after the answer.
    ``requests`` keeps what was asked, ``settled`` the requests whose cost was committed,
    ``cancelled`` those whose client left, ``grades`` the feedback.
    """

    script: Script = lambda _request, _i: "four"
    refusal: RheostatError | None = None
    failure: Exception | None = None
    late_failure: Exception | None = None
    model_names: tuple[str, ...] = ("small", "large")
    policy_versions: tuple[str, ...] = ()
    embedding_names: tuple[str, ...] = ()
    embedded: list[EmbedRequest] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    commit_s: float = 0.0
    requests: list[ChatRequest] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    grades: list[tuple[str, float, str, float]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.provider = ScriptedProvider(self.script, "small")

    def models(self) -> Sequence[str]:
        return self.model_names

    async def admit(self, request: ChatRequest | EmbedRequest, limits: RateLimits) -> Permit:
        """Let everybody in, as the first request of a minute; limits are the ledger's."""
        limit = limits.requests_per_minute or 1
        ask = RateAsk(request.tenant, request.request_id, limits, 0)
        return Permit(ask, 0, {"requests": Bucket(limit, Bucket(limit, 0).cost_ns(1))})

    async def policies(self) -> Sequence[str]:
        return self.policy_versions

    def embedding_models(self) -> Sequence[str]:
        return self.embedding_names

    async def embed(self, request: EmbedRequest) -> Embedded:
        self.embedded.append(request)
        if self.refusal is not None:
            raise self.refusal
        if request.model not in self.embedding_names:
            msg = f"the model {request.model!r} does not exist here"
            raise RequestError(msg, param="model", code="model_not_found")
        vectors = tuple(
            encoded([1.0, 0.5], request.embedding.encoding) for _ in request.embedding.inputs
        )
        self.settled.append(request.request_id)
        usage = Usage(n_calls=1, prompt_tokens=len(vectors))
        return Embedded(request.request_id, request.model, vectors, usage, 1_000, 0.0)

    async def answer(self, request: ChatRequest) -> Served:
        meter = self._begin(request)
        try:
            samples = await meter.sample(self._asked(request))
        except asyncio.CancelledError:
            self.cancelled.append(request.request_id)
            raise
        return await self._commit(request, meter, samples)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Served, None]:
        meter = self._begin(request)
        texts: list[str] = []
        try:
            async with aclosing(meter.stream(self._asked(request))) as chunks:
                async for chunk in chunks:
                    texts.append(str(chunk.delta.get("content") or ""))
                    yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.request_id)
            raise
        yield await self._commit(request, meter, (Sample("".join(texts)),))

    async def plan(self, request: ChatRequest) -> Plan:
        self._begin(request)
        decision = self._decision(request)
        dear = Arm("large", "cot")
        return Plan(
            request_id=request.request_id,
            decision=decision,
            candidates=(
                Candidate(decision.arm, 0.9, 0.0001, 1.5, 200_000),
                Candidate(dear, None, None, None, None, rejected="it does not fit its context"),
            ),
            policy_version="p1",
            difficulty=0.25,
            in_distribution=True,
        )

    async def feedback(self, request_id: str, grade: Grade, tenant: str) -> None:
        made = {asked.request_id for asked in self.requests if asked.tenant == tenant}
        if request_id not in made.intersection(self.settled):
            raise EntryNotFoundError(request_id)
        self.grades.append((request_id, grade.quality, grade.grader, grade.weight))

    async def ready(self) -> list[str]:
        return self.problems

    async def start(self) -> None:
        self.events.append("start")

    async def stop(self) -> None:
        self.events.append("stop")

    def _begin(self, request: ChatRequest) -> Meter:
        self.requests.append(request)
        if request.model not in {AUTO, *self.model_names}:
            msg = f"the model {request.model!r} does not exist here"
            raise RequestError(msg, param="model", code="model_not_found")
        if self.refusal is not None:
            raise self.refusal
        if self.failure is not None:
            raise self.failure
        return Meter(self.provider, PRICE, Allowance())

    def _asked(self, request: ChatRequest) -> SampleRequest:
        task = request.task
        return SampleRequest(
            messages=task.messages, max_tokens=task.max_tokens, n=task.n, extra=task.extra
        )

    def _decision(self, request: ChatRequest) -> Decision:
        return Decision(
            arm=Arm("small" if request.model == AUTO else request.model, "direct"),
            propensity=0.98,
            policy_version="p1",
            predicted_quality=0.9,
            predicted_cost_usd=0.0001,
            difficulty=0.25,
            reason="the cheapest arm that is good enough",
        )

    async def _commit(
        self, request: ChatRequest, meter: Meter, samples: tuple[Sample, ...]
    ) -> Served:
        await asyncio.sleep(self.commit_s)
        if self.late_failure is not None:
            raise self.late_failure
        self.settled.append(request.request_id)
        answer = Answer(
            text=samples[0].text,
            value=samples[0].text or None,
            confidence=1.0,
            finish_reason=samples[0].finish_reason,
            samples=samples,
            choices=samples,
        )
        return Served(
            request_id=request.request_id,
            decision=self._decision(request),
            answer=answer,
            usage=meter.usage,
            cost_nano_usd=meter.cost_nano_usd,
            latency_s=0.25,
            overhead_s=0.0015,
            calls=meter.calls,
        )


def slow(delay_s: float, text: str = "four") -> Reply:
    """Give a reply that takes its time."""
    return Reply(text, delay_s=delay_s)
