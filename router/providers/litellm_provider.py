"""Every vendor that litellm speaks to. The only door to litellm, which is loaded at first use.

Its own retries, fallbacks, callbacks, message logging and downloads are off: what is asked here
is what is sent, once.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import re
import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from cost_models.types import Usage
from router.errors import ProviderError, RequestError
from router.providers import wire
from router.providers.fan_out import draw_each
from router.providers.retries import ConnectTimeoutError, UnreachableError
from router.providers.timeouts import Patience, Phase, Timeouts
from router.providers.usage import estimated, normalised, prompt_bound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from router.providers.base import Tally
    from router.types import Chunk, Message, Sample, SampleRequest

MAX_SAID_CHARS = 300
NATIVE_N = frozenset({"openai", "azure"})
"""Vendors that bill n completions of one prompt once."""

SENDS_ADDRESSES = frozenset({"openai", "azure"})
"""Vendors to whom an image's address is sent; for others litellm would fetch it from here."""

SAMPLING = ("temperature", "top_p", "seed")
"""Fields left out for a model that does not know them; any other unknown field is an error."""

OWN_MEANING = "metadata"
"""A field that litellm reads itself instead of sending it."""

CLIENT_ERRORS = range(400, 500)
TIMEOUT_STATUS = 408


class LiteLLMProvider:
    """One model of one vendor; ``upstream_model`` is litellm's form, ``VENDOR/MODEL``.

    ``timeouts`` bound a call's phases, in so far as litellm's client of the vendor tells them apart
    before the reply begins. ``further`` are more arguments of ``acompletion`` that the
    operator sets, such as ``api_version``.
    """

    def __init__(  # noqa: PLR0913 - what to call, where, and how; each of the last with a default
        self,
        model: str,
        upstream_model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeouts: Timeouts | None = None,
        further: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.native_n = upstream_model.partition("/")[0] in NATIVE_N
        self._upstream_model = upstream_model
        self._api_key = api_key
        self._timeouts = timeouts or Timeouts()
        self._unknown: set[str] = set()
        self._settings = {
            **(further or {}),
            **({"base_url": base_url} if base_url else {}),
            **({"api_key": api_key} if api_key else {}),
            "num_retries": 0,
            "max_retries": 0,
        }

    def __repr__(self) -> str:
        return f"LiteLLMProvider({self.model!r}, {self._upstream_model!r})"

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Bound the prompt by its bytes and its images."""
        return prompt_bound(messages)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw completions, in one call where the vendor bills the prompt once, else in n calls.

        Raises RequestError for a field that cannot be forwarded, ProviderError otherwise.
        """
        tally.settle(Usage())
        wire.check(request)
        self._check_addresses(request)
        if request.n > 1 and not self.native_n:
            return await draw_each(request, tally, self._draw)
        return await self._draw(request, tally)

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield one completion as it arrives; closing the iterator early hangs up."""
        tally.settle(Usage())
        wire.check(request)
        self._check_addresses(request)
        if request.n != 1:
            msg = f"one completion is streamed at a time, got n={request.n}"
            raise RequestError(msg, param="n")
        texts: list[str] = []
        finished = False
        usage = None
        with Patience(self._timeouts, streamed=True) as patience:
            reply = await self._open(request, tally, patience, stream=True)
            try:
                while (piece := await self._next(reply, patience)) is not None:
                    event = piece.model_dump(exclude_none=True)
                    usage = normalised(event.get("usage")) or usage
                    with self._reading():
                        chunk = wire.to_chunk(event)
                    if chunk is None or not (chunk.delta or chunk.finish_reason):
                        continue
                    texts += wire.texts_of(chunk)
                    finished = finished or chunk.finish_reason is not None
                    yield chunk
                    patience.heard(chunk)
            finally:
                await _hang_up(reply)
        if not finished:
            raise ProviderError(self.model, "the stream ended before the completion did")
        tally.settle(usage or estimated(request, ["".join(texts)]))

    async def aclose(self) -> None:
        """Close litellm's shared connections, if it was loaded. Idempotent."""
        if library.cache_info().currsize:
            litellm = library()
            await litellm.close_litellm_async_clients()
            litellm.in_memory_llm_clients_cache.flush_cache()

    async def _draw(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        with Patience(self._timeouts, streamed=False) as patience:
            completion = await self._open(request, tally, patience, stream=False)
        reply = completion.model_dump()
        usage = normalised(reply.get("usage"))
        n_tokens = usage.completion_tokens if usage is not None else 0
        with self._reading():
            samples = wire.to_samples(reply, n_tokens)
        if usage is None:
            usage = estimated(request, [s.text + (s.reasoning or "") for s in samples])
        tally.settle(usage)
        return samples

    async def _open(
        self, request: SampleRequest, tally: Tally, patience: Patience, *, stream: bool
    ) -> Any:  # noqa: ANN401 - litellm's objects
        """Send the request, without the sampling fields that the model does not know."""
        litellm = await asyncio.to_thread(library)
        body = wire.to_body(request, self._upstream_model)
        body.pop(OWN_MEANING, None)
        limits = self._timeouts
        httpx = importlib.import_module("httpx")
        body["timeout"] = httpx.Timeout(limits.total_s, connect=limits.connect_s)
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        while True:
            known = {name: value for name, value in body.items() if name not in self._unknown}
            tally.final = False
            try:
                with patience.waiting():
                    return await litellm.acompletion(**known, **self._settings)
            except litellm.UnsupportedParamsError as error:
                tally.settle(Usage())
                unknown = {name for name in SAMPLING if name in known and _names(str(error), name)}
                if not unknown:
                    raise ProviderError(self.model, self._shown(error), status=400) from error
                self._unknown |= unknown
            except _failures() as error:
                translated, answered = self._translated(error, patience)
                if answered:
                    tally.settle(Usage())
                raise translated from error

    def _check_addresses(self, request: SampleRequest) -> None:
        """Raise RequestError for an image that would be fetched from here."""
        if self._upstream_model.partition("/")[0] in SENDS_ADDRESSES:
            return
        for i, message in enumerate(request.messages):
            parts = () if isinstance(message.content, str) else message.content or ()
            for part in parts:
                image = part.get("image_url")
                address = image.get("url") if isinstance(image, dict) else image
                if image is not None and not str(address).startswith("data:"):
                    msg = (
                        f"messages[{i}] has an image by its address, which is not fetched here; "
                        "send it as data:image/...;base64,..."
                    )
                    raise RequestError(msg, param="messages", code="invalid_value")

    async def _next(self, reply: Any, patience: Patience) -> Any:  # noqa: ANN401 - litellm's objects
        """Give the next piece of a stream, None at its end."""
        try:
            with patience.waiting():
                return await anext(reply, None)
        except _failures() as error:
            raise self._translated(error, patience)[0] from error

    def _translated(self, error: Exception, patience: Patience) -> tuple[ProviderError, bool]:
        """Give our error for litellm's, and whether it is certain that nothing was billed.

        litellm makes up a status where the vendor gave none; only one that came over the wire
        is believed.
        """
        openai, httpx = importlib.import_module("openai"), importlib.import_module("httpx")
        chain = _chain(error)
        if any(isinstance(e, httpx.ConnectTimeout) for e in chain):
            msg = f"no connection to the vendor within {self._timeouts.connect_s:g} s (connect_s)"
            return ConnectTimeoutError(self.model, msg, phase=Phase.CONNECT), True
        if any(isinstance(e, httpx.ConnectError) for e in chain):
            msg = "no connection to the vendor; is the address right and the network up?"
            return UnreachableError(self.model, msg), True
        if any(isinstance(e, TimeoutError | openai.APITimeoutError) for e in chain):
            return patience.late(self.model, "the vendor"), False
        status = getattr(error, "status_code", None)
        answered = any(
            isinstance(e, httpx.HTTPStatusError)
            or (isinstance(e, openai.APIStatusError) and type(e).__module__.startswith("openai"))
            for e in chain[1:]
        ) or (status in CLIENT_ERRORS and status != TIMEOUT_STATUS)
        waits = (wire.retry_after_s(_headers(e)) for e in chain)
        return (
            ProviderError(
                self.model,
                self._shown(error),
                status=status if answered else None,
                retry_after_s=next((wait for wait in waits if wait is not None), None),
            ),
            answered,
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise ProviderError where the vendor sent nonsense."""
        try:
            yield
        except ValueError as error:
            msg = f"the vendor sent a malformed reply: {error}"
            raise ProviderError(self.model, msg) from error

    def _shown(self, error: Exception) -> str:
        said = " ".join(str(error).split())
        if self._api_key:
            said = said.replace(self._api_key, "***")
        return said[:MAX_SAID_CHARS]


@cache
def library() -> Any:  # noqa: ANN401 - a module without types
    """Load litellm, which takes seconds, with everything off that we do not use."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no download when it is imported
    warnings.filterwarnings("ignore", "Item .* on TypedDict class", UserWarning)
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.drop_params = False
    litellm.callbacks = []
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    return litellm


@cache
def _failures() -> tuple[type[Exception], ...]:
    """Give what a failing call raises, whichever library under litellm it comes from."""
    openai, httpx = importlib.import_module("openai"), importlib.import_module("httpx")
    return openai.OpenAIError, httpx.HTTPError, TimeoutError, OSError


def _chain(error: BaseException) -> list[BaseException]:
    """Give the error and everything it came from."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return chain


def _headers(error: BaseException) -> Mapping[str, str]:
    """Give the headers of the reply behind an error; litellm keeps them in different places."""
    response = getattr(error, "response", None)
    return {
        **(getattr(error, "headers", None) or {}),
        **(getattr(response, "headers", None) or {}),
    }


def _names(said: str, field: str) -> bool:
    return re.search(rf"\b{field}\b", said) is not None


async def _hang_up(reply: Any) -> None:  # noqa: ANN401 - litellm's objects
    """Close a stream that may not have been read to its end."""
    if hasattr(reply, "aclose"):
        await reply.aclose()
