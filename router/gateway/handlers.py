"""Errors in OpenAI's form: one table from exception to status, type and code."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cost_models.errors import BudgetExceededError, RheostatError, UnknownPriceError
from cost_models.money import to_usd
from policies.errors import NoAffordableArmError, PolicyNotReadyError
from router.errors import (
    AllowanceExceededError,
    OverloadedError,
    ProviderError,
    ProviderTimeoutError,
    RequestError,
    UpstreamUnavailableError,
    WeightsError,
)
from router.gateway.dialects import messages_wire
from router.gateway.rates import rate_headers
from router.gateway.sse import CLIENT_GONE, ClientGoneError
from router.gateway.strict import problems
from router.json_codec import dumps
from storage.errors import (
    EntryExistsError,
    EntryNotFoundError,
    HeldBackError,
    LedgerError,
    LedgerUnavailableError,
    RateLimitedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from fastapi import FastAPI
    from starlette.requests import Request

    from router.gateway.settings import GatewaySettings

LOG = logging.getLogger("rheostat.gateway")

BAD_REQUEST = "invalid_request_error"
QUOTA = "insufficient_quota"
RATE = "rate_limit_error"
SERVER = "server_error"
MESSAGES = "/v1/messages"
UPSTREAM = "upstream_error"


class Form(NamedTuple):
    """How a kind of error looks to a client."""

    status: int
    type: str
    code: str


FORMS: dict[type[RheostatError], Form] = {
    RheostatError: Form(500, SERVER, "internal_error"),
    UnknownPriceError: Form(500, SERVER, "unknown_price"),
    BudgetExceededError: Form(402, QUOTA, "budget_exceeded"),
    HeldBackError: Form(429, RATE, "budget_busy"),
    RateLimitedError: Form(429, RATE, "rate_limit_exceeded"),
    NoAffordableArmError: Form(402, QUOTA, "no_affordable_arm"),
    AllowanceExceededError: Form(402, QUOTA, "allowance_exceeded"),
    PolicyNotReadyError: Form(503, SERVER, "policy_not_ready"),
    RequestError: Form(400, BAD_REQUEST, "invalid_request"),
    ProviderError: Form(502, UPSTREAM, "upstream_error"),
    ProviderTimeoutError: Form(504, UPSTREAM, "upstream_timeout"),
    UpstreamUnavailableError: Form(503, UPSTREAM, "upstream_unavailable"),
    OverloadedError: Form(503, SERVER, "overloaded"),
    WeightsError: Form(503, SERVER, "weights_missing"),
    EntryNotFoundError: Form(404, BAD_REQUEST, "entry_not_found"),
    EntryExistsError: Form(409, BAD_REQUEST, "entry_exists"),
    LedgerError: Form(500, SERVER, "ledger_error"),
    LedgerUnavailableError: Form(503, SERVER, "ledger_unavailable"),
}
"""The nearest class wins, so an error that is not here looks like its parent."""

STATUS_OF_CODE = {
    "model_not_found": 404,
    "model_not_allowed": 403,
    "idempotency_key_reused": 422,
    "idempotency_key_in_use": 409,
}
"""Codes of RequestError that OpenAI answers with a status other than 400."""

NO_JSON = "send the body as JSON, with the header Content-Type: application/json"
HTTP_CODES = {400: "invalid_body", 404: "unknown_url", 405: "method_not_allowed", 413: "too_large"}


class Described(NamedTuple):
    """An error as it is sent: its status, the members of ``error``, further headers."""

    status: int
    error: dict[str, Any]
    headers: dict[str, str]


def described(error: RheostatError, now: datetime) -> Described:
    """Describe an error that was raised on purpose; ``now`` is what ``Retry-After`` counts from."""
    form = next(FORMS[kind] for kind in type(error).__mro__ if kind in FORMS)
    body = body_of(str(error), form.type, form.code)
    headers: dict[str, str] = {}
    status = form.status
    if isinstance(error, RequestError):
        body |= {"param": error.param, "code": error.code}
        status = STATUS_OF_CODE.get(error.code, status)
    if isinstance(error, BudgetExceededError):
        facts = error.facts
        body["budget"] = {
            "scope": facts.scope,
            "period": facts.period,
            "limit_usd": float(to_usd(facts.limit_nano_usd)),
            "spent_usd": float(to_usd(facts.spent_nano_usd)),
            "reserved_usd": float(to_usd(facts.held_nano_usd)),
            "requested_usd": float(to_usd(error.asked_nano_usd)),
            "resets_at": facts.resets_at.isoformat() if facts.resets_at else None,
        }
        if isinstance(error, HeldBackError):
            headers |= _retry_after(error.retry_after_s)
        elif facts.resets_at is not None:
            headers |= _retry_after((facts.resets_at - now).total_seconds())
    elif isinstance(error, ProviderError | RateLimitedError | LedgerUnavailableError):
        headers |= _retry_after(error.retry_after_s)
    if isinstance(error, RateLimitedError):
        headers |= rate_headers(error.buckets)
    return Described(status, body, headers)


def body_of(message: str, kind: str, code: str, param: str | None = None) -> dict[str, Any]:
    """Give the members of an ``error`` object."""
    return {"message": message, "type": kind, "param": param, "code": code}


def error_response(
    path: str, status: int, error: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """Give an error in OpenAI's form, on Anthropic's paths in theirs."""
    is_theirs = path == MESSAGES or path.startswith(f"{MESSAGES}/")
    body = messages_wire.to_error(status, error) if is_theirs else {"error": error}
    return Response(dumps(body), status, headers, "application/json")


def failure(error: BaseException, request_id: str, settings: GatewaySettings) -> Described:
    """Describe an error that comes after the first byte of a stream; the status is sent by then."""
    if isinstance(error, RheostatError):
        return described(error, settings.clock())
    return Described(500, unexpected(error, request_id), {})


def unexpected(error: BaseException, request_id: str) -> dict[str, Any]:
    """Log an error that nobody foresaw; give its body, which says nothing of the inside."""
    LOG.error("request %s failed", request_id, exc_info=error)
    message = f"something went wrong here; the operator's log has it under {request_id}"
    return body_of(message, SERVER, "internal_error")


def install(app: FastAPI) -> None:
    """Let every error of ``app`` be answered from here."""
    settings: GatewaySettings = app.state.settings

    async def on_purpose(request: Request, error: Exception) -> Response:
        found = described(cast("RheostatError", error), settings.clock())
        return error_response(request.url.path, found.status, found.error, found.headers)

    app.add_exception_handler(RheostatError, on_purpose)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientGoneError, _on_client_gone)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Name the first thing that is wrong with a body; 400 as OpenAI, where others say 422."""
    errors = cast("RequestValidationError", error).errors()
    first = problems([{**e, "loc": tuple(e["loc"])[1:]} for e in errors])[0]
    message = f"{first.place}: {first.message}"
    if not first.place:
        is_json = "json" in request.headers.get("content-type", "")
        message = f"the body: {first.message}" if is_json else NO_JSON
    return error_response(
        request.url.path, 400, body_of(message, BAD_REQUEST, first.code, first.place or None)
    )


