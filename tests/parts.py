"""Catalogs of scripted models, requests for them, and what they cost: parts of many tests."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

from cost_models.pricing import Price
from cost_models.types import Usage
from router.providers.base import bytes_bound
from router.providers.scripted import Reply, ScriptedProvider
from router.routing.catalog import Catalog, Model
from router.routing.types import AUTO, ChatRequest, Limits
from router.strategies.escalation import parse_escalation
from router.strategies.registry import parse_strategy
from router.types import Message, Task

if TYPE_CHECKING:
    from cost_models.estimates import Throughput
    from router.providers.scripted import Script
    from router.types import SampleRequest

PROMPT_NANO_USD = 1_000
"""Price of a prompt token of `PRICE`: 1 USD per million."""
OUTPUT_NANO_USD = 2_000
"""Price of a completion token of `PRICE`: 2 USD per million."""
TEXT = "what is 2 + 2 ?"
PROMPT_BOUND = 16 + 16 + len("user") + len(TEXT)
"""Bound of the prompt tokens of `TEXT`: bytes of role and text, and 16 around all and each."""
N_WORDS = 6
"""Prompt tokens of `TEXT` as the scripted provider counts them."""

_LIMITS = frozenset(field.name for field in fields(Limits))
_NAMES = (f"r{i}" for i in count())


def price(times: int = 1) -> Price:
    """Give the price of the tests, or so many times as much."""
    return Price(
        input_usd_per_million_tokens=Decimal(times),
        output_usd_per_million_tokens=Decimal(2 * times),
        source="test",
    )


PRICE = price()


def scripted(  # noqa: PLR0913 - the fields of a model
    name: str,
    script: Script = lambda _request, _i: "4",
    *,
    times: int = 1,
    throughput: Throughput | None = None,
    context_tokens: int | None = None,
    max_output_tokens: int | None = None,
    native_n: bool = True,
) -> Model:
    """Give a model that says what its script says."""
    return Model(
        name=name,
        provider=ScriptedProvider(script, name, native_n=native_n),
        price=price(times),
        throughput=throughput,
        context_tokens=context_tokens,
        max_output_tokens=max_output_tokens,
    )


def catalog(
    *models: Model, strategies: tuple[str, ...] = ("direct",), cascades: tuple[str, ...] = ()
) -> Catalog:
    """Give a catalog of models, and of strategies and cascades by their text."""
    made = [parse_strategy(text) for text in strategies]
    escalating = [parse_escalation(text) for text in cascades]
    return Catalog(
        {m.name: m for m in models},
        {str(s): s for s in made},
        cascades={cascade.arm.strategy: cascade for cascade in escalating},
    )


def asks(model: str = AUTO, text: str = TEXT, tenant: str = "default", **more: Any) -> ChatRequest:  # noqa: ANN401 - fields of Limits and Task
    """Ask ``text`` in one user message, for at most 10 tokens; ``more`` sets limits and task."""
    limits = {name: more.pop(name) for name in list(more) if name in _LIMITS}
    task = Task(messages=(Message("user", text),), **{"max_tokens": 10, **more})
    return ChatRequest(next(_NAMES), model, task, Limits(**limits), tenant=tenant)


def at_worst(request: SampleRequest, _i: int = 0) -> Reply:
    """Reply in as many tokens as are allowed, billed for the very bound of the prompt."""
    usage = Usage(
        n_calls=1,
        prompt_tokens=bytes_bound(request.messages),
        completion_tokens=request.max_tokens * request.n,
    )
    return Reply("4", usage=usage)


WORST = PROMPT_BOUND * PROMPT_NANO_USD + 10 * OUTPUT_NANO_USD
"""Worst case of one plain request for `TEXT`, in nano-USD."""
