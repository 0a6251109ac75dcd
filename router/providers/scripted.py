"""A provider that says what its script says: the double that tests and examples run on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cost_models.errors import RheostatError
from cost_models.types import Usage
from router.errors import ProviderError, RequestError
from router.providers.base import bytes_bound
from router.types import Chunk, Sample, SampleRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Any

    from router.providers.base import Tally
    from router.types import Message


@dataclass(frozen=True, slots=True)
class Reply:
    """One completion of a script.

    A text longer than the request's ``max_tokens`` words is cut there, as an upstream would;
    each word counts as one token. ``delay_s`` passes before the first word. With ``error``, the
    call fails: a stream after its text, a sample at once. ``usage`` replaces the counted usage
    of the whole call; ``reports_usage`` False leaves the call in doubt.
    """

    text: str = ""
    finish_reason: str = "stop"
    delay_s: float = 0.0
    error: RheostatError | None = None
    usage: Usage | None = None
    reports_usage: bool = True
    mean_logprob: float | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    refusal: str | None = None


Scripted = Reply | str | RheostatError
Script = Iterable[Scripted] | Callable[[SampleRequest, int], Scripted]


class ScriptedProvider:
    """Replies from a list, in order, or from a function of the request.

    A function is told the request and the number of the completion within the call, from 0. A
    list that is used up is a ProviderError. ``requests`` keeps what was asked. Where one reply of
    a call is an error the completions before it are given, and the error when there are none.
    """

    def __init__(self, script: Script, model: str = "scripted", *, native_n: bool = True) -> None:
        self.model = model
        self.native_n = native_n
        self.requests: list[SampleRequest] = []
        self._ask = script if callable(script) else None
        self._queue: deque[Scripted] = deque() if callable(script) else deque(script)

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Bound the prompt by its bytes."""
        return bytes_bound(messages)

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw the next replies; they run side by side, so the longest delay passes."""
        self.requests.append(request)
        replies, error = self._take(request)
        await asyncio.sleep(max((reply.delay_s for reply in replies), default=0.0))
        samples = tuple(
            _to_sample(reply, request.max_tokens) for reply in replies if not reply.error
        )
        self._settle(request, tally, replies, samples)
        if error is not None and not samples:
            raise error
        return samples

    async def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield the next reply word by word."""
        if request.n != 1:
            msg = f"one completion is streamed at a time, got n={request.n}"
            raise RequestError(msg, param="n")
        self.requests.append(request)
        replies, error = self._take(request)
        reply = replies[0] if replies else Reply()
        await asyncio.sleep(reply.delay_s)
        sample = _to_sample(reply, request.max_tokens)
        if error is None or sample.text:
            yield Chunk({"role": "assistant", "content": ""})
        for i, word in enumerate(sample.text.split(" ") if sample.text else ()):
            await asyncio.sleep(0)
            yield Chunk({"content": word if i == 0 else f" {word}"})
        self._settle(request, tally, replies, (sample,) if error is None else ())
        if error is not None:
            raise error
        last = {"tool_calls": list(sample.tool_calls)} if sample.tool_calls else {}
        yield Chunk(last, finish_reason=sample.finish_reason)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _take(self, request: SampleRequest) -> tuple[list[Reply], RheostatError | None]:
        """Take up to ``request.n`` replies, ending with the first that is an error."""
        replies: list[Reply] = []
        for i in range(request.n):
            scripted = self._next(request, i)
            if isinstance(scripted, str):
                scripted = Reply(scripted)
            elif isinstance(scripted, RheostatError):
                scripted = Reply(error=scripted)
            replies.append(scripted)
            if scripted.error is not None:
                return replies, scripted.error
        return replies, None

    def _next(self, request: SampleRequest, i: int) -> Scripted:
        if self._ask is not None:
            return self._ask(request, i)
        if not self._queue:
            return ProviderError(self.model, "the script has no reply left; add one per completion")
        return self._queue.popleft()

    def _settle(
        self,
        request: SampleRequest,
        tally: Tally,
        replies: Sequence[Reply],
        samples: Sequence[Sample],
    ) -> None:
        if not all(reply.reports_usage for reply in replies):
            return
        told = next((reply.usage for reply in replies if reply.usage is not None), None)
        tally.settle(told or (self._counted(request, samples) if samples else Usage()))

    def _counted(self, request: SampleRequest, samples: Sequence[Sample]) -> Usage:
        n_prompts = 1 if self.native_n else len(samples)
        n_words = sum(len(message.text.split()) for message in request.messages)
        return Usage(
            n_calls=n_prompts,
            prompt_tokens=n_prompts * n_words,
            completion_tokens=sum(sample.n_tokens for sample in samples),
        )


def _to_sample(reply: Reply, max_tokens: int) -> Sample:
    words = reply.text.split(" ") if reply.text else []
    cut = len(words) > max_tokens
    return Sample(
        text=" ".join(words[:max_tokens]) if cut else reply.text,
        finish_reason="length" if cut else reply.finish_reason,
        n_tokens=min(len(words), max_tokens),
        mean_logprob=reply.mean_logprob,
        tool_calls=reply.tool_calls,
        refusal=reply.refusal,
    )
