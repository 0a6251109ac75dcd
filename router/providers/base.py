"""The provider protocol: one model, sampled or streamed, that says what it used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from cost_models.estimates import CallBound
from cost_models.money import to_nano_usd
from cost_models.types import TURNED_AWAY, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from decimal import Decimal

    from cost_models.pricing import Price
    from router.providers.retries import RetryBudget
    from router.types import CallRecord, CallRole, Chunk, Message, Sample, SampleRequest

T = TypeVar("T")

TOKENS_PER_MESSAGE_BOUND = 16
"""Upper bound of the template tokens around one message, over the chat templates in use."""

BYTES_PER_TOKEN = 4
"""Bytes of a usual token of English text, where only a bound by bytes is known."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """An attempt that failed, was certainly not billed, and was followed by another.

    ``deployment``, ``vendor`` and ``price_source`` are as in `Tally`, of where it was made.
    """

    error: str
    latency_s: float
    deployment: str = ""
    vendor: str = ""
    price_source: str = ""

    def record(self, call: CallRecord, price_source: str) -> CallRecord:
        """Give the record of the attempt, at a ``call`` of a model with that price."""
        return replace(
            call,
            usage=Usage(),
            cost_nano_usd=0,
            latency_s=self.latency_s,
            status=TURNED_AWAY,
            in_doubt=False,
            error=self.error,
            price_source=self.price_source or price_source,
            deployment=self.deployment,
            vendor=self.vendor,
        )


@dataclass(slots=True)
class Tally:
    """What one call has used, written by the provider as it learns it.

    ``final`` becomes True once the figures are the upstream's last word (also when it answered
    with an error that costs nothing). A call that ends with ``final`` False is in doubt and is
    charged at its worst case.

    ``retries`` is how often the request may still try again, None where it has no budget of its
    own, and ``elsewhere`` a deployment that is asked already. ``deployment`` and ``vendor`` say who
    was asked, where a model has several deployments;
    ``cost_usd`` and ``price_source`` what it cost there, where the deployment has its own price.
    ``turned_away`` are the attempts before the one that all of this is about.
    """

    usage: Usage = field(default_factory=Usage)
    final: bool = False
    retries: RetryBudget | None = None
    elsewhere: str | None = None
    deployment: str = ""
    vendor: str = ""
    cost_usd: Decimal | None = None
    price_source: str = ""
    turned_away: list[TurnedAway] = field(default_factory=list)

    def settle(self, usage: Usage) -> None:
        """Record the last word on what the call used."""
        self.usage = usage
        self.final = True


class Provider(Protocol):
    """One model behind one upstream. Retries, fan-out and vendor errors end here.

    ``model`` is the name shown to clients.
    """

    model: str

    @property
    def native_n(self) -> bool:
        """True when one call for n completions is billed for its prompt once."""
        ...

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Give an upper bound of the prompt tokens that ``messages`` are billed as."""
        ...

    async def sample(self, request: SampleRequest, tally: Tally) -> tuple[Sample, ...]:
        """Draw 1 to ``request.n`` completions; raise ProviderError, with ``tally`` up to date.

        Cancelling the task stops the upstream work; ``tally`` then holds what is known.
        """
        ...

    def stream(self, request: SampleRequest, tally: Tally) -> AsyncIterator[Chunk]:
        """Yield the pieces of one completion (``request.n`` must be 1) as they arrive."""
        ...

    async def aclose(self) -> None:
        """Free connections, threads and models. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class OutsideCall(Generic[T]):
    """One call to a server beside the request's model, at a price of its own.

    ``model`` and ``provider`` are what the ledger calls it. ``worst`` bounds what it can use;
    ``make`` makes it and says in the tally what it used.
    """

    model: str
    provider: str
    price: Price
    worst: Usage
    make: Callable[[Tally], Awaitable[T]]

    @property
    def bound(self) -> CallBound:
        """The call as it is held: at its own price, outside the model's context."""
        return CallBound(0, 0, own_nano_usd=to_nano_usd(self.price.worst_case_usd(self.worst)))


class Sampler(Protocol):
    """What a strategy sees of a metered model: samples, and calls beside it on the same meter."""

    model: str

    async def sample(self, request: SampleRequest, role: CallRole = ...) -> tuple[Sample, ...]:
        """Draw completions, or raise AllowanceExceededError before a call that does not fit."""
        ...

    async def outside(self, call: OutsideCall[T], role: CallRole) -> T:
        """Make a call to another server, admitted and counted like the model's own."""
        ...


def bytes_bound(messages: Sequence[Message]) -> int:
    """Upper bound of prompt tokens for byte-level tokenizers: a token covers at least one byte.

    Counts the UTF-8 bytes of every field that reaches the prompt plus
    ``TOKENS_PER_MESSAGE_BOUND`` for the template around each message. Images and audio are not
    covered: a provider that takes them adds its own bound.
    """
    total = TOKENS_PER_MESSAGE_BOUND
    for message in messages:
        total += TOKENS_PER_MESSAGE_BOUND + len(message.role) + utf8_length(message.text)
        for key, value in message.extra.items():
            total += len(str(key)) + utf8_length(str(value))
    return total


def utf8_length(text: str) -> int:
    """Length of ``text`` in UTF-8 bytes; a lone surrogate, which JSON can carry, counts too."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
