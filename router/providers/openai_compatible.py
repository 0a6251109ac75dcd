"""A client for any server that speaks OpenAI's chat completions.

With `reward` the only door to aiohttp's client.

Upstreams differ in what they accept. A field that one refuses as unsupported is left out from
then on (``max_tokens`` becomes ``max_completion_tokens``); a refused request costs nothing, so
it is sent again at once.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from cost_models.types import Usage
from router.errors import ConfigError, ProviderError, RequestError
from router.json_codec import dumps
from router.providers import wire
from router.providers.event_lines import EventLines
from router.providers.fan_out import draw_each
from router.providers.retries import ConnectTimeoutError, UnreachableError
from router.providers.timeouts import Patience, Phase, Timeouts
from router.providers.usage import estimated, normalised, prompt_bound

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Mapping,
        Sequence,
    )

    from router.providers.base import Tally
    from router.types import Chunk, Message, Sample, SampleRequest

T = TypeVar("T")

KEEP_ALIVE_S = 4.0
"""Below the 5 s after which common Python servers close an idle connection: a request sent into
a closing connection may have been billed, so it could not be sent again."""

MAX_CONNECTIONS = 512
MAX_REPLY_BYTES = 64 << 20
ERROR_BODY_S = 5.0
"""Seconds to wait for what an error says; its status is known by then."""

MAX_SAID_CHARS = 300
HTTP_OK = 200
REFUSALS = frozenset({400, 422})
ADAPTABLE = ("max_tokens", "n", "stream_options", "temperature", "top_p", "seed")
UNSUPPORTED = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|not permitted", re.IGNORECASE
)


class OpenAICompatibleProvider:
    """One model of one server, over a pool of kept-alive connections opened at first use.

    ``upstream_model`` is what the server calls the model, ``base_url`` the address that ends in
    ``/v1`` or the like. ``native_n`` says that the server gives n completions for one prompt; a
    server that turns out not to is asked n times instead, from its next call on.
    """

    def __init__(  # noqa: PLR0913 - what to call, where, and how; each of the last with a default
        self,
        model: str,
        upstream_model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        native_n: bool = True,
        timeouts: Timeouts | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = f"base_url of model {model!r} must be an http(s) address, got {base_url!r}"
            raise ConfigError(msg)
        self.model = model
        self.native_n = native_n
        self._upstream_model = upstream_model
        self._url = URL(
            base_url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        )
        self._shown_url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._api_key = api_key
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeouts = timeouts or Timeouts()
        self._refused: set[str] = set()
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"OpenAICompatibleProvider({self.model!r} at {self._shown_url})"

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Bound the prompt by its bytes and its images."""
        return prompt_bound(messages)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw completions, in one call where the server can, else in n calls side by side.

        Raises RequestError for a field that cannot be forwarded, ProviderError otherwise.
        """
        tally.settle(Usage())
        wire.check(request)
        if request.n > 1 and not self.native_n:
            return await draw_each(request, tally, self._draw)
        samples = await self._draw(request, tally)
        if len(samples) < request.n:
            self.native_n = False
        return samples

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield one completion as it arrives; closing the iterator early hangs up."""
        tally.settle(Usage())
        wire.check(request)
        if request.n != 1:
            msg = f"one completion is streamed at a time, got n={request.n}"
            raise RequestError(msg, param="n")
        texts: list[str] = []
        finished = False
        usage = None
        lines = EventLines()
        with Patience(self._timeouts, streamed=True) as patience:
            response = await self._open(request, tally, patience, stream=True)
            async with response, aclosing(self._blocks(response, patience)) as blocks:
                async for block in blocks:
                    for data in lines.feed(block):
                        reported, chunk = self._event(data, tally)
                        usage = reported or usage
                        finished = finished or (
                            chunk is not None and chunk.finish_reason is not None
                        )
                        if finished and reported is not None:
                            tally.settle(reported)
                        if chunk is None:
                            continue
                        texts += wire.texts_of(chunk)
                        yield chunk
                        patience.heard(chunk)
                    if lines.ended:
                        break
        if not finished:
            raise ProviderError(self.model, "the stream ended before the completion did")
        tally.settle(usage or estimated(request, ["".join(texts)]))

    async def aclose(self) -> None:
        """Close the connections. Idempotent; a later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _draw(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        with Patience(self._timeouts, streamed=False) as patience:
            response = await self._open(request, tally, patience, stream=False)
            async with response:
                body = b"".join([block async for block in self._blocks(response, patience)])
        try:
            reply = wire.to_object(body)
            self._raise_told(reply, tally)
            usage = normalised(reply.get("usage"))
            if usage is not None:
                tally.settle(usage)
            samples = wire.to_samples(reply, usage.completion_tokens if usage is not None else 0)
        except (ValueError, RecursionError) as error:
            raise self._malformed(error) from error
        if usage is None:
            tally.settle(estimated(request, [s.text + (s.reasoning or "") for s in samples]))
        return samples

    async def _open(
        self, request: SampleRequest, tally: Tally, patience: Patience, *, stream: bool
    ) -> aiohttp.ClientResponse:
        """Send the request until the server takes its fields; give its reply, status 200."""
        while True:
            body = self._body(request, stream=stream)
            tally.final = False
            try:
                response = await self._wait(self._post(body), patience)
            except UnreachableError:
                tally.settle(Usage())
                raise
            if response.status == HTTP_OK:
                return response
            async with response:
                said = await self._error_body(response, patience)
                tally.settle(Usage())
            field = _refused_field(response.status, said, body)
            if field is None:
                raise ProviderError(
                    self.model,
                    f"{self._shown_url} answered {response.status}: {self._shown(said)}",
                    status=response.status,
                    retry_after_s=wire.retry_after_s(response.headers),
                )
            self._refused.add(field)
            self.native_n = self.native_n and field != "n"

    def _body(self, request: SampleRequest, *, stream: bool) -> dict[str, Any]:
        body = wire.to_body(request, self._upstream_model)
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        cap = body["max_tokens"]
        body = {name: value for name, value in body.items() if name not in self._refused}
        return body if "max_tokens" in body else {**body, "max_completion_tokens": cap}

    async def _post(self, body: Mapping[str, Any]) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S
                ),
                timeout=aiohttp.ClientTimeout(sock_connect=self._timeouts.connect_s),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            return await self._session.post(
                self._url, data=dumps(body), headers=self._headers, allow_redirects=False
            )
        except aiohttp.ConnectionTimeoutError as error:
            msg = (
                f"no connection to {self._shown_url} within {self._timeouts.connect_s:g} s "
                "(connect_s); is the address right?"
            )
            raise ConnectTimeoutError(self.model, msg, phase=Phase.CONNECT) from error
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or str(error.os_error)
            msg = f"cannot connect to {self._shown_url}: {why.lower()}; is the server running?"
            raise UnreachableError(self.model, msg) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from error

    def _event(self, data: bytes, tally: Tally) -> tuple[Usage | None, Chunk | None]:
        """Read one event of a stream: the usage that it reports, and its piece of the reply."""
        try:
            event = wire.to_object(data)
            self._raise_told(event, tally)
            return normalised(event.get("usage")), wire.to_chunk(event)
        except (ValueError, RecursionError) as error:
            raise self._malformed(error) from error

    async def _blocks(
        self, response: aiohttp.ClientResponse, patience: Patience
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives."""
        n_bytes = 0
        while block := await self._wait(response.content.readany(), patience):
            n_bytes += len(block)
            if n_bytes > MAX_REPLY_BYTES:
                raise ProviderError(self.model, f"the reply is above {MAX_REPLY_BYTES} bytes")
            yield block

    async def _error_body(self, response: aiohttp.ClientResponse, patience: Patience) -> str:
        body = b""
        with suppress(ProviderError, TimeoutError):
            async with asyncio.timeout(ERROR_BODY_S):
                async for block in self._blocks(response, patience):
                    body += block
        return body.decode(errors="replace")

    async def _wait(self, work: Awaitable[T], patience: Patience) -> T:
        """Await ``work`` for as long as there is patience."""
        try:
            with patience.waiting():
                return await work
        except TimeoutError as error:
            raise patience.late(self.model, self._shown_url) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> ProviderError:
        msg = f"lost the connection to {self._shown_url} ({type(error).__name__})"
        return ProviderError(self.model, msg)

    def _malformed(self, error: Exception) -> ProviderError:
        msg = f"{self._shown_url} sent a malformed reply: {self._shown(str(error))}"
        return ProviderError(self.model, msg)

    def _raise_told(self, reply: Mapping[str, Any], tally: Tally) -> None:
        """Raise the error that some upstreams send with status 200."""
        error = reply.get("error")
        if not error or reply.get("choices"):
            return
        code = error.get("code") if isinstance(error, dict) else None
        tally.settle(normalised(reply.get("usage")) or Usage())
        raise ProviderError(
            self.model,
            f"{self._shown_url} answered an error: {self._shown(json.dumps(reply))}",
            status=code if isinstance(code, int) else None,
        )

    def _shown(self, said: str) -> str:
        """Give what the upstream said, short, on one line, without the key."""
        with suppress(ValueError, RecursionError):
            said = _message(json.loads(said)) or said
        if self._api_key:
            said = said.replace(self._api_key, "***")
        said = " ".join(said.split())
        return said[:MAX_SAID_CHARS] or "nothing"


def _message(body: object) -> str | None:
    """Find the message in an error body of one of the usual forms."""
    for name in ("error", "message", "detail"):
        found = body.get(name) if isinstance(body, dict) else None
        if isinstance(found, str):
            return found
        if isinstance(found, dict):
            return _message(found)
    return None


def _refused_field(status: int, said: str, body: Mapping[str, Any]) -> str | None:
    """Name the field of ``body`` that the server does not support, None for any other error."""
    if status not in REFUSALS:
        return None
    for field in ADAPTABLE:
        if field not in body or not re.search(rf"""["'`]{field}["'`]""", said):
            continue
        if field == "max_tokens" and "max_completion_tokens" not in said:
            continue
        if field == "n" or UNSUPPORTED.search(said):
            return field
    return None
