"""Bodies of requests: OpenAI's fields and ours, each honoured, forwarded, or refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from router.gateway.compute import Asked, Body, Compute, Object, Positive
from router.gateway.strict import wrong
from router.types import Message, Task

if TYPE_CHECKING:
    from router.gateway.dependencies import Caller
    from router.gateway.settings import GatewaySettings
    from router.routing.types import ChatRequest

MAX_STOPS = 4
MAX_METADATA = 16
REFUSED_FIELDS = {
    "audio": "audio answers are not served here; leave the field out",
    "function_call": "function_call is deprecated and not served here; use tool_choice",
    "functions": "functions is deprecated and not served here; use tools",
    "moderation": "moderation is not served here; leave the field out",
    "prediction": "predicted outputs have no known bound on their cost; leave the field out",
    "prompt_cache_options": "cache options change the price; leave the field out",
    "prompt_cache_retention": "cache retention changes the price; leave the field out",
    "web_search_options": "web search has no known bound on its cost; leave the field out",
}
FORWARDED_FIELDS = (
    "chat_template_kwargs",
    "frequency_penalty",
    "logit_bias",
    "min_p",
    "modalities",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "safety_identifier",
    "service_tier",
    "store",
    "tool_choice",
    "tools",
    "top_k",
    "verbosity",
)
"""Fields that reach the model as the client wrote them; a model that cannot take one says so."""

PLAIN_TEXT = {"type": "text"}

Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenCap = Annotated[int, Field(ge=1, le=10_000_000)]


class ChatMessage(Body):
    """One message; ``content`` is text or a list of parts, forwarded as they are."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Object] | None = None
    name: str | None = None
    tool_calls: list[Object] | None = None
    tool_call_id: str | None = None
    function_call: Object | None = None
    refusal: str | None = None
    audio: Object | None = None
    annotations: list[Object] | None = None
    reasoning_content: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _is_content(cls, content: object) -> object:
        if content is None or isinstance(content, str):
            return content
        if not isinstance(content, list):
            message = "is text or a list of content parts"
            raise wrong(message, code="invalid_type")
        for i, part in enumerate(content):
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(kind, str):
                message = 'is a part such as {"type": "text", "text": "..."}'
                raise wrong(message, at=(i,), code="invalid_type")
            if kind == "text" and not isinstance(part.get("text"), str):
                message = "is required in a part of type 'text', and is text"
                raise wrong(message, at=(i, "text"), code="invalid_type")
        return content

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content:
            return self
        if self.role == "user" or (self.role != "assistant" and self.content is None):
            message = f"is empty; a message of role {self.role!r} needs text or parts"
            raise wrong(message, at=("content",))
        if self.role == "assistant" and self.content is None and not self._has_more():
            message = "is null; only a message with tool_calls or a refusal can do without"
            raise wrong(message, at=("content",))
        return self

    def _has_more(self) -> bool:
        return bool(self.tool_calls or self.function_call or self.refusal or self.audio)

    def to_message(self) -> Message:
        """Give the message as the engine knows it."""
        given = self.model_fields_set - {"role", "content"}
        extra = {
            name: value
            for name in type(self).__pydantic_fields__
            if name in given and (value := getattr(self, name)) not in (None, [])
        }
        return Message(self.role, self.content, extra)


class StreamOptions(Body):
    """OpenAI's options of a stream; padding against traffic analysis is not served."""

    refused: ClassVar = {"include_obfuscation": "obfuscation is not served; leave the field out"}

    include_usage: bool = False


