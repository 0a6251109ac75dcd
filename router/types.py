"""The nouns of running: messages, samples, a task for a strategy, and its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from policies.posing import Posing
from policies.types import AnswerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cost_models.types import Usage


class CallRole(StrEnum):
    """Why an upstream call was made; every call row in the ledger carries one."""

    ANSWER = "answer"
    EXTRACT = "extract"
    JUDGE = "judge"
    VERIFY = "verify"
    AGGREGATE = "aggregate"
    EMBED = "embed"
    HEDGE = "hedge"


SYSTEM_ROLES = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message in OpenAI form.

    ``content`` is text, a sequence of content parts (kept as the client sent them), or None
    (an assistant message that only calls tools). ``extra`` holds every other field of the
    message (``name``, ``tool_calls``, ``tool_call_id``), forwarded untouched.
    """

    role: str
    content: str | Sequence[Mapping[str, Any]] | None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the message: its text parts joined by line breaks."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(p["text"]) for p in self.content if p.get("type") == "text")

    @property
    def n_images(self) -> int:
        """How many parts of the message are images."""
        if self.content is None or isinstance(self.content, str):
            return 0
        return sum(part.get("type") == "image_url" for part in self.content)

    def to_wire(self) -> dict[str, Any]:
        """Give the message as an OpenAI-compatible upstream expects it."""
        content = (
            self.content
            if self.content is None or isinstance(self.content, str)
            else list(self.content)
        )
        return {"role": self.role, "content": content, **self.extra}


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked example: ``reasoning`` leads to ``answer``, which is of ``kind``.

    One from the ledger has no reasoning, since the ledger keeps the final value alone.
    """

    kind: AnswerKind
    question: str
    reasoning: str
    answer: str

    def turns(self) -> tuple[Message, Message]:
        """Give the example as a question and its answer."""
        worked = f"{self.reasoning}\nAnswer: {self.answer}".lstrip("\n")
        return Message("user", self.question), Message("assistant", worked)


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One call for ``n`` >= 1 completions of the same messages.

    ``max_tokens`` caps each completion. ``max_machine_s`` stops a model on an owned machine once
    the call's share of busy time reaches it; None means no such cap. ``extra`` holds further
    OpenAI fields (``tools``, ``response_format``, ...), forwarded untouched.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int | None = None
    max_machine_s: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion. ``mean_logprob`` is per generated token, None where not reported.

    ``logprobs`` keeps the OpenAI ``logprobs`` object; ``reasoning`` is visible reasoning text
    that is not part of the answer; ``tool_calls`` keeps OpenAI tool calls.
    """

    text: str
    finish_reason: str = "stop"
    n_tokens: int = 0
    mean_logprob: float | None = None
    logprobs: Mapping[str, Any] | None = None
    reasoning: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed completion: OpenAI ``delta`` fields and, on the last, the reason."""

    delta: Mapping[str, Any]
    finish_reason: str | None = None
    logprobs: Mapping[str, Any] | None = None

    @property
    def says_something(self) -> bool:
        """Whether there is more to it than whose turn it is."""
        said = any(value for name, value in self.delta.items() if name != "role")
        return said or self.finish_reason is not None


@dataclass(frozen=True, slots=True)
class Task:
    """What a strategy is asked to do; ``max_tokens`` caps each sample that it draws.

    ``difficulty`` in [0, 1] is what the policy's estimator predicts of the query, 0 trivial and 1
    hopeless; None where nothing was fitted. It can lower what a strategy spends, never raise it.
    ``exemplars`` are verified answers of the tenant's own past, the nearest first.
    """

    messages: tuple[Message, ...]
    answer_kind: AnswerKind = AnswerKind.TEXT
    kind_is_declared: bool = False
    max_tokens: int = 512
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    difficulty: float | None = None
    exemplars: tuple[Exemplar, ...] = ()

    @property
    def text(self) -> str:
        """The last user message's text: what the query is about."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def posing(self) -> Posing:
        """What the request has beside that text."""
        turns = n_talk = earlier_chars = talk_chars = system_chars = 0
        for message in self.messages:
            n_chars = len(message.text)
            if message.role in SYSTEM_ROLES:
                system_chars += n_chars
                continue
            if message.role == "user":
                turns, earlier_chars = n_talk, talk_chars
            n_talk += 1
            talk_chars += n_chars
        form = self.extra.get("response_format") or {}
        return Posing(
            kind=self.answer_kind if self.kind_is_declared else None,
            turns=turns,
            earlier_chars=earlier_chars,
            system_chars=system_chars,
            tools=len(self.extra.get("tools") or ()),
            images=sum(m.n_images for m in self.messages),
            schemas=int(form.get("type") == "json_schema"),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with the samples behind it.

    ``text`` is what the client reads; ``value`` is its canonical form by kind, None when there is
    none. ``confidence`` in [0, 1] is the strategy's own (a vote share), None where it has none.
    ``complete`` is False when the caps or a failing upstream stopped the strategy early.
    ``choices`` are the samples shown to the client when it asked for more than one.
    ``verified`` is what the verifier named in ``verified_by`` found of the text, None where none
    looked or it could not say.
    """

    text: str
    value: str | None = None
    confidence: float | None = None
    finish_reason: str = "stop"
    samples: tuple[Sample, ...] = ()
    choices: tuple[Sample, ...] = ()
    complete: bool = True
    verified: bool | None = None
    verified_by: str | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One upstream call as the ledger keeps it. ``cost_nano_usd`` is whole nano-USD.

    ``status`` is ``ok``, ``error``, ``cancelled``, or ``turned_away`` of an attempt that failed for
    nothing and was followed by another. ``in_doubt`` is True when the upstream never
    said what the call used: it is then charged at its worst case. ``deployment`` and ``vendor``
    say who was asked, "" where the model says it all; ``price_source`` names the price used.
    """

    model: str
    role: CallRole
    usage: Usage
    cost_nano_usd: int
    latency_s: float
    status: str = "ok"
    in_doubt: bool = False
    error: str | None = None
    price_source: str = ""
    deployment: str = ""
    vendor: str = ""
