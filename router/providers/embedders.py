"""Who answers a request for embeddings: a server of OpenAI's form, or a vendor behind litellm."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from cost_models.types import Usage
from router.errors import ProviderError, ProviderTimeoutError
from router.providers import wire
from router.providers.embeddings import read_vectors
from router.providers.litellm_provider import LiteLLMProvider, library
from router.providers.registry import SEPARATOR, ProviderKind, provider_kind
from router.providers.retries import Retries, UnreachableError
from router.providers.timeouts import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.providers.base import Tally
    from router.providers.embeddings import Embedder, EmbeddingRequest, Vector

HTTP_OK = 200
MAX_REPLY_BYTES = 256 << 20
MAX_SAID_CHARS = 300
OWN_NAMES = {"base_url": "api_base"}
"""What litellm calls otherwise here than for completions."""


def build_embedder(
    name: str, model: str, *, base_url: str | None = None, api_key: str | None = None
) -> Embedder:
    """Make the embedder of ``model`` (litellm form), shown as ``name``; nothing is contacted."""
    if provider_kind(model, base_url) is ProviderKind.OPENAI_COMPATIBLE and base_url:
        upstream_model = model.partition(SEPARATOR)[2]
        return OpenAICompatibleEmbedder(name, upstream_model, base_url, api_key=api_key)
    return LiteLLMEmbedder(name, model, base_url=base_url, api_key=api_key)


class OpenAICompatibleEmbedder:
    """One embedding model of a server that speaks OpenAI's embeddings, at ``base_url``."""

    def __init__(  # noqa: PLR0913 - what to call, where, and how; each of the last with a default
        self,
        model: str,
        upstream_model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        retries: Retries | None = None,
    ) -> None:
        self.model = model
        self._upstream_model = upstream_model
        self._url = base_url.rstrip("/").removesuffix("/embeddings") + "/embeddings"
        self._api_key = api_key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=10.0)
        self._retries = retries or Retries()
        self._session: aiohttp.ClientSession | None = None

    async def embed(self, request: EmbeddingRequest, tally: Tally) -> tuple[Vector, ...]:
        """Ask for all vectors in one call."""
        tally.settle(Usage())
        reply = await self._retries.run(lambda: self._ask(request, tally), tally)
        return read_vectors(self.model, reply, request, tally)

    async def aclose(self) -> None:
        """Close the connections; a later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, request: EmbeddingRequest, tally: Tally) -> Mapping[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        body = {"model": self._upstream_model, **_fields(request)}
        tally.final = False
        try:
            async with self._session.post(
                self._url, json=body, headers=headers, allow_redirects=False
            ) as response:
                said = await response.content.read(MAX_REPLY_BYTES)
                if response.status == HTTP_OK and response.content.at_eof():
                    return wire.to_object(said)
        except TimeoutError as error:
            raise ProviderTimeoutError(self.model, "waited in vain for embeddings") from error
        except aiohttp.ClientConnectorError as error:
            tally.settle(Usage())
            raise UnreachableError(self.model, "cannot connect to the upstream") from error
        except (aiohttp.ClientError, OSError) as error:
            msg = f"lost the connection to the upstream ({type(error).__name__})"
            raise ProviderError(self.model, msg) from error
        except (ValueError, RecursionError) as error:
            raise ProviderError(self.model, "the upstream sent a malformed reply") from error
        if response.status == HTTP_OK:
            raise ProviderError(self.model, f"the reply is above {MAX_REPLY_BYTES} bytes")
        tally.settle(Usage())
        raise ProviderError(
            self.model,
            f"the upstream answered {response.status}: {self._shown(said)}",
            status=response.status,
            retry_after_s=wire.retry_after_s(response.headers),
        )

    def _shown(self, said: bytes) -> str:
        text = said.decode(errors="replace")
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            error = found.get("error") if isinstance(found, dict) else None
            text = str(error.get("message")) if isinstance(error, dict) else text
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return " ".join(text.split())[:MAX_SAID_CHARS] or "nothing"


class LiteLLMEmbedder(LiteLLMProvider):
    """One embedding model of any vendor that litellm speaks to."""

    async def embed(self, request: EmbeddingRequest, tally: Tally) -> tuple[Vector, ...]:
        """Ask for all vectors in one call."""
        tally.settle(Usage())
        reply = await Retries().run(lambda: self._ask_vectors(request, tally), tally)
        return read_vectors(self.model, reply, request, tally)

    async def aclose(self) -> None:
        """Do nothing: litellm keeps its own connections."""

    async def _ask_vectors(self, request: EmbeddingRequest, tally: Tally) -> Mapping[str, Any]:
        litellm = await asyncio.to_thread(library)
        settings = {OWN_NAMES.get(name, name): value for name, value in self._settings.items()}
        tally.final = False
        with Patience(self._timeouts, streamed=False) as patience:
            try:
                with patience.waiting():
                    reply = await litellm.aembedding(
                        model=self._upstream_model, **_fields(request), **settings
                    )
            except Exception as error:
                translated, answered = self._translated(error, patience)
                if answered:
                    tally.settle(Usage())
                raise translated from error
        read: Mapping[str, Any] = reply.model_dump()
        return read


def _fields(request: EmbeddingRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {"input": list(request.inputs), "encoding_format": request.encoding}
    return fields if request.dimensions is None else {**fields, "dimensions": request.dimensions}
