"""The door: every request gets an id, shows its key, and brings a body of bounded size."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.responses import Response

from cost_models.errors import RheostatError
from router.errors import RequestError
from router.gateway.auth import EVERYBODY, Keyring, Tenant
from router.gateway.handlers import (
    BAD_REQUEST,
    body_of,
    described,
    error_response,
    request_headers,
)
from storage.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from router.gateway.idempotency import Idempotency
    from router.gateway.metrics import Metrics
    from router.gateway.settings import GatewaySettings

FAILED = 500
"""Status of a request that ended in an error before any was sent: it is answered outside."""

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Probes: they cost nothing, tell nothing about tenants, and come without a key."""


def shown_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Give the key as an ``Authorization`` header has it; Anthropic's clients use ``x-api-key``."""
    authorization = headers.get(b"authorization")
    if authorization is None and (key := headers.get(b"x-api-key")) is not None:
        return b"Bearer " + key
    return authorization


def naming(send: Send, named: list[tuple[bytes, bytes]]) -> Send:
    """Give ``send`` with further headers in every response."""

    async def send_named(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *named]
        await send(message)

    return send_named


class Door:
    """Plain ASGI middleware in front of every route, known or not.

    It follows the application's settings, which can be replaced while it serves.
    """

    def __init__(
        self, app: ASGIApp, settings: GatewaySettings, once: Idempotency, metrics: Metrics
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._once = once
        self._follow(settings)

    def _follow(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._keyring = Keyring(settings)
        self._clock = settings.clock
        self._max_body_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer 401, 413 or 503 at once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = FAILED
        settings = scope["app"].state.settings
        if settings is not self._settings:
            self._follow(settings)

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.begin()
        try:
            await self._answer(scope, receive, send_seen)
        finally:
            self._metrics.end(scope["path"], status, time.perf_counter() - started_s)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"chatcmpl-{uuid4().hex}"
        named = [(k.encode(), v.encode()) for k, v in request_headers(request_id).items()]

        send_named = naming(send, named)
        headers = dict(scope["headers"])
        tenant = await self._admitted(scope["path"], headers)
        if isinstance(tenant, Response):
            await tenant(scope, receive, send_named)
            return
        scope.setdefault("state", {}).update(
            request_id=request_id,
            tenant=tenant.name,
            team=tenant.team,
            limits=tenant.limits,
            allowed_models=tenant.allowed_models,
        )
        n_bytes = 0

        async def receive_counted() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        key = headers.get(b"idempotency-key")
        if key is None or scope["method"] != "POST":
            await self._app(scope, receive_counted, send_named)
            return
        app = self._named(named)
        try:
            await self._once.run(app, scope, receive_counted, send, tenant.name, key.strip())
        except (HTTPException, RequestError, LedgerError) as error:
            await self._refused(scope["path"], error)(scope, receive, send_named)

    def _named(self, named: list[tuple[bytes, bytes]]) -> ASGIApp:
        """Give the application with the request's id in all that it sends, also later."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(scope, receive, naming(send, named))

        return app

    def _refused(self, path: str, error: HTTPException | RheostatError) -> Response:
        if isinstance(error, RheostatError):
            found = described(error, self._clock())
            return error_response(path, found.status, found.error, found.headers)
        too_large = body_of(str(error.detail), BAD_REQUEST, "too_large")
        return error_response(path, error.status_code, too_large)

    async def _admitted(self, path: str, headers: Mapping[bytes, bytes]) -> Tenant | Response:
        """Name the tenant, or give the refusal; the body is not read for either."""
        if path in OPEN_PATHS:
            tenant: Tenant | None = EVERYBODY
        else:
            try:
                tenant = await self._keyring.tenant(shown_key(headers))
            except RheostatError as failed:
                found = described(failed, self._clock())
                return error_response(path, found.status, found.error, found.headers)
        if tenant is None:
            message = "a key is needed: send it as `Authorization: Bearer KEY`"
            if shown_key(headers) is not None:
                message = "the key is not known here; ask the operator for one"
            error = body_of(message, "authentication_error", "invalid_api_key")
            return error_response(path, 401, error, {"www-authenticate": "Bearer"})
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body_bytes:
            error = body_of(self._too_large(), BAD_REQUEST, "too_large")
            return error_response(path, 413, error)
        return tenant

    def _too_large(self) -> str:
        return (
            f"the body is above the limit of {self._max_body_bytes} bytes; send less, "
            "or ask the operator to raise max_body_bytes"
        )
