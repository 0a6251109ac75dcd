"""OpenTelemetry: spans and metrics under the GenAI semantic names, all of which stand here.

The names are those of semantic conventions 1.41, which are still in development: what changes there
changes in this module. No text of a prompt or an answer is ever an attribute, and metrics have no
attribute that a client can choose freely. The only door to OpenTelemetry.
"""

from __future__ import annotations

import time
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.errors import ConfigError
from router.routing.types import Served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cost_models.types import Usage
    from router.gateway.dependencies import Engine
    from router.routing.embeddings import Embedded, EmbedRequest
    from router.routing.types import ChatRequest, Plan
    from router.types import Chunk
    from storage.outcomes import Grade

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
SCOPE = "rheostat"
CHAT, EMBEDDINGS = "chat", "embeddings"
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - a name, no secret
ERROR_TYPE = "error.type"
TOKEN_USAGE = "gen_ai.client.token.usage"  # noqa: S105 - a name, no secret
DURATION = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
COST = "rheostat.cost"
TOKEN_BOUNDS = tuple(4**i for i in range(14))
SECOND_BOUNDS = tuple(0.01 * 2**i for i in range(14))
NANO = 1e9


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """Where to send by OTLP over HTTP, under which name, and which share of requests as traces."""

    endpoint: str
    service_name: str = "rheostat"
    sample_ratio: float = 1.0


class Telemetry:
    """Instruments over a tracer and a meter; ``close`` sends what is left."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        self._providers: tuple[Any, ...] = (tracers, meters)
        self.tracer = tracers.get_tracer(SCOPE, schema_url=SCHEMA_URL)
        meter = meters.get_meter(SCOPE, schema_url=SCHEMA_URL)
        self._tokens = meter.create_histogram(
            TOKEN_USAGE, "{token}", explicit_bucket_boundaries_advisory=TOKEN_BOUNDS
        )
        self._duration = meter.create_histogram(
            DURATION, "s", explicit_bucket_boundaries_advisory=SECOND_BOUNDS
        )
        self._first_chunk = meter.create_histogram(
            FIRST_CHUNK, "s", explicit_bucket_boundaries_advisory=SECOND_BOUNDS
        )
        self._cost = meter.create_counter(COST, "USD")

    @contextmanager
    def operation(self, name: str, model: str, further: Mapping[str, Any]) -> Iterator[Operation]:
        """Trace and measure one operation, which says itself how it ended."""
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 - an extra

        attributes = {OPERATION: name, PROVIDER: SCOPE, REQUEST_MODEL: model, **further}
        kept = {key: value for key, value in attributes.items() if value is not None}
        began_s = time.monotonic()
        told = {OPERATION: name, PROVIDER: SCOPE}
        with self.tracer.start_as_current_span(
            f"{name} {model}",
            kind=SpanKind.INTERNAL,
            attributes=kept,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            operation = Operation(self, span, told, began_s)
            try:
                yield operation
            except BaseException as error:
                told[ERROR_TYPE] = type(error).__name__
                span.set_attribute(ERROR_TYPE, told[ERROR_TYPE])
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                self._duration.record(time.monotonic() - began_s, told)

    def count(self, usage: Usage, cost_nano_usd: int, told: Mapping[str, str]) -> None:
        """Count tokens and money."""
        self._tokens.record(usage.prompt_tokens, {**told, TOKEN_TYPE: "input"})
        if usage.completion_tokens:
            self._tokens.record(usage.completion_tokens, {**told, TOKEN_TYPE: "output"})
        self._cost.add(cost_nano_usd / NANO, dict(told))

    def first_chunk(self, seconds: float, told: Mapping[str, str]) -> None:
        """Measure how long a stream took to begin."""
        self._first_chunk.record(seconds, dict(told))

    def close(self) -> None:
        """Send what is left; blocks."""
        for provider in self._providers:
            provider.shutdown()


@dataclass(slots=True)
class Operation:
    """One operation under way: its span, and what its metrics are told apart by."""

    telemetry: Telemetry
    span: Span
    told: dict[str, str]
    began_s: float
    begun: bool = False

    def begin(self) -> None:
        """Note the first chunk of a stream."""
        if not self.begun:
            self.begun = True
            seconds = time.monotonic() - self.began_s
            self.span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
            self.telemetry.first_chunk(seconds, self.told)

    def served(self, served: Served) -> None:
        """Note what a chat came to."""
        answer, decision = served.answer, served.decision
        reasons = [sample.finish_reason for sample in answer.choices] or [answer.finish_reason]
        found: dict[str, Any] = {
            "gen_ai.response.finish_reasons": reasons,
            "rheostat.arm": str(decision.arm),
            "rheostat.policy_version": decision.policy_version,
            "rheostat.calls": len(served.calls),
            "rheostat.cached": served.cached_from is not None,
        }
        self.span.set_attributes(found)
        self._used(served.request_id, served.model, served.usage, served.cost_nano_usd)

    def embedded(self, embedded: Embedded) -> None:
        """Note what embeddings came to."""
        self._used(embedded.request_id, embedded.model, embedded.usage, embedded.cost_nano_usd)

    def _used(self, request_id: str, model: str, usage: Usage, cost_nano_usd: int) -> None:
        self.told[RESPONSE_MODEL] = model
        self.span.set_attributes(
            {
                "gen_ai.response.id": request_id,
                RESPONSE_MODEL: model,
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_prompt_tokens,
                "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
                "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
                "rheostat.cost_usd": cost_nano_usd / NANO,
            }
        )
        self.telemetry.count(usage, cost_nano_usd, self.told)


class TracedEngine:
    """An engine with each of its operations traced and measured."""

    def __init__(self, inner: Engine, telemetry: Telemetry) -> None:
        self._inner = inner
        self._telemetry = telemetry
        self.models = inner.models
        self.embedding_models = inner.embedding_models
        self.policies = inner.policies
        self.admit = inner.admit
        self.ready = inner.ready

    async def answer(self, request: ChatRequest) -> Served:
        """Serve one request."""
        with self._telemetry.operation(CHAT, request.model, _asked(request)) as operation:
            served = await self._inner.answer(request)
            operation.served(served)
            return served

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Chunk | Served, None]:
        """Serve one request piece by piece."""
        asked = {**_asked(request), "gen_ai.request.stream": True}
        with self._telemetry.operation(CHAT, request.model, asked) as operation:
            async with aclosing(self._inner.stream(request)) as items:
                async for item in items:
                    if isinstance(item, Served):
                        operation.served(item)
                    else:
                        operation.begin()
                    yield item

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Turn texts into vectors."""
        asked = {"gen_ai.embeddings.dimension.count": request.embedding.dimensions}
        with self._telemetry.operation(EMBEDDINGS, request.model, asked) as operation:
            embedded = await self._inner.embed(request)
            operation.embedded(embedded)
            return embedded

    async def plan(self, request: ChatRequest) -> Plan:
        """Decide without running."""
        with self._telemetry.operation("plan", request.model, _asked(request)):
            return await self._inner.plan(request)

    async def feedback(self, request_id: str, grade: Grade, tenant: str) -> None:
        """Record a judgement."""
        await self._inner.feedback(request_id, grade, tenant)


