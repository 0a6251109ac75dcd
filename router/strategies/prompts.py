"""From a task to the messages and the request of one call, with its bound.

What a strategy adds goes to the end of the last user message: small models ignore system
prompts. The text of the query is never read for instructions to the strategy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cost_models.estimates import CallBound
from policies.types import AnswerKind
from router import answers
from router.providers.base import TOKENS_PER_MESSAGE_BOUND, bytes_bound
from router.providers.usage import extra_bound
from router.types import Answer, Message, Sample, SampleRequest
from router.verifiers.response_format import has_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.types import Task

STEP_BY_STEP = "Let's think step by step."
"""The trigger of zero-shot chain of thought (Kojima et al. 2022, table 4)."""

SHORT_ANSWER_TOKENS = {AnswerKind.NUMBER: 32, AnswerKind.CHOICE: 32, AnswerKind.EXPRESSION: 64}
"""Cap of an answer given without reasoning, by kind; other kinds have no short form."""

SEPARATOR = "\n\n"


def with_hint(messages: Sequence[Message], hint: str) -> tuple[Message, ...]:
    """Append ``hint`` to the last user message; add one where there is none."""
    if not hint:
        return tuple(messages)
    for i in reversed(range(len(messages))):
        if messages[i].role == "user":
            return (*messages[:i], _extended(messages[i], hint), *messages[i + 1 :])
    return (*messages, Message("user", hint))


def _extended(message: Message, hint: str) -> Message:
    if message.content is None or isinstance(message.content, str):
        text = f"{message.content}{SEPARATOR}{hint}" if message.content else hint
        return replace(message, content=text)
    return replace(message, content=[*message.content, {"type": "text", "text": hint}])


def step_by_step(task: Task) -> str:
    """Ask for reasoning, and for the final line that the answer's kind is read from.

    Empty where the client asked for a format, which has no room for either.
    """
    if has_format(task):
        return ""
    return "\n".join(line for line in (STEP_BY_STEP, answers.format_hint(task.answer_kind)) if line)


def before_question(messages: Sequence[Message], shown: Sequence[Message]) -> tuple[Message, ...]:
    """Put ``shown`` turns before the last user message."""
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    at = users[-1] if users else len(messages)
    return (*messages[:at], *shown, *messages[at:])


def request(
    task: Task,
    messages: tuple[Message, ...],
    *,
    max_tokens: int | None = None,
    n: int = 1,
    seed_offset: int = 0,
) -> SampleRequest:
    """Ask for ``n`` completions of ``messages`` under the task's own limits.

    ``max_tokens`` can only lower the cap. A single answer of a declared kind is decoded greedily
    where the task leaves the temperature open, as in the papers. Completion i of a call has
    seed + i, so later calls say by how much they are further on.
    """
    cap = task.max_tokens if max_tokens is None else min(max_tokens, task.max_tokens)
    greedy = n == 1 and task.kind_is_declared and task.answer_kind is not AnswerKind.TEXT
    return SampleRequest(
        messages=messages,
        max_tokens=cap,
        n=n,
        temperature=0.0 if task.temperature is None and greedy else task.temperature,
        top_p=task.top_p,
        seed=None if task.seed is None else task.seed + seed_offset,
        stop=task.stop,
        logprobs=task.logprobs,
        top_logprobs=task.top_logprobs,
        extra=task.extra,
    )


def bound(
    task: Task, prompt_tokens: int, added: int, *, max_tokens: int | None = None, n: int = 1
) -> CallBound:
    """Bound a call whose messages are the task's own plus ``added`` tokens at most."""
    cap = task.max_tokens if max_tokens is None else min(max_tokens, task.max_tokens)
    return CallBound(prompt_tokens + added + extra_bound(task.extra), cap, n)


def hint_bound(hint: str) -> int:
    """Bound the tokens that appending ``hint`` adds."""
    if not hint:
        return 0
    return len(f"{SEPARATOR}{hint}".encode()) + len("user") + TOKENS_PER_MESSAGE_BOUND


def turns_bound(messages: Sequence[Message]) -> int:
    """Bound the tokens that further messages add."""
    return bytes_bound(messages)


def answer_from(task: Task, sample: Sample, samples: Sequence[Sample] = ()) -> Answer:
    """Make ``sample`` the answer, of all ``samples`` that were drawn."""
    return Answer(
        text=sample.text or sample.refusal or "",
        value=answers.extract(sample.text, task.answer_kind),
        finish_reason=sample.finish_reason,
        samples=tuple(samples) or (sample,),
        choices=(sample,),
    )


BYTES_PER_TOKEN = 6
"""Bytes of a sample that are carried into a later prompt, for each token that it may have."""

MAX_CARRIED_BYTES = 12_000
"""Most bytes of one sample that are carried into a later prompt."""


def carried_bytes(task: Task, max_tokens: int | None = None) -> int:
    """Bound what is carried of one sample: more than nearly every text of its length has."""
    cap = task.max_tokens if max_tokens is None else min(max_tokens, task.max_tokens)
    return min(MAX_CARRIED_BYTES, BYTES_PER_TOKEN * cap)


def tail(text: str, n_bytes: int) -> str:
    """Give the end of ``text`` in at most ``n_bytes`` UTF-8 bytes; lone surrogates are dropped."""
    if n_bytes < 1:
        return ""
    return text.encode(errors="surrogatepass")[-n_bytes:].decode(errors="ignore")


def shown_text(sample: Sample) -> str:
    """Give what a sample says: its text, or its refusal."""
    return sample.text or sample.refusal or ""


def best_text(drawn: Sequence[Sample]) -> Sample:
    """Give the first whole text, or else the first that says anything, or else the first."""
    whole = (sample for sample in drawn if sample.text and sample.finish_reason == "stop")
    said = (sample for sample in drawn if sample.text)
    return next(whole, None) or next(said, drawn[0])
