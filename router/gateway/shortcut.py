"""The straight way of the main job, past the framework's routing, injection and body handling.

Only the plain case goes it: a chat completion whose body is JSON and valid. Whatever is not plain
takes the framework's way with the same body, and is answered there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request

from router.gateway.dependencies import caller_of, engine_of, settings_of
from router.gateway.routes.completions import create_completion
from router.gateway.schemas import ChatBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

PATH = "/v1/chat/completions"
JSON = frozenset({b"application/json", b"application/json; charset=utf-8"})


class Shortcut:
    """Plain ASGI middleware, the innermost; ``handlers`` are the application's, for its errors.

    What nobody foresaw is answered outside, as everywhere.
    """

    def __init__(self, app: ASGIApp, handlers: Mapping[Any, ExceptionHandler]) -> None:
        self._app = app
        foreseen = {kind: handle for kind, handle in handlers.items() if kind is not Exception}
        self._short = ExceptionMiddleware(self._complete, handlers=foreseen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the short way or the long one."""
        is_short = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        await (self._short if is_short and _is_json(scope) else self._app)(scope, receive, send)

    async def _complete(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages = [await receive()]
        while messages[-1].get("more_body", False):
            messages.append(await receive())
        body = _valid(b"".join(message.get("body", b"") for message in messages))
        if body is None:
            await self._app(scope, _again(messages, receive), send)
            return
        request = Request(scope, receive)
        response = await create_completion(
            body,
            request,
            await engine_of(request),
            await settings_of(request),
            await caller_of(request),
        )
        await response(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    return any(name == b"content-type" and value in JSON for name, value in scope["headers"])


def _valid(body: bytes) -> ChatBody | None:
    """Read a body; None where anything is wrong with it, or it was cut off."""
    try:
        return ChatBody.model_validate(from_json(body, allow_inf_nan=False))
    except (ValidationError, ValueError):
        return None


def _again(messages: list[Message], receive: Receive) -> Receive:
    """Give what was received once more, then what comes."""
    waiting = iter(messages)

    async def replay() -> Message:
        return next(waiting, None) or await receive()

    return replay
