"""``X-Compute-*`` headers: what `compute` can say, for clients that cannot change the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from router.routing.types import Limits

if TYPE_CHECKING:
    import httpx
    from scripted_engine import ScriptedEngine

BODY = {"model": "auto", "messages": [{"role": "user", "content": "what is 2 + 2 ?"}]}
PATH = "/v1/chat/completions"


def test_headers_say_what_compute_says(client: httpx.Client, engine: ScriptedEngine) -> None:
    """Every field has its header; fields of the body and of headers are joined."""
    headers = {
        "X-Compute-Accuracy-Target": "0.9",
        "x-compute-max-latency-s": "2",
        "X-Compute-Allowed-Models": "small, large",
        "X-Compute-Strategy": "direct",
        "X-Compute-Answer-Kind": "number",
    }
    body = {**BODY, "compute": {"max_cost_usd": 0.5}}
    assert client.post(PATH, json=body, headers=headers).status_code == 200
    assert engine.requests[0].limits == Limits(0.9, 0.5, 2.0, ("small", "large"), "direct")
    assert engine.requests[0].task.answer_kind == "number"


@pytest.mark.parametrize(
    ("headers", "compute", "refusal"),
    [
        pytest.param(
            [("X-Compute-Max-Cost", "1")],
            {},
            ("X-Compute-Max-Cost", "did you mean 'X-Compute-Max-Cost-Usd'"),
            id="an unknown name",
        ),
        pytest.param(
            [("X-Compute-Max-Cost-Usd", "cheap")],
            {},
            ("X-Compute-Max-Cost-Usd", "valid number"),
            id="no number",
        ),
        pytest.param(
            [("X-Compute-Max-Latency-S", "nan")],
            {},
            ("X-Compute-Max-Latency-S", "finite number"),
            id="not a number",
        ),
        pytest.param(
            [("X-Compute-Accuracy-Target", "1.5")],
            {},
            ("X-Compute-Accuracy-Target", "less than or equal to 1"),
            id="above one",
        ),
        pytest.param(
            [("X-Compute-Allowed-Models", ",")],
            {},
            ("X-Compute-Allowed-Models", "at least 1"),
            id="no models",
        ),
        pytest.param(
            [("X-Compute-Strategy", "direct"), ("X-Compute-Strategy", "cot")],
            {},
            ("X-Compute-Strategy", "comes twice"),
            id="twice",
        ),
        pytest.param(
            [("X-Compute-Strategy", "direct")],
            {"strategy": "cot"},
            ("compute.strategy", "send it once"),
            id="in the body too",
        ),
    ],
)
def test_a_bad_header_is_refused_by_name(
    client: httpx.Client,
    engine: ScriptedEngine,
    headers: list[tuple[str, str]],
    compute: dict[str, Any],
    refusal: tuple[str, str],
) -> None:
    """400 with the header in ``param``; nothing runs."""
    response = client.post(PATH, json={**BODY, "compute": compute}, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == refusal[0]
    assert refusal[1] in response.json()["error"]["message"]
    assert engine.requests == []
