"""Direct: untouched where nothing is known, short where the kind of answer is declared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.types import AnswerKind
from router import answers
from router.providers.scripted import Reply, ScriptedProvider
from router.strategies.direct import Direct
from router.types import CallRole, Message, Sample, SampleRequest, Task

pytestmark = pytest.mark.anyio

MESSAGES = (Message("system", "be kind"), Message("user", "What is 6 times 7?"))
TASK = Task(messages=MESSAGES, max_tokens=200, seed=3)
DECLARED = replace(TASK, answer_kind=AnswerKind.NUMBER, kind_is_declared=True)
TOOLS = {"tools": [{"type": "function", "function": {"name": "f"}}]}
SCHEMA = {"response_format": {"type": "json_object"}}


class Plain:
    """A sampler that hands over what it is asked."""

    def __init__(self, *samples: Sample) -> None:
        self.model = "m"
        self.samples = samples
        self.asked: list[SampleRequest] = []

    async def sample(
        self, request: SampleRequest, role: CallRole = CallRole.ANSWER
    ) -> tuple[Sample, ...]:
        self.asked.append(request)
        return self.samples


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(TASK, id="no kind"),
        pytest.param(replace(TASK, answer_kind=AnswerKind.NUMBER), id="a kind only guessed"),
        pytest.param(replace(DECLARED, extra=SCHEMA, temperature=1.0), id="a response format"),
        pytest.param(replace(DECLARED, extra=TOOLS, temperature=1.0), id="tools"),
    ],
)
def test_messages_pass_untouched(task: Task) -> None:
    """Every field of the client's request is in the call, and nothing else."""
    task = replace(task, top_p=0.5, stop=("x",), logprobs=True, top_logprobs=2, n=3)
    asked = Direct().request(task)
    assert asked == SampleRequest(
        messages=MESSAGES,
        max_tokens=200,
        n=3,
        temperature=task.temperature,
        top_p=0.5,
        seed=3,
        stop=("x",),
        logprobs=True,
        top_logprobs=2,
        extra=task.extra,
    )


@pytest.mark.parametrize(
    ("kind", "cap"),
    [
        (AnswerKind.NUMBER, 32),
        (AnswerKind.CHOICE, 32),
        (AnswerKind.EXPRESSION, 64),
        (AnswerKind.JSON, 200),
        (AnswerKind.CODE, 200),
        (AnswerKind.TEXT, 200),
    ],
)
def test_a_declared_kind_gets_a_hint_and_a_small_cap(kind: AnswerKind, cap: int) -> None:
    """The hint ends the last user message; the client's own cap stays the ceiling."""
    task = replace(DECLARED, answer_kind=kind)
    asked = Direct().request(task)
    assert asked.max_tokens == cap
    assert asked.messages[0] == MESSAGES[0]
    hint = answers.direct_hint(kind)
    assert asked.messages[1].text == (f"{MESSAGES[1].text}\n\n{hint}" if hint else MESSAGES[1].text)
    assert Direct().request(replace(task, max_tokens=5)).max_tokens == 5


def test_a_declared_answer_is_decoded_greedily_unless_the_client_says_otherwise() -> None:
    """Only where one answer is asked for."""
    assert Direct().request(DECLARED).temperature == 0.0
    assert Direct().request(replace(DECLARED, temperature=0.9)).temperature == 0.9
    assert Direct().request(replace(DECLARED, n=2)).temperature is None


def test_a_hint_is_a_further_part_of_a_message_with_parts() -> None:
    """Images stay what they are; without a user message the hint becomes one."""
    parts = [{"type": "text", "text": "How many?"}, {"type": "image_url", "image_url": {}}]
    asked = Direct().request(replace(DECLARED, messages=(Message("user", parts),)))
    content = asked.messages[0].content
    assert content is not None
    assert list(content)[:2] == parts
    assert content[2] == {"type": "text", "text": answers.direct_hint(AnswerKind.NUMBER)}
    asked = Direct().request(replace(DECLARED, messages=(Message("system", "be kind"),)))
    assert asked.messages[1].role == "user"


async def test_the_answer_shows_every_choice_and_its_value() -> None:
    """The first is the answer; tool calls, refusals and log-probabilities stay with the samples."""
    samples = (Sample("It is 42.", logprobs={"content": []}), Sample("41"))
    answer = await Direct().run(replace(DECLARED, n=2), Plain(*samples))
    assert (answer.text, answer.value) == ("It is 42.", "42")
    assert answer.choices == answer.samples == samples
    assert answer.confidence is None


async def test_a_refusal_is_shown() -> None:
    """It has no value."""
    answer = await Direct().run(DECLARED, Plain(Sample("", refusal="I cannot.")))
    assert (answer.text, answer.value) == ("I cannot.", None)


async def test_a_run_is_one_call() -> None:
    """Also for several choices."""
    provider = ScriptedProvider(lambda *_: Reply("42"))
    sampler = Plain(Sample("42"))
    await Direct().run(replace(TASK, n=4), sampler)
    assert [asked.n for asked in sampler.asked] == [4]
    bounds = Direct().worst_case(replace(TASK, n=4), provider.count_prompt_tokens(TASK.messages))
    assert [(bound.n_samples, bound.max_tokens) for bound in bounds] == [(4, 200)]
