"""A provider that gives recorded samples of one query, in order: a strategy run on the past."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from cost_models.types import Usage
from router.errors import ProviderError, RequestError
from router.providers.base import bytes_bound
from router.types import Chunk, Sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from router.providers.base import Tally
    from router.types import Message, SampleRequest


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded sample: the text to give, what it used, and whether it was right.

    ``cost_usd`` is NaN where it was not recorded.
    """

    text: str
    correct: bool
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = nan


class RecordedProvider:
    """Gives ``samples`` one after the other, whatever is asked; none left is a ProviderError.

    ``given`` keeps what was handed out, by text. A prompt is counted once a call.
    """

    native_n = True

    def __init__(self, model: str, samples: Sequence[Recorded]) -> None:
        self.model = model
        self.given: list[Recorded] = []
        self._samples = samples

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Bound the prompt by its bytes, or by what was recorded where that is more."""
        recorded = max((sample.prompt_tokens for sample in self._samples), default=0)
        return max(bytes_bound(messages), recorded)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Give the next samples, as many of ``request.n`` as are left."""
        at = len(self.given)
        drawn = self._samples[at : at + request.n]
        tally.settle(Usage())
        if not drawn:
            raise ProviderError(self.model, f"only {at} samples were recorded; ask for fewer")
        self.given.extend(drawn)
        tally.settle(
            Usage(
                n_calls=1,
                prompt_tokens=drawn[0].prompt_tokens,
                completion_tokens=sum(sample.completion_tokens for sample in drawn),
            )
        )
        return tuple(Sample(one.text, n_tokens=one.completion_tokens) for one in drawn)

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Give the next sample in one piece."""
        if request.n != 1:
            msg = f"a stream has one completion, got n={request.n}"
            raise RequestError(msg, param="n")
        (sample,) = await self.sample(request, tally)
        yield Chunk({"role": "assistant", "content": sample.text})
        yield Chunk({}, finish_reason=sample.finish_reason)

    async def aclose(self) -> None:
        """Nothing is open."""