class ChatBody(Body):
    """A chat completion request: OpenAI's, with ``compute`` beside it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "auto",
                    "messages": [{"role": "user", "content": "What is 17 * 23?"}],
                    "compute": {"answer_kind": "number", "max_cost_usd": 0.01},
                }
            ]
        }
    )

    refused: ClassVar = REFUSED_FIELDS

    model: Annotated[str, Field(min_length=1, examples=["auto"])]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    compute: Compute | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    max_completion_tokens: TokenCap | None = None
    max_tokens: TokenCap | None = None
    metadata: Annotated[dict[str, str], Field(max_length=MAX_METADATA)] | None = None
    modalities: list[str] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    reasoning_effort: str | None = None
    response_format: Object | None = None
    safety_identifier: str | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    tool_choice: str | Object | None = None
    tools: list[Object] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    user: str | None = None
    verbosity: str | None = None
    chat_template_kwargs: Object | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Positive | None = None
    top_k: int | None = None

    @field_validator("messages", mode="before")
    @classmethod
    def _are_messages(cls, messages: object) -> object:
        if messages == []:
            message = "is empty; send at least one message"
            raise wrong(message)
        return messages

    @field_validator("stop", mode="before")
    @classmethod
    def _are_stops(cls, stop: object) -> object:
        stops = [stop] if isinstance(stop, str) else stop
        if stops is None:
            return None
        if not isinstance(stops, list) or not all(isinstance(s, str) and s for s in stops):
            message = "is a text or a list of texts, none of them empty"
            raise wrong(message, code="invalid_type")
        if len(stops) > MAX_STOPS:
            message = f"has {len(stops)} texts; at most {MAX_STOPS} are served"
            raise wrong(message)
        return stop

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _is_tool_choice(cls, choice: object) -> object:
        if choice is None or isinstance(choice, str | dict):
            return choice
        message = "is 'none', 'auto', 'required', or an object that names a tool"
        raise wrong(message, code="invalid_type")

    @field_validator("response_format")
    @classmethod
    def _is_response_format(cls, given: Object | None) -> Object | None:
        known = ("text", "json_object", "json_schema")
        if given is not None and given.get("type") not in known:
            message = f"is one of {', '.join(known)}, got {given.get('type')!r}"
            raise wrong(message, at=("type",))
        return given

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            message = "needs logprobs: true"
            raise wrong(message, at=("top_logprobs",))
        if self.stream_options is not None and not self.stream:
            message = "needs stream: true"
            raise wrong(message, at=("stream_options",))
        caps = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(caps) > 1:
            message = "says something else than max_completion_tokens; send one of them"
            raise wrong(message, at=("max_tokens",))
        return self

    @property
    def include_usage(self) -> bool:
        """True when a stream is to end with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def to_request(self, caller: Caller, settings: GatewaySettings) -> ChatRequest:
        """Give the request as the engine knows it."""
        task = Task(
            messages=tuple(message.to_message() for message in self.messages),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            logprobs=bool(self.logprobs),
            top_logprobs=self.top_logprobs,
            n=self.n or 1,
            extra=self._forwarded(),
        )
        asked = Asked(self.model, task, self.max_completion_tokens or self.max_tokens, self.compute)
        return asked.to_request(caller, settings, self.user, self.metadata)

    def _forwarded(self) -> Object:
        given = self.model_fields_set
        return {
            name: value
            for name in FORWARDED_FIELDS
            if name in given
            and (value := getattr(self, name)) is not None
            and not (name == "response_format" and value == PLAIN_TEXT)
        }


class ErrorFacts(BaseModel):
    """The members of ``error``; a refusal by a budget has its figures in ``budget`` as well."""

    message: str
    type: str
    param: str | None
    code: str
    budget: Object | None = None


class ErrorBody(BaseModel):
    """Every error, in OpenAI's form; described here for clients, built in `handlers`."""

    error: ErrorFacts


class Feedback(Body):
    """A judgement of a served request: ``correct``, or ``quality`` in [0, 1]."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"request_id": "chatcmpl-0123456789abcdef", "correct": True}]
        }
    )

    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    correct: bool | None = None
    quality: Annotated[float, Field(ge=0, le=1)] | None = None
    grader: Annotated[str, Field(min_length=1, max_length=64)] = "client"
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    sample_prob: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _judges(self) -> Self:
        if (self.correct is None) == (self.quality is None):
            message = "send either correct (true or false) or quality (0 to 1)"
            raise wrong(message, at=("quality",))
        return self

    @property
    def judged_quality(self) -> float:
        """The quality, in [0, 1]."""
        return float(bool(self.correct)) if self.quality is None else self.quality
