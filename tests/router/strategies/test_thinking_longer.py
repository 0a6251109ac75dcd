"""Strategies that spend on one line of thought: effort, forced budgets, programs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.sandbox.monty import installed
from router.strategies.registry import parse_strategy
from router.types import Answer, Message, Task

pytestmark = pytest.mark.anyio
needs_sandbox = pytest.mark.skipif(not installed(), reason="needs rheostat[sandbox]")

TASK = Task(
    messages=(Message("user", "What is 6 times 7?"),),
    answer_kind=AnswerKind.NUMBER,
    kind_is_declared=True,
    max_tokens=400,
    seed=100,
)


async def run(
    text: str, replies: list[Reply | str], task: Task = TASK
) -> tuple[Answer, ScriptedProvider]:
    """Run a strategy by its text over replies in order."""
    provider = ScriptedProvider(replies)
    meter = Meter(provider, Price(free=True), Allowance())
    return await parse_strategy(text).run(task, meter), provider


async def test_effort_and_thinking_budget_are_told_to_the_model() -> None:
    """The budget leaves a quarter of the cap for the answer; other fields stay."""
    task = replace(TASK, extra={"user": "someone"})
    answer, provider = await run(
        "long_thought(effort='high', thinking_tokens=1000)", ["Answer: 42"], task
    )
    assert answer.value == "42"
    assert provider.requests[0].extra == {
        "user": "someone",
        "reasoning_effort": "high",
        "thinking": {"type": "enabled", "budget_tokens": 300},
    }
    _, provider = await run("long_thought(effort='unset', thinking_tokens=200)", ["42"])
    assert provider.requests[0].extra == {"thinking": {"type": "enabled", "budget_tokens": 200}}
    assert provider.requests[0].temperature is None


async def test_a_model_that_stops_thinking_is_made_to_wait() -> None:
    """Its own words with "Wait," are what it goes on from; the later answer counts."""
    answer, provider = await run(
        "budget_forcing(waits=1)", ["6 times 7 is 41. Answer: 41", " no, it is 42. Answer: 42"]
    )
    assert answer.value == "42"
    assert answer.text == "6 times 7 is 41. Answer: 41\nWait, no, it is 42. Answer: 42"
    begun = provider.requests[1].messages[-1]
    assert begun == Message("assistant", "6 times 7 is 41. Answer: 41\nWait,")


async def test_a_model_that_thinks_too_long_is_made_to_answer() -> None:
    """It is stopped at the cap, and a short call begins with "Answer:"."""
    long = Reply("so let me see", finish_reason="length")
    answer, provider = await run("budget_forcing(waits=3, prefill='vllm')", [long, " 42."])
    assert (answer.value, answer.text) == ("42", "so let me see\n\nAnswer: 42.")
    assert len(provider.requests) == 2
    assert provider.requests[1].max_tokens == 32
    assert provider.requests[1].extra == {
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


async def test_no_waits_and_a_readable_answer_need_one_call() -> None:
    """Nothing is forced where nothing is missing."""
    answer, provider = await run("budget_forcing(waits=0)", ["Answer: 42"])
    assert (answer.value, len(provider.requests)) == ("42", 1)


def program(code: str) -> str:
    """Put a program into a reply."""
    return f"Here it is.\n```python\n{code}\n```"


@needs_sandbox
@pytest.mark.parametrize(
    "code",
    ["print(6 * 7)", "x = 6\nx * 7", "def solution():\n    return 6 * 7", "print('a')\nprint(42)"],
)
async def test_the_result_of_a_program_is_the_answer(code: str) -> None:
    """What it prints last, its last expression, or what its solution gives."""
    answer, provider = await run("program_aided", [program(code)])
    assert answer.value == "42"
    assert answer.text.endswith("Answer: 42")
    assert "```" in provider.requests[0].messages[-1].text or "code block" in (
        provider.requests[0].messages[-1].text
    )


@needs_sandbox
async def test_a_program_that_fails_is_shown_its_error_and_may_be_repaired() -> None:
    """As often as allowed; then the text is what there is."""
    answer, provider = await run("program_aided", [program("1 / 0"), program("print(42)")])
    assert answer.value == "42"
    assert "ZeroDivisionError" in provider.requests[1].messages[-1].text
    answer, provider = await run("program_aided(repairs=2)", [program("while True: x = 1 / 0")] * 3)
    assert len(provider.requests) == 3
    assert answer.complete
    assert "Answer:" not in answer.text
    answer, _ = await run("program_aided(repairs=0)", ["It is 42, plainly."])
    assert answer.value == "42"
