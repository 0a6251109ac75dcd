"""Every error in OpenAI's form, with its status, its code, and what the client can do about it."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from scripted_engine import ScriptedEngine

import policies.errors
import router.errors
import storage.errors
from cost_models.errors import (
    BudgetExceededError,
    BudgetFacts,
    PriceConfigError,
    RheostatError,
    UnknownPriceError,
)
from policies.errors import NoAffordableArmError, PolicyNotReadyError
from router.errors import (
    AllowanceExceededError,
    ConfigError,
    OverloadedError,
    ProviderError,
    ProviderTimeoutError,
    RequestError,
    WeightsError,
)
from router.gateway.handlers import FORMS
from router.gateway.settings import GatewaySettings
from storage.errors import (
    EntryExistsError,
    EntryNotFoundError,
    LedgerBusyError,
    LedgerError,
    LedgerSchemaError,
    LedgerUnavailableError,
)

if TYPE_CHECKING:
    import httpx
    from conftest import Serve

BODY = {"model": "auto", "messages": [{"role": "user", "content": "what is 2 + 2 ?"}]}
NOW = datetime(2026, 11, 24, 23, 59, 0, tzinfo=UTC)
FACTS = BudgetFacts(
    scope="organisation",
    period="day",
    limit_nano_usd=5_000_000_000,
    spent_nano_usd=4_000_000_000,
    held_nano_usd=999_999_999,
    resets_at=datetime(2026, 11, 25, tzinfo=UTC),
)


def refused(client: httpx.Client) -> tuple[int, dict[str, Any], httpx.Headers]:
    """Ask, and give status, error and headers of the refusal."""
    response = client.post("/v1/chat/completions", json=BODY)
    assert response.json().keys() == {"error"}
    return response.status_code, response.json()["error"], response.headers


BAD = "invalid_request_error"
QUOTA = "insufficient_quota"
UPSTREAM = "upstream_error"
SERVER = "server_error"


@pytest.mark.parametrize(
    ("error", "form"),
    [
        pytest.param(RequestError("no"), (400, BAD, "invalid_request"), id="bad request"),
        pytest.param(
            RequestError("too long", param="messages", code="context_length_exceeded"),
            (400, BAD, "context_length_exceeded"),
            id="oversized prompt",
        ),
        pytest.param(
            RequestError("no such model", param="model", code="model_not_found"),
            (404, BAD, "model_not_found"),
            id="unknown model",
        ),
        pytest.param(
            BudgetExceededError(FACTS, 7), (402, QUOTA, "budget_exceeded"), id="budget exhausted"
        ),
        pytest.param(NoAffordableArmError("none"), (402, QUOTA, "no_affordable_arm"), id="no arm"),
        pytest.param(
            AllowanceExceededError("none"), (402, QUOTA, "allowance_exceeded"), id="cap reached"
        ),
        pytest.param(
            ProviderError("small", "cannot connect to http://127.0.0.1:9"),
            (502, UPSTREAM, "upstream_error"),
            id="unreachable upstream",
        ),
        pytest.param(
            ProviderTimeoutError("small", "late"), (504, UPSTREAM, "upstream_timeout"), id="late"
        ),
        pytest.param(OverloadedError("small", "full"), (503, SERVER, "overloaded"), id="full"),
        pytest.param(WeightsError("gone"), (503, SERVER, "weights_missing"), id="no weights"),
        pytest.param(PolicyNotReadyError("no"), (503, SERVER, "policy_not_ready"), id="no policy"),
        pytest.param(
            UnknownPriceError("x", date(2026, 1, 1)), (500, SERVER, "unknown_price"), id="no price"
        ),
        pytest.param(EntryNotFoundError("x"), (404, BAD, "entry_not_found"), id="no entry"),
        pytest.param(EntryExistsError("x", 0), (409, BAD, "entry_exists"), id="two entries"),
        pytest.param(LedgerError("torn"), (500, SERVER, "ledger_error"), id="broken ledger"),
        pytest.param(LedgerSchemaError("new"), (500, SERVER, "ledger_error"), id="new ledger"),
        pytest.param(
            LedgerUnavailableError("gone"), (503, SERVER, "ledger_unavailable"), id="no ledger"
        ),
        pytest.param(
            LedgerBusyError("busy"), (503, SERVER, "ledger_unavailable"), id="busy ledger"
        ),
        pytest.param(ConfigError("late"), (500, SERVER, "internal_error"), id="no form, no facts"),
        pytest.param(PriceConfigError("late"), (500, SERVER, "internal_error"), id="nor here"),
    ],
)
def test_each_error_has_its_status_type_and_code(
    client: httpx.Client,
    engine: ScriptedEngine,
    error: RheostatError,
    form: tuple[int, str, str],
) -> None:
    """The message is the error's own; the parameter is named where there is one."""
    engine.refusal = error
    status, told, headers = refused(client)
    assert (status, told["type"], told["code"]) == form
    assert told["message"] == str(error)
    assert told["param"] == getattr(error, "param", None)
    assert headers["x-rheostat-request-id"] == engine.requests[0].request_id


