"""What a caller asks of routing, in the body or in headers, and the request that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError

from policies.types import AnswerKind
from router.errors import RequestError
from router.gateway.config_parts import NAME_PATTERN
from router.gateway.strict import Strict, nearest, problems
from router.routing.types import AUTO, ChatRequest, Limits, is_auto
from router.verifiers.response_format import check_format, has_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from router.gateway.dependencies import Caller
    from router.gateway.settings import GatewaySettings
    from router.types import Task

HEADER = b"x-compute-"
NUMBERS = frozenset({"accuracy_target", "max_cost_usd", "max_latency_s"})
SWITCHES = {"true": True, "false": False}
LISTS = frozenset({"allowed_models", "tags"})
MAX_TAGS = 8

Object = dict[str, Any]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Label = Annotated[str, Field(pattern=NAME_PATTERN)]


class Body(Strict):
    """A strict body: types are taken as they are written, ``"5"`` is no number."""

    model_config = ConfigDict(strict=True)


class Compute(Body):
    """What the caller asks of routing; an operator's ceilings always win."""

    accuracy_target: Annotated[float, Field(gt=0, le=1)] | None = None
    max_cost_usd: Positive | None = None
    max_latency_s: Positive | None = None
    allowed_models: Annotated[list[str], Field(min_length=1)] | None = None
    strategy: Annotated[str, Field(min_length=1)] | None = None
    answer_kind: Annotated[AnswerKind, Field(strict=False)] | None = None
    tags: Annotated[list[Label], Field(max_length=MAX_TAGS)] | None = None
    session: Label | None = None
    cache: bool | None = None

    def to_limits(self) -> Limits:
        """Give the limits as the engine knows them."""
        return Limits(
            accuracy_target=self.accuracy_target,
            max_cost_usd=self.max_cost_usd,
            max_latency_s=self.max_latency_s,
            allowed_models=None if self.allowed_models is None else tuple(self.allowed_models),
            strategy=self.strategy,
        )


EVERYTHING = Compute()
"""What a request asks that asks nothing; frozen, so one serves all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body of any dialect asks: ``task`` has neither its cap nor its kind yet.

    ``cap`` is the client's own cap of tokens, None where it set none.
    """

    model: str
    task: Task
    cap: int | None
    compute: Compute | None

    def to_request(
        self,
        caller: Caller,
        settings: GatewaySettings,
        user: str | None,
        metadata: Mapping[str, str] | None,
    ) -> ChatRequest:
        """Give the request as the engine knows it; RequestError where limits contradict."""
        compute = together(self.compute, caller.compute)
        check_format(self.task.extra)
        kind = compute.answer_kind
        task = replace(
            self.task,
            answer_kind=kind or (AnswerKind.JSON if has_format(self.task) else AnswerKind.TEXT),
            kind_is_declared=kind is not None,
            max_tokens=self.cap or settings.default_max_tokens,
        )
        return ChatRequest(
            request_id=caller.request_id,
            model=self.model,
            task=task,
            limits=_within_key(self.model, compute.to_limits(), caller.allowed_models),
            min_max_tokens=settings.min_max_tokens if self.cap is None else None,
            tenant=caller.tenant,
            team=caller.team,
            user=user,
            tags=permitted_tags(compute.tags or (), settings.tags),
            session=compute.session,
            cacheable=compute.cache is not False,
            metadata=metadata or {},
        )


def from_headers(headers: Iterable[tuple[bytes, bytes]]) -> Compute | None:
    """Read the ``X-Compute-*`` headers, None where there are none.

    Names are those of `Compute` with dashes; commas separate models and tags. RequestError, with
    the header in ``param``, for a name that nobody knows, one that comes twice, or a bad value.
    """
    given: dict[str, Any] = {}
    for raw, value in headers:
        if not raw.startswith(HEADER):
            continue
        name = raw[len(HEADER) :].decode("latin-1").replace("-", "_")
        if name not in Compute.model_fields:
            known = [_header(known) for known in Compute.model_fields]
            msg = f"unknown header{nearest(_header(name), known)}"
            raise RequestError(msg, param=_header(name), code="unknown_parameter")
        if name in given:
            msg = f"the header {_header(name)} comes twice; send it once"
            raise RequestError(msg, param=_header(name), code="invalid_value")
        given[name] = _value(name, value.decode("latin-1").strip())
    if not given:
        return None
    try:
        return Compute.model_validate(given)
    except ValidationError as error:
        first = problems(error.errors(include_url=False))[0]
        header = _header(str(first.path[0]))
        msg = f"{header}: {first.message}"
        raise RequestError(msg, param=header, code=first.code) from error


def _header(name: str) -> str:
    return "X-Compute-" + "-".join(part.capitalize() for part in name.split("_"))


def _value(name: str, text: str) -> object:
    if name in LISTS:
        return [part.strip() for part in text.split(",") if part.strip()]
    if name == "cache":
        return SWITCHES.get(text, text)
    if name in NUMBERS:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def together(body: Compute | None, headers: Compute | None) -> Compute:
    """Join what body and headers ask; RequestError for a field that is in both."""
    if body is None or headers is None:
        return body or headers or EVERYTHING
    both = sorted(body.model_fields_set & headers.model_fields_set)
    if both:
        msg = f"{both[0]} is in `compute` and in the header {_header(both[0])}; send it once"
        raise RequestError(msg, param=f"compute.{both[0]}", code="invalid_value")
    asked = {name: getattr(headers, name) for name in headers.model_fields_set}
    return body.model_copy(update=asked)


def _within_key(model: str, limits: Limits, allowed_models: tuple[str, ...] | None) -> Limits:
    """Keep to the models that the key allows; RequestError where none is left."""
    if allowed_models is None:
        return limits
    if not is_auto(model) and model not in allowed_models:
        msg = f"this key may not use {model!r}; name one of: {', '.join((AUTO, *allowed_models))}"
        raise RequestError(msg, param="model", code="model_not_allowed")
    if not allowed_models:
        msg = "no model of this key is configured any more; ask the operator for another key"
        raise RequestError(msg, param="model", code="model_not_allowed")
    asked = limits.allowed_models
    kept = allowed_models if asked is None else tuple(m for m in asked if m in allowed_models)
    if not kept:
        msg = f"this key may use {', '.join(allowed_models)} alone; allow one of them"
        raise RequestError(msg, param="compute.allowed_models", code="model_not_allowed")
    return replace(limits, allowed_models=kept)


def permitted_tags(tags: Sequence[str], known: frozenset[str]) -> tuple[str, ...]:
    """Give each tag once; RequestError for one that the operator does not list."""
    for tag in tags:
        if tag not in known:
            listed = f"use one of: {', '.join(sorted(known))}" if known else "none is"
            msg = f"the tag {tag!r} is not listed in `tags` of the configuration; {listed}"
            raise RequestError(msg, param="compute.tags", code="tag_not_allowed")
    return tuple(dict.fromkeys(tags))