class TracingMiddleware:
    """A server's span around every request, below the span that its ``traceparent`` names."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415 - an extra
            TraceContextTextMapPropagator,
        )

        from router.gateway.metrics import route_of  # noqa: PLC0415 - beside the above

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        route = route_of(scope["path"])
        with self._telemetry.tracer.start_as_current_span(
            f"{scope['method']} {route}",
            context=TraceContextTextMapPropagator().extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "http.route": route},
            record_exception=False,
        ) as span:

            async def send_seen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                await send(message)

            await self._app(scope, receive, send_seen)


def connect(settings: TelemetrySettings) -> Telemetry:
    """Send by OTLP over HTTP; ConfigError where the optional install is missing."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import (  # noqa: PLC0415
            ParentBased,
            TraceIdRatioBased,
        )
    except ImportError as error:
        msg = "telemetry needs an optional install: pip install 'rheostat[otel]'"
        raise ConfigError(msg) from error
    resource = Resource.create({"service.name": settings.service_name})
    base = settings.endpoint.rstrip("/")
    sampler = ParentBased(TraceIdRatioBased(settings.sample_ratio))
    tracers = TracerProvider(resource=resource, sampler=sampler)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{base}/v1/traces")))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics"))
    return Telemetry(tracers, MeterProvider([reader], resource=resource))


def _asked(request: ChatRequest) -> dict[str, Any]:
    """Give what may be told of a request: its numbers, and who asks; none of its texts."""
    task = request.task
    return {
        "gen_ai.request.max_tokens": task.max_tokens,
        "gen_ai.request.temperature": task.temperature,
        "gen_ai.request.top_p": task.top_p,
        "gen_ai.request.seed": task.seed,
        "gen_ai.request.choice.count": task.n if task.n > 1 else None,
        "gen_ai.output.type": "json" if "response_format" in task.extra else "text",
        "rheostat.tenant": request.tenant,
    }