def test_the_table_has_every_error_that_can_reach_a_client() -> None:
    """A new error beside its family must be given a form, or be one that no client sees."""
    at_start = {
        "ConfigError",
        "StrategyConfigError",
        "PriceConfigError",
        "OutcomeError",
        "StudyMismatchError",
        "BillError",
        "RheostatError",
    }
    told_to_nobody = {"BillError", "WithdrawnError", "KeyNotFoundError", "WebhookError"}
    rooms = (policies.errors, router.errors, storage.errors)
    kinds = [
        kind
        for room in rooms
        for kind in vars(room).values()
        if isinstance(kind, type) and issubclass(kind, RheostatError)
    ]
    for kind in kinds:
        form = next(FORMS[parent] for parent in kind.__mro__ if parent in FORMS)
        unseen = at_start | told_to_nobody
        assert kind.__name__ in unseen or form is not FORMS[RheostatError], kind


def test_a_budget_refusal_carries_its_figures(serve: Serve) -> None:
    """Scope, limit, spent, reserved and reset are figures, and ``Retry-After`` counts to it."""
    engine = ScriptedEngine(refusal=BudgetExceededError(FACTS, 2_000_000))
    client = serve(engine, GatewaySettings(clock=lambda: NOW))
    status, error, headers = refused(client)
    assert status == 402
    assert error["budget"] == {
        "scope": "organisation",
        "period": "day",
        "limit_usd": 5.0,
        "spent_usd": 4.0,
        "reserved_usd": 0.999999999,
        "requested_usd": 0.002,
        "resets_at": "2026-11-25T00:00:00+00:00",
    }
    assert headers["retry-after"] == "60"


def test_a_budget_that_never_resets_says_so(client: httpx.Client, engine: ScriptedEngine) -> None:
    """There is nothing to wait for, so no ``Retry-After``."""
    facts = BudgetFacts("organisation", "total", 5, 5, 0, None)
    engine.refusal = BudgetExceededError(facts, 1)
    _, error, headers = refused(client)
    assert error["budget"]["resets_at"] is None
    assert "retry-after" not in headers


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        pytest.param(OverloadedError("small", "full", retry_after_s=2.1), "3", id="rounded up"),
        pytest.param(ProviderError("small", "slow down", retry_after_s=0.0), "1", id="at least 1"),
        pytest.param(LedgerBusyError("busy"), "1", id="the ledger"),
        pytest.param(ProviderError("small", "no"), None, id="nothing known"),
    ],
)
def test_what_may_be_tried_again_says_when(
    client: httpx.Client, engine: ScriptedEngine, error: RheostatError, seconds: str | None
) -> None:
    """``Retry-After`` is in whole seconds, for SDKs that wait for it."""
    engine.refusal = error
    _, _, headers = refused(client)
    assert headers.get("retry-after") == seconds


def test_an_error_that_nobody_foresaw_tells_nothing(
    client: httpx.Client, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """A client gets an id, the operator's log gets the trace under it."""
    engine.failure = KeyError("canary")
    with caplog.at_level(logging.ERROR, "rheostat.gateway"):
        status, error, headers = refused(client)
    request_id = engine.requests[0].request_id
    assert (status, error["code"]) == (500, "internal_error")
    assert request_id in error["message"]
    assert headers["x-rheostat-request-id"] == request_id
    assert "canary" not in str(error)
    assert request_id in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("POST", "/v1/rerank", 404, id="not served"),
        pytest.param("POST", "/v1/completions", 404, id="old completions"),
        pytest.param("POST", "/v1/chat/completions/", 404, id="no redirects"),
        pytest.param("GET", "/v1/chat/completions", 405, id="a wrong method"),
        pytest.param("GET", "/docs", 404, id="no pages that load foreign scripts"),
        pytest.param("GET", "/", 404, id="nothing here"),
    ],
)
def test_what_is_not_served_is_refused_in_openais_form(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    """Nothing is passed on unmetered."""
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert f"{method} {path}" in response.json()["error"]["message"]
