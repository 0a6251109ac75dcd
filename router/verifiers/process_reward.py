"""A process reward model behind HTTP: a trained judge of every step.

Sources: Lightman et al. (2023), arXiv:2305.20050; Snell et al. (2024), arXiv:2408.03314, for the
use of the last step's score.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from os import environ
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from cost_models.errors import PriceConfigError
from cost_models.estimates import NS_PER_S
from cost_models.pricing import Price
from cost_models.types import Usage
from router.errors import ProviderError, StrategyConfigError
from router.parameters import canonical, check, number, one_of
from router.providers.base import OutsideCall, bytes_bound, utf8_length
from router.providers.reward import PLAIN, VLLM, RewardModel
from router.types import CallRole, Message
from router.verifiers.base import Demands, Verdict, WithoutCalls
from router.verifiers.judge import last_bytes
from router.verifiers.steps import MAX_STEPS, aggregate, aggregation, split_steps

if TYPE_CHECKING:
    from cost_models.estimates import CallBound
    from router.providers.base import Sampler, Tally
    from router.types import Answer, Task

MAX_CARRIED_BYTES = 12_000
"""Most that the server is shown of an answer: its end. What is held follows from it."""

FREE = "free"
SOURCE = "config process_reward"
TOKENS, REQUEST, HOUR = "million tokens", "request", "machine hour"
PRICE = re.compile(
    rf"\s*(?P<usd>\d{{1,9}}(?:\.\d{{1,12}})?) per (?P<what>{TOKENS}|{REQUEST}|{HOUR})\s*"
)
HOW_PRICED = (
    "write price='free', or USD such as '0.2 per million tokens', '0.0001 per request' or "
    "'0.5 per machine hour', joined by + where there are several"
)


@dataclass(frozen=True, slots=True)
class ProcessRewardVerifier(WithoutCalls):
    """Ask the reward model ``model`` at ``url`` for the quality of every step.

    ``form`` is ``vllm`` (the server's address, without ``/pooling``) or ``plain``; see
    `router.providers.reward`. ``mark`` is the step separator of the model, for ``vllm`` alone.
    ``key_variable`` names the environment variable that holds the server's key: a key itself would
    be part of an arm's name. ``price`` says in words what a call costs, see `price_of`; its calls
    are on the request's meter, held, capped and in the ledger like those of a model. An answer is
    judged by its last `MAX_CARRIED_BYTES` bytes. ``verify`` raises ProviderError when the server
    fails.
    """

    grader: ClassVar[str] = "process_reward"
    title: ClassVar[str] = "a process reward model behind HTTP judges every step"
    demands: ClassVar[Demands] = Demands(service=True, per_step=True)

    url: str
    price: str
    model: str = "process-reward-model"
    form: str = one_of(VLLM, VLLM, PLAIN)
    mark: str = "<extra_0>"
    aggregation: str = aggregation()
    timeout_s: float = number(30.0, 0.0, 600.0, open_low=True)
    key_variable: str = ""

    def __post_init__(self) -> None:
        check(self)
        price_of(self.price)
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = f"process_reward: url must be an http(s) address, got {self.url!r}"
            raise StrategyConfigError(msg)
        if not self.mark:
            msg = "process_reward: mark must not be empty; it separates the steps"
            raise StrategyConfigError(msg)
        if self.key_variable and not self.key_variable.isidentifier():
            msg = (
                "process_reward: key_variable is the name of an environment variable, "
                "not the key itself"
            )
            raise StrategyConfigError(msg)

    def __str__(self) -> str:
        return canonical(self)

    def worst_case(self, task: Task, prompt_tokens: int) -> tuple[CallBound, ...]:  # noqa: ARG002 - its own tokenizer
        """Bound the one call by the bytes of the question and of as much as is read."""
        return (self._call(task, ("x" * MAX_CARRIED_BYTES, *[""] * MAX_STEPS)).bound,)

    async def verify(self, task: Task, answer: Answer, sampler: Sampler | None = None) -> Verdict:
        """Judge every step of the answer's text."""
        steps = split_steps(last_bytes(answer.text, MAX_CARRIED_BYTES))
        if sampler is None or not steps:
            return Verdict(None, "there is no meter to ask on" if steps else "there are no steps")
        call = self._call(task, steps, self._key())
        scores = await sampler.outside(call, CallRole.VERIFY)
        weakest = min(range(len(scores)), key=scores.__getitem__)
        reason = f"step {weakest + 1} is the weakest, at {scores[weakest]:.2f}"
        return Verdict(aggregate(scores, self.aggregation), reason, scores)

    def _call(
        self, task: Task, steps: tuple[str, ...], key: str = ""
    ) -> OutsideCall[tuple[float, ...]]:
        """Give the call about ``steps`` with its bound: a token has at least one byte."""
        n_bytes = sum(utf8_length(step) + utf8_length(self.mark) for step in steps)
        shown = (Message("user", task.text), Message("assistant", "x" * n_bytes))
        price = price_of(self.price)
        worst = Usage(
            n_calls=1,
            prompt_tokens=bytes_bound(shown),
            machine_ns=int(self.timeout_s * NS_PER_S) if price.owned else 0,
            estimated=True,
        )
        served = RewardModel(
            self.url,
            self.model,
            self.form,
            self.mark,
            self.timeout_s,
            key,
            owned=price.owned,
        )

        async def make(tally: Tally) -> tuple[float, ...]:
            return await served.score(task.text, steps, tally)

        return OutsideCall(self.model, urlsplit(self.url).netloc, price, worst, make)

    def _key(self) -> str:
        """Read the server's key; ProviderError where the variable that was named is not set."""
        if not self.key_variable:
            return ""
        key = environ.get(self.key_variable, "")
        if not key:
            msg = f"the environment variable {self.key_variable} with its key is not set"
            raise ProviderError(self.model, msg)
        return key


@lru_cache(maxsize=64)
def price_of(text: str) -> Price:
    """Read a price in words; StrategyConfigError says how to write one.

    ``free``, or USD: ``0.2 per million tokens``, ``0.0001 per request``, ``0.5 per machine hour``,
    with ``+`` between several. Tokens are those of the prompt: a reward model writes none.
    """
    if text.strip() == FREE:
        return Price(free=True, source=SOURCE)
    usd: dict[str, Decimal] = {}
    for part in text.split("+"):
        found = PRICE.fullmatch(part)
        if found is None or found["what"] in usd:
            msg = f"process_reward: {text!r} is no price; {HOW_PRICED}"
            raise StrategyConfigError(msg)
        usd[found["what"]] = Decimal(found["usd"])
    nothing = Decimal(0)
    try:
        return Price(
            input_usd_per_million_tokens=usd.get(TOKENS, nothing),
            usd_per_request=usd.get(REQUEST, nothing),
            usd_per_machine_hour=usd.get(HOUR, nothing),
            source=SOURCE,
        )
    except PriceConfigError as error:
        msg = f"process_reward: {error}; {HOW_PRICED}"
        raise StrategyConfigError(msg) from error
