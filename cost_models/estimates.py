"""Expected and worst-case cost of a call before it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cost_models.money import to_nano_usd
from cost_models.types import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cost_models.pricing import Price

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CallBound:
    """The most that one call can consume.

    ``prompt_tokens`` is an upper bound; each of ``n_samples`` completions has at most
    ``max_tokens`` tokens. ``own_nano_usd`` is the most that a call to another server than the
    model's can cost at that server's price; None for a call of the model.
    """

    prompt_tokens: int
    max_tokens: int
    n_samples: int = 1
    own_nano_usd: int | None = None


@dataclass(frozen=True, slots=True)
class Throughput:
    """Tokens per second of one model on one owned machine, measured; both > 0.

    ``worst_case_slowdown`` >= 1 is how much slower than measured a call may run before it is
    stopped: the hold covers that much time.
    """

    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    worst_case_slowdown: float = 4.0

    def __post_init__(self) -> None:
        if min(self.prompt_tokens_per_s, self.completion_tokens_per_s) <= 0:
            msg = f"throughput must be above 0 tokens per second, got {self!r}"
            raise ValueError(msg)
        if self.worst_case_slowdown < 1:
            msg = f"worst_case_slowdown must be at least 1, got {self.worst_case_slowdown}"
            raise ValueError(msg)

    def expected_s(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Busy seconds for a call with these token counts, at the measured speed."""
        return (
            prompt_tokens / self.prompt_tokens_per_s
            + completion_tokens / self.completion_tokens_per_s
        )

    def worst_case_s(self, call: CallBound, *, native_n: bool) -> float:
        """Busy seconds after which ``call`` is stopped."""
        prompts = call.prompt_tokens * (1 if native_n else call.n_samples)
        expected = self.expected_s(prompts, call.max_tokens * call.n_samples)
        return self.worst_case_slowdown * expected


def worst_case_usage(call: CallBound, throughput: Throughput | None, *, native_n: bool) -> Usage:
    """Bound what ``call`` can use; ``throughput`` is None for a model paid by token."""
    machine_s = throughput.worst_case_s(call, native_n=native_n) if throughput else 0.0
    return Usage(
        n_calls=1 if native_n else call.n_samples,
        prompt_tokens=call.prompt_tokens * (1 if native_n else call.n_samples),
        completion_tokens=call.max_tokens * call.n_samples,
        machine_ns=int(machine_s * NS_PER_S) + 1 if throughput else 0,
        estimated=True,
    )


def worst_case_nano_usd(
    price: Price, calls: Iterable[CallBound], throughput: Throughput | None, *, native_n: bool
) -> int:
    """Whole nano-USD to hold for ``calls``: each rounded up, as each is settled."""
    return sum(
        to_nano_usd(price.worst_case_usd(worst_case_usage(call, throughput, native_n=native_n)))
        if call.own_nano_usd is None
        else call.own_nano_usd
        for call in calls
    )


def expected_usd(
    price: Price,
    throughput: Throughput | None,
    *,
    prompt_tokens: float,
    completion_tokens: float,
) -> float:
    """Predicted cost in USD (float: a prediction, not money owed) from predicted tokens."""
    usd = float(price.input_usd_per_million_tokens) * prompt_tokens / 1e6
    usd += float(price.output_usd_per_million_tokens) * completion_tokens / 1e6
    usd += float(price.usd_per_request)
    if throughput is not None:
        busy_s = throughput.expected_s(prompt_tokens, completion_tokens)
        usd += float(price.usd_per_machine_hour) * busy_s / 3600
    return usd
