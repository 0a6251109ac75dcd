"""Zero-shot chain of thought: one call, and a second only to read an answer off the first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router import answers
from router.errors import ProviderError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.strategies.chain_of_thought import CARRIED_BYTES, ChainOfThought
from router.types import Answer, CallRole, Message, Task

pytestmark = pytest.mark.anyio

TASK = Task(
    messages=(Message("system", "be kind"), Message("user", "What is 6 times 7?")),
    answer_kind=AnswerKind.NUMBER,
    kind_is_declared=True,
    max_tokens=200,
    logprobs=True,
)


async def run(task: Task, provider: ScriptedProvider) -> tuple[Answer, Meter]:
    """Run the strategy on a meter without caps."""
    meter = Meter(provider, Price(free=True), Allowance())
    return await ChainOfThought().run(task, meter), meter


async def test_the_prompt_asks_for_steps_and_for_the_final_line() -> None:
    """At the end of the last user message; the system message stays."""
    provider = ScriptedProvider(["6 * 7 is 42. Answer: 42"])
    answer, _ = await run(TASK, provider)
    (asked,) = provider.requests
    assert asked.messages[0] == TASK.messages[0]
    text = asked.messages[1].text
    assert text.startswith("What is 6 times 7?")
    assert "step by step" in text
    assert text.endswith(answers.format_hint(AnswerKind.NUMBER))
    assert (asked.max_tokens, asked.temperature) == (200, 0.0)
    assert (answer.text, answer.value) == ("6 * 7 is 42. Answer: 42", "42")


async def test_free_text_gets_the_steps_alone() -> None:
    """There is no final line to ask for, and nothing to extract."""
    provider = ScriptedProvider(["Roses are red."])
    task = replace(TASK, answer_kind=AnswerKind.TEXT)
    answer, meter = await run(task, provider)
    assert provider.requests[0].messages[1].text.endswith("step by step.")
    assert (answer.text, answer.value, len(meter.calls)) == ("Roses are red.", None, 1)
    assert len(ChainOfThought().worst_case(task, 10)) == 1


async def test_an_unreadable_answer_is_extracted_by_a_second_short_call() -> None:
    """It sees the question and the end of the reasoning; the reader sees the final line."""
    reasoning = "start " + "hmm " * 400
    provider = ScriptedProvider([reasoning, "It is 42."])
    answer, meter = await run(replace(TASK, max_tokens=1000), provider)
    asked = provider.requests[1]
    assert [message.role for message in asked.messages] == ["system", "user", "assistant", "user"]
    assert len(asked.messages[2].text) == CARRIED_BYTES
    assert reasoning.endswith(asked.messages[2].text)
    assert asked.messages[3].text.startswith("Therefore")
    assert (asked.max_tokens, asked.logprobs) == (32, False)
    assert [call.role for call in meter.calls] == [CallRole.ANSWER, CallRole.EXTRACT]
    assert answer.value == "42"
    assert answer.text == f"{reasoning.rstrip()}\n\nAnswer: 42"
    assert answers.extract(answer.text, AnswerKind.NUMBER) == "42"
    assert answer.choices[0].text == answer.text
    assert len(answer.samples) == 2


async def test_an_extraction_without_an_answer_leaves_the_reasoning() -> None:
    """No value, and nothing appended."""
    answer, _ = await run(TASK, ScriptedProvider(["hmm", "no idea"]))
    assert (answer.text, answer.value, answer.complete) == ("hmm", None, True)


async def test_a_failed_extraction_leaves_the_reasoning_marked_incomplete() -> None:
    """What was paid for is given."""
    down = ProviderError("scripted", "down", status=500)
    answer, _ = await run(TASK, ScriptedProvider(["hmm", down]))
    assert (answer.text, answer.complete) == ("hmm", False)


@pytest.mark.parametrize("kind", [AnswerKind.CODE, AnswerKind.JSON, AnswerKind.TOOL_CALL])
async def test_long_answers_are_not_extracted(kind: AnswerKind) -> None:
    """A program cannot be read off its reasoning in a short call."""
    _, meter = await run(replace(TASK, answer_kind=kind), ScriptedProvider(["hmm"]))
    assert len(meter.calls) == 1


async def test_nothing_is_extracted_from_nothing() -> None:
    """An empty first reply ends the run."""
    answer, meter = await run(TASK, ScriptedProvider([Reply("", refusal="no")]))
    assert (answer.text, len(meter.calls)) == ("no", 1)
