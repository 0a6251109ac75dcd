"""``/metrics``: what Prometheus reads, with bounded labels and nothing secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from scripted_engine import ScriptedEngine

from router.gateway.app import create_app
from router.gateway.metrics import MODEL, ROUTES, Metrics
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    import httpx
    from conftest import Serve

BODY = {"model": "auto", "messages": [{"role": "user", "content": "CANARY-PROMPT"}]}
KEY = {"authorization": "Bearer sk-CANARY"}


def figure(text: str, name: str) -> float:
    """Read one figure by its name with labels."""
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


@pytest.fixture
def keyed(serve: Serve) -> httpx.Client:
    """Talk to a gateway that asks for keys."""
    return serve(ScriptedEngine(), GatewaySettings(keys={"acme": "sk-CANARY"}))


def test_requests_are_counted_by_route_and_status(keyed: httpx.Client) -> None:
    """Answers, refusals and paths that nobody serves; the look itself is in flight."""
    path = "/v1/chat/completions"
    for body in (BODY, BODY, {**BODY, "stream": True}, {**BODY, "n": 0}):
        keyed.post(path, json=body, headers=KEY)
    keyed.post(path, json=BODY)
    for i in range(5):
        keyed.get(f"/v1/unknown/{i}", headers=KEY)
        keyed.get(f"/v1/models/org/{i}", headers=KEY)
    response = keyed.get("/metrics", headers=KEY)
    text = response.text
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    total = "rheostat_http_requests_total"
    assert figure(text, f'{total}{{route="{path}",status="200"}}') == 3
    assert figure(text, f'{total}{{route="{path}",status="400"}}') == 1
    assert figure(text, f'{total}{{route="{path}",status="401"}}') == 1
    assert figure(text, f'{total}{{route="other",status="404"}}') == 5
    assert figure(text, f'{total}{{route="{MODEL}",status="404"}}') == 5
    assert figure(text, f'rheostat_http_request_seconds_count{{route="{path}"}}') == 5
    assert figure(text, "rheostat_http_requests_in_flight") == 1
    assert "CANARY" not in text
    assert "acme" not in text


def test_an_unforeseen_error_is_counted_as_500(serve: Serve) -> None:
    """Its answer comes from outside the door; the server closes the connection after it."""
    client = serve(ScriptedEngine(failure=ZeroDivisionError("oops")))
    client.post("/v1/chat/completions", json=BODY, headers={"connection": "close"})
    text = client.get("/metrics").text
    name = 'rheostat_http_requests_total{route="/v1/chat/completions",status="500"}'
    assert figure(text, name) == 1


def test_times_fall_into_their_buckets() -> None:
    """Buckets add up, a bound is within its own, and the last one has all."""
    metrics = Metrics()
    for seconds in (0.005, 0.006, 1000.0):
        metrics.begin()
        metrics.end("/livez", 200, seconds)
    text, name = metrics.text(), "rheostat_http_request_seconds"
    bucket = f'{name}_bucket{{route="/livez",le="%s"}}'
    assert [figure(text, bucket % le) for le in ("0.005", "0.01", "300", "+Inf")] == [1, 2, 2, 3]
    assert figure(text, f'{name}_sum{{route="/livez"}}') == pytest.approx(1000.011)


def test_every_route_has_a_label_of_its_own() -> None:
    """What the document lists is what is told apart."""
    paths = create_app(ScriptedEngine(), GatewaySettings()).openapi()["paths"]
    assert {*paths, "/openapi.json"} == {*ROUTES, MODEL}
