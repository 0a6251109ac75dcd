"""The door: every request gets an id, shows its key, and brings a body of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.responses import Response

from cost_models.errors import RheostatError
from router.gateway.auth import EVERYBODY, Keyring, Tenant
from router.gateway.handlers import (
    BAD_REQUEST,
    body_of,
    described,
    error_response,
    request_headers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from router.gateway.settings import GatewaySettings

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Probes: they cost nothing, tell nothing about tenants, and come without a key."""


class Door:
    """Plain ASGI middleware in front of every route, known or not."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._keyring = Keyring(settings)
        self._clock = settings.clock
        self._max_body_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or answer 401, 413 or 503 at once."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"chatcmpl-{uuid4().hex}"
        named = [(k.encode(), v.encode()) for k, v in request_headers(request_id).items()]

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *named]
            await send(message)

        tenant = await self._admitted(scope["path"], dict(scope["headers"]))
        if isinstance(tenant, Response):
            await tenant(scope, receive, send_named)
            return
        scope.setdefault("state", {}).update(
            request_id=request_id,
            tenant=tenant.name,
            team=tenant.team,
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

        await self._app(scope, receive_counted, send_named)

    async def _admitted(self, path: str, headers: Mapping[bytes, bytes]) -> Tenant | Response:
        """Name the tenant, or give the refusal; the body is not read for either."""
        if path in OPEN_PATHS:
            tenant: Tenant | None = EVERYBODY
        else:
            try:
                tenant = await self._keyring.tenant(headers.get(b"authorization"))
            except RheostatError as failed:
                found = described(failed, self._clock())
                return error_response(found.status, found.error, found.headers)
        if tenant is None:
            message = "a key is needed: send it as `Authorization: Bearer KEY`"
            if b"authorization" in headers:
                message = "the key is not known here; ask the operator for one"
            error = body_of(message, "authentication_error", "invalid_api_key")
            return error_response(401, error, {"www-authenticate": "Bearer"})
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return error_response(413, body_of(self._too_large(), BAD_REQUEST, "too_large"))
        return tenant

    def _too_large(self) -> str:
        return (
            f"the body is above the limit of {self._max_body_bytes} bytes; send less, "
            "or ask the operator to raise max_body_bytes"
        )
