"""Embeddings by litellm, against a real server; those asked directly are in `end_to_end`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cost_models.types import Usage
from router.errors import ProviderError
from router.providers.base import Tally
from router.providers.embedders import LiteLLMEmbedder, OpenAICompatibleEmbedder, build_embedder
from router.providers.embeddings import EmbeddingRequest, encoded

if TYPE_CHECKING:
    from upstream import Upstream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # litellm's own
]

HALVES = "AACAPwAAAD8="
"""[1.0, 0.5] as base64 of two floats."""


async def test_litellm_gives_vectors_and_their_usage(upstream: Upstream) -> None:
    """In the order of the texts, and errors with nothing billed."""
    embedder = build_embedder(
        "embed", "openai/embedding-model", base_url=upstream.base_url, api_key="k"
    )
    assert isinstance(embedder, OpenAICompatibleEmbedder)
    other = LiteLLMEmbedder(
        "embed", "openai/embedding-model", base_url=upstream.base_url, api_key="sk-canary"
    )
    assert isinstance(build_embedder("e", "cohere/embed-v4"), LiteLLMEmbedder)
    for each in (embedder, other):
        tally = Tally()
        vectors = await each.embed(EmbeddingRequest(("a", "four")), tally)
        assert vectors == ([1.0, 0.5], [4.0, 0.5])
        assert tally == Tally(Usage(1, 10), final=True)
        upstream.replies.append(upstream.error(400, "no"))
        tally = Tally()
        with pytest.raises(ProviderError):
            await each.embed(EmbeddingRequest(("a",)), tally)
        assert tally == Tally(Usage(), final=True)
        await each.aclose()


@pytest.mark.parametrize(
    "vector",
    [
        pytest.param("no base64!", id="no base64"),
        pytest.param("AAA=", id="no whole float"),
        pytest.param("", id="empty text"),
        pytest.param([], id="empty"),
        pytest.param([1.0, float("nan")], id="not a number"),
        pytest.param(["x"], id="text"),
        pytest.param(None, id="nothing"),
    ],
)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_what_is_no_vector_is_an_error(vector: object, encoding: str) -> None:
    """A client would compute with it."""
    with pytest.raises((ValueError, TypeError)):
        encoded(vector, encoding)


def test_either_encoding_is_made_of_either() -> None:
    """The same numbers."""
    for given in ([1.0, 0.5], HALVES):
        assert encoded(given, "float") == [1.0, 0.5]
        assert encoded(given, "base64") == HALVES
