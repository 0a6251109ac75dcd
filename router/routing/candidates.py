"""Which arms can serve a request: what each would cost at most, and why an arm is out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from cost_models.estimates import CallBound, worst_case_nano_usd
from cost_models.money import NANO_PER_USD, to_usd
from cost_models.types import Arm
from policies.types import AnswerKind
from router.errors import RequestError
from router.providers.base import BYTES_PER_TOKEN, bytes_bound
from router.routing.types import AUTO, is_auto
from router.strategies.cascade import stages_of
from router.strategies.escalation import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from router.routing.catalog import Catalog, Model
    from router.routing.types import ChatRequest
    from router.strategies.base import Strategy
    from router.strategies.escalation import Escalation
    from router.types import Task

ALLOWED = "compute.allowed_models"
VOTABLE_KINDS = frozenset(AnswerKind) - {AnswerKind.TEXT, AnswerKind.CODE, AnswerKind.TOOL_CALL}


@dataclass(frozen=True, slots=True)
class Offer:
    """An arm offered for one request. ``rejected`` says why it is out, None when it is feasible.

    ``prompt_tokens`` is an upper bound for the task's own messages, ``counted_tokens`` their number
    where the model's own tokenizer counted them, 0 where only their bytes are known.
    ``worst_case_nano_usd`` is what is held, never above the request's own cost cap;
    ``uncapped_nano_usd`` the most that the arm could cost without that cap,
    ``first_call_nano_usd`` what its first call needs at least. ``too_long`` and ``too_dear`` tell
    those reasons apart: prompt and answer do not fit the model's context; the first call does not
    fit the cap. The offer of a cascade has one for each of its ``stages``, none has any of the
    others; its model and strategy are those of its last stage.
    """

    arm: Arm
    model: Model
    strategy: Strategy
    prompt_tokens: int
    counted_tokens: int
    calls: tuple[CallBound, ...]
    worst_case_nano_usd: int
    uncapped_nano_usd: int
    first_call_nano_usd: int
    rejected: str | None = None
    too_long: bool = False
    too_dear: bool = False
    stages: tuple[Offer, ...] = ()
    escalation: Escalation | None = None

    @property
    def parts(self) -> tuple[Offer, ...]:
        """What is run: the stages of a cascade, or the offer itself."""
        return self.stages or (self,)

    def worst_at(self, task: Task) -> int:
        """Bound what ``task``, of the same messages, can cost in nano-USD without the cap."""
        if self.escalation is not None:
            staged = zip(self.stages, stages_of(self.escalation, task), strict=True)
            return sum(
                _most(offer.model, stage.worst_case(task, offer.prompt_tokens))
                for offer, stage in staged
            )
        return _most(self.model, self.strategy.worst_case(task, self.prompt_tokens))


def offers(catalog: Catalog, request: ChatRequest) -> tuple[Offer, ...]:
    """Every arm of the models and strategies that the request allows, feasible or not.

    Raises RequestError for a model or strategy that is not configured, and for a named model that
    is not among the allowed ones.
    """
    models = _models(catalog, request)
    cascades = _cascades(catalog, request, models)
    if cascades and request.limits.strategy in catalog.cascades:
        return cascades
    strategies = _strategies(catalog, request)
    n_bytes = bytes_bound(request.task.messages)
    plain = []
    for model in models:
        prompt = _Prompt(model.provider.count_prompt_tokens(request.task.messages), n_bytes)
        plain += [_offer(model, strategy, request, prompt) for strategy in strategies]
    return (*plain, *cascades)


def _cascades(catalog: Catalog, request: ChatRequest, models: Sequence[Model]) -> tuple[Offer, ...]:
    """Offer the cascades all of whose models the request allows, where it names no other way."""
    asked = request.limits.strategy
    if not is_auto(request.model) or (asked is not None and asked not in catalog.cascades):
        return ()
    allowed = {model.name: model for model in models}
    return tuple(
        _cascade_offer(allowed, cascade, request)
        for name, cascade in catalog.cascades.items()
        if asked in {None, name} and {stage.model for stage in cascade.stages} <= set(allowed)
    )


def _models(catalog: Catalog, request: ChatRequest) -> list[Model]:
    allowed = request.limits.allowed_models
    if allowed is None:
        if is_auto(request.model):
            return list(catalog.models.values())
        return [_known_model(catalog, request.model, "model")]
    models = [_known_model(catalog, name, ALLOWED) for name in dict.fromkeys(allowed)]
    if is_auto(request.model):
        return models
    named = _known_model(catalog, request.model, "model")
    if named not in models:
        msg = f"the model {named.name!r} is not among the allowed_models {', '.join(allowed)}"
        raise RequestError(msg, param=ALLOWED)
    return [named]


def _known_model(catalog: Catalog, name: str, param: str) -> Model:
    model = catalog.models.get(name)
    if model is None:
        known = ", ".join([AUTO, *catalog.models])
        msg = f"the model {name!r} does not exist here; use one of: {known}"
        raise RequestError(msg, param=param, code="model_not_found")
    return model


def _strategies(catalog: Catalog, request: ChatRequest) -> list[Strategy]:
    """List the strategies to consider: the one asked for, plain for a named model, or all."""
    asked = request.limits.strategy
    if asked is None:
        if not is_auto(request.model):
            return [plain_strategy(catalog)]
        return list(catalog.strategies.values())
    by_name = {made.name: made for made in reversed(list(catalog.strategies.values()))}
    strategy = catalog.strategies.get(asked) or by_name.get(asked)
    if strategy is None:
        if asked in catalog.cascades:
            msg = (
                f"{asked!r} is a cascade, for the model {AUTO!r} and with all of its models allowed"
            )
            raise RequestError(msg, param="compute.strategy", code="strategy_not_found")
        known = ", ".join([*catalog.strategies, *catalog.cascades])
        msg = f"the strategy {asked!r} is not configured here; use one of: {known}"
        raise RequestError(msg, param="compute.strategy", code="strategy_not_found")
    return [strategy]


def plain_strategy(catalog: Catalog) -> Strategy:
    """Give the strategy that a named model is served with: ``direct`` where configured."""
    named = {strategy.name: strategy for strategy in catalog.strategies.values()}
    return named.get("direct") or next(iter(catalog.strategies.values()))


class _Prompt(NamedTuple):
    """Upper bounds of a prompt's tokens: by its model's provider, and by its bytes."""

    tokens: int
    n_bytes: int


def _offer(model: Model, strategy: Strategy, request: ChatRequest, prompt: _Prompt) -> Offer:
    task = request.task
    calls = strategy.worst_case(task, prompt.tokens)
    worst = _most(model, calls)
    first = worst if len(calls) == model.n_at_once == 1 else _worst(model, calls[:1])
    cap = cap_nano_usd(request.limits.max_cost_usd)
    unfit = _unfit(strategy, task)
    counted = prompt.tokens if prompt.tokens < prompt.n_bytes else 0
    too_long = _too_long(model, counted, calls)
    too_dear = _too_dear(first, cap)
    return Offer(
        arm=Arm(model.name, str(strategy)),
        model=model,
        strategy=strategy,
        prompt_tokens=prompt.tokens,
        counted_tokens=counted,
        calls=calls,
        worst_case_nano_usd=worst if cap is None else min(worst, cap),
        uncapped_nano_usd=worst,
        first_call_nano_usd=first,
        rejected=unfit or too_long or too_dear,
        too_long=unfit is None and too_long is not None,
        too_dear=unfit is None and too_long is None and too_dear is not None,
    )


def _cascade_offer(
    models: Mapping[str, Model], escalation: Escalation, request: ChatRequest
) -> Offer:
    """Offer a cascade: what it can cost is the sum of its stages, judges included."""
    task = request.task
    stages = []
    n_bytes = bytes_bound(task.messages)
    for stage in stages_of(escalation, task):
        model = models[stage.arm.model]
        prompt = _Prompt(model.provider.count_prompt_tokens(task.messages), n_bytes)
        offer = _offer(model, stage.strategy, request, prompt)
        calls = stage.worst_case(task, offer.prompt_tokens)
        worst = _most(offer.model, calls)
        stages.append(replace(offer, calls=calls, uncapped_nano_usd=worst))
    worst = sum(stage.uncapped_nano_usd for stage in stages)
    cap = cap_nano_usd(request.limits.max_cost_usd)
    first, last = stages[0], stages[-1]
    unfit = _unfit_cascade(escalation, task)
    out = next((s for s in stages if s.rejected is not None and not s.too_dear), None)
    too_dear = _too_dear(first.first_call_nano_usd, cap)
    rejected = unfit or (out and f"{out.arm}: {out.rejected}") or too_dear
    return replace(
        last,
        arm=escalation.arm,
        calls=tuple(call for stage in stages for call in stage.calls),
        worst_case_nano_usd=worst if cap is None else min(worst, cap),
        uncapped_nano_usd=worst,
        first_call_nano_usd=first.first_call_nano_usd,
        rejected=rejected,
        too_long=unfit is None and out is not None and out.too_long,
        too_dear=unfit is None and out is None and too_dear is not None,
        stages=tuple(stages),
        escalation=escalation,
    )


def _unfit_cascade(escalation: Escalation, task: Task) -> str | None:
    if task.n > 1:
        return "a cascade gives one answer and the request asks for several"
    if task.extra.get("tools"):
        return "a cascade cannot pass tool calls through"
    if escalation.rule is Rule.AGREE and task.answer_kind not in VOTABLE_KINDS:
        return f"answers of kind {task.answer_kind.value!r} cannot be compared"
    return None


def _most(model: Model, calls: Sequence[CallBound]) -> int:
    """Bound what calls can cost, the second ones beside them included."""
    return _worst(model, calls) * model.n_at_once


def _worst(model: Model, calls: Sequence[CallBound]) -> int:
    native_n = model.provider.native_n
    return worst_case_nano_usd(model.price, calls, model.throughput, native_n=native_n)


def _unfit(strategy: Strategy, task: Task) -> str | None:
    needs = strategy.needs
    checks = (
        (
            bool(task.extra.get("tools")) and not needs.tools,
            "the strategy cannot pass tool calls through",
        ),
        (
            task.n > 1 and not needs.many_choices,
            "the strategy gives one answer and the request asks for several",
        ),
        (
            task.logprobs and not needs.logprobs,
            "the strategy cannot return token log-probabilities",
        ),
        (
            bool(task.extra.get("response_format")) and not needs.formats,
            "the strategy cannot keep the asked response format",
        ),
        (
            needs.votable and task.answer_kind not in VOTABLE_KINDS,
            f"answers of kind {task.answer_kind.value!r} cannot be compared, so not voted on",
        ),
    )
    return next((reason for fails, reason in checks if fails), None)


def likely_prompt_tokens(call: CallBound, counted_tokens: int) -> int:
    """Expect so many tokens of a prompt: what was counted, and the rest by its bytes."""
    return counted_tokens + ceil((call.prompt_tokens - counted_tokens) / BYTES_PER_TOKEN)


def _too_long(model: Model, counted_tokens: int, calls: tuple[CallBound, ...]) -> str | None:
    """Say why a call would not fit the model's windows.

    What is held is bounded by bytes; whether a call fits is judged by the tokens to expect, for
    a bound would turn away prompts of a quarter of the window. A call that turns out too long
    costs nothing, and after the first one it ends the strategy with its best answer so far.
    """
    longest = max(likely_prompt_tokens(call, counted_tokens) + call.max_tokens for call in calls)
    most = max(call.max_tokens for call in calls)
    if model.context_tokens is not None and longest > model.context_tokens:
        return f"about {longest} tokens do not fit its context of {model.context_tokens} tokens"
    if model.max_output_tokens is not None and most > model.max_output_tokens:
        return f"max_tokens {most} is above the model's limit of {model.max_output_tokens}"
    return None


def cap_nano_usd(max_cost_usd: float | None) -> int | None:
    """Whole nano-USD of a cap, rounded down; the float is taken as the decimal that it shows."""
    if max_cost_usd is None:
        return None
    nano_usd = Decimal(str(max_cost_usd)) * NANO_PER_USD
    return int(nano_usd.to_integral_value(rounding=ROUND_FLOOR))


def _too_dear(first_call_nano_usd: int, cap_nano_usd: int | None) -> str | None:
    if cap_nano_usd is None or first_call_nano_usd <= cap_nano_usd:
        return None
    return (
        f"its first call can cost {to_usd(first_call_nano_usd):.9f} USD, "
        f"above max_cost_usd {to_usd(cap_nano_usd):.9f}"
    )