async def _on_http(request: Request, error: Exception) -> Response:
    raised = cast("HTTPException", error)
    message = str(raised.detail)
    called = f"{request.method} {request.url.path}"
    if raised.status_code == 404:  # noqa: PLR2004 - as every other status in this module
        message = (
            f"{called} is not served here, so it is refused rather than passed on unmetered; "
            "GET /openapi.json lists what is served"
        )
    elif raised.status_code == 405:  # noqa: PLR2004
        message = f"{called}: this method is not served here"
    code = HTTP_CODES.get(raised.status_code, "http_error")
    error_body = body_of(message, BAD_REQUEST, code)
    return error_response(request.url.path, raised.status_code, error_body, raised.headers)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    """Close the books of a request whose client left: nobody reads this."""
    return Response(None, CLIENT_GONE)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    """Answer from outside the door, so the request's id is added here."""
    request_id = request.state.request_id
    body = unexpected(error, request_id)
    return error_response(request.url.path, 500, body, request_headers(request_id))


def request_headers(request_id: str) -> dict[str, str]:
    """Give the headers of every response; SDKs read the plain one as the request's id."""
    return {"x-rheostat-request-id": request_id, "x-request-id": request_id}


def _retry_after(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"retry-after": str(max(1, -(-int(seconds * 1000) // 1000)))}
