"""Traces and metrics as a collector gets them, over HTTP: names, parents, figures, and no text."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import openai
import pytest
from serving import client_of, config_text, gateway

from router.gateway.telemetry import COST, DURATION, FIRST_CHUNK, TOKEN_USAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from upstream import Upstream

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3e"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ASKED: Any = {"model": "small", "messages": [{"role": "user", "content": CANARY}]}


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """Take whatever is posted, by path."""
    bodies: dict[str, list[bytes]] = defaultdict(list)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies[self.path].append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(of: Any) -> dict[str, Any]:  # noqa: ANN401 - a protobuf message
    """Read the attributes of a span or a point."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


async def test_a_collector_gets_spans_and_metrics_and_no_text(
    tmp_path: Path, upstream: Upstream
) -> None:
    """An answer, a stream and a failure; the caller's trace goes on."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (  # noqa: PLC0415
        ExportMetricsServiceRequest,
    )
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
        ExportTraceServiceRequest,
    )

    upstream.default = upstream.Served((f"{CANARY} said",))
    with collector() as (endpoint, bodies):
        telemetry = f"telemetry: {{endpoint: '{endpoint}', service_name: rheo-test}}"
        with gateway(config_text(tmp_path, upstream.base_url, telemetry)) as address:
            async with client_of(address) as client:
                parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
                made = await client.chat.completions.create(
                    **ASKED, extra_headers=parent, max_tokens=9, temperature=0.5
                )
                stream = await client.chat.completions.create(**ASKED, stream=True)
                assert [chunk async for chunk in stream]
                upstream.replies.append(upstream.error(400, "no"))
                with pytest.raises(openai.InternalServerError):
                    await client.chat.completions.create(**ASKED)
        whole = b"".join(part for parts in bodies.values() for part in parts)
    assert CANARY.encode() not in whole
    assert b"sk-acme" not in whole
    spans = {}
    for body in bodies["/v1/traces"]:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            assert attributes(resource.resource)["service.name"] == "rheo-test"
            for scope in resource.scope_spans:
                spans |= {span.span_id: span for span in scope.spans}
    chats = [span for span in spans.values() if span.name == "chat small"]
    assert len(chats) == 3
    first = next(s for s in chats if attributes(s).get("gen_ai.response.id") == made.id)
    told = attributes(first)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.request.max_tokens"] == 9
    assert told["gen_ai.request.temperature"] == 0.5
    assert made.usage is not None
    assert told["gen_ai.usage.input_tokens"] == made.usage.prompt_tokens
    assert told["rheostat.cost_usd"] == (made.model_extra or {})["compute"]["cost_usd"]
    server = spans[first.parent_span_id]
    assert server.name == "POST /v1/chat/completions"
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert attributes(server)["http.response.status_code"] == 200
    assert max(attributes(span).get("error.type", "") for span in chats) == "ProviderError"
    assert any("gen_ai.response.time_to_first_chunk" in attributes(span) for span in chats)
    points: dict[str, list[Any]] = defaultdict(list)
    for body in bodies["/v1/metrics"]:
        for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in found.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    points[metric.name] += data.data_points
    assert points.keys() >= {TOKEN_USAGE, DURATION, FIRST_CHUNK, COST}
    assert sum(point.count for point in points[DURATION]) == 3
    kinds = {attributes(point)["gen_ai.token.type"] for point in points[TOKEN_USAGE]}
    assert kinds == {"input", "output"}
