"""Texts to vectors: what is asked, who answers, and the two encodings of what comes.

What an upstream answers is taken in either encoding and given in the one that was asked for, so
that a client gets what it wants from a server that knows floats alone.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cost_models.types import Usage
from router.errors import ProviderError
from router.providers.base import utf8_length
from router.providers.usage import BYTES_PER_TOKEN_ESTIMATE, normalised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.providers.base import Tally

Inputs = tuple[str, ...] | tuple[tuple[int, ...], ...]
Vector = str | list[float]

TOKENS_PER_TEXT_BOUND = 16
"""Upper bound of the tokens that a model adds around one text."""

BASE64 = "base64"
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts, or texts as token ids, for vectors; ``encoding`` is ``float`` or ``base64``.

    Base64 is of little-endian 32-bit floats, as OpenAI's. ``dimensions`` None is the model's own.
    """

    inputs: Inputs
    encoding: str = "float"
    dimensions: int | None = None

    @property
    def bound_tokens(self) -> int:
        """Upper bound of what is billed: no token is shorter than a byte."""
        return sum(_size(text) + TOKENS_PER_TEXT_BOUND for text in self.inputs)

    def estimated(self) -> Usage:
        """Estimate what a call used of which nobody says it, on the high side."""
        counts = (
            -(-_size(text) // BYTES_PER_TOKEN_ESTIMATE) if isinstance(text, str) else len(text)
            for text in self.inputs
        )
        return Usage(n_calls=1, prompt_tokens=sum(counts), estimated=True)


class Embedder(Protocol):
    """One embedding model, shown to clients as ``model``."""

    model: str

    async def embed(self, request: EmbeddingRequest, tally: Tally) -> tuple[Vector, ...]:
        """Give one vector for each input, in their order; ProviderError, ``tally`` up to date."""
        ...

    async def aclose(self) -> None:
        """Free connections. Idempotent."""
        ...


def _size(text: str | tuple[int, ...]) -> int:
    return utf8_length(text) if isinstance(text, str) else len(text)


def read_vectors(
    model: str, reply: Mapping[str, Any], request: EmbeddingRequest, tally: Tally
) -> tuple[Vector, ...]:
    """Give the vectors of a reply in the order of the inputs."""
    tally.settle(normalised(reply.get("usage")) or request.estimated())
    data = reply.get("data")
    if not isinstance(data, list) or len(data) != len(request.inputs):
        raise ProviderError(model, f"the upstream gave no {len(request.inputs)} vectors")
    found: dict[int, Vector] = {}
    for i, item in enumerate(data):
        try:
            found[int(item.get("index", i))] = encoded(item["embedding"], request.encoding)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProviderError(model, f"vector {i} of the upstream is malformed") from error
    if sorted(found) != list(range(len(data))):
        raise ProviderError(model, "the upstream's vectors are not numbered from 0")
    return tuple(found[i] for i in range(len(data)))


def encoded(vector: object, encoding: str) -> Vector:
    """Give a vector in an encoding, whichever it came in; ValueError for what is no vector."""
    if isinstance(vector, str):
        try:
            packed = base64.b64decode(vector, validate=True)
        except binascii.Error as error:
            msg = "no base64"
            raise ValueError(msg) from error
        if not packed or len(packed) % FLOAT_BYTES:
            msg = "no whole number of floats"
            raise ValueError(msg)
        return vector if encoding == BASE64 else _swapped(array("f", packed)).tolist()
    if not isinstance(vector, list) or not vector:
        msg = "no list of numbers"
        raise ValueError(msg)
    values = [float(value) for value in vector]
    if not all(map(math.isfinite, values)):
        msg = "a number is not finite"
        raise ValueError(msg)
    if encoding != BASE64:
        return values
    return base64.b64encode(_swapped(array("f", values)).tobytes()).decode()


def _swapped(values: array[float]) -> array[float]:
    """Turn between little-endian and this machine's order."""
    if sys.byteorder == "big":
        values.byteswap()
    return values
