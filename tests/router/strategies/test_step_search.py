"""Beam search and diverse verifier tree search over steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.strategies.registry import parse_strategy
from router.types import Answer, Message, Task

if TYPE_CHECKING:
    from router.providers.scripted import Script
    from router.types import SampleRequest

pytestmark = pytest.mark.anyio

TASK = Task(
    messages=(Message("user", "What is (2 + 3) * 4 - 1?"),),
    answer_kind=AnswerKind.NUMBER,
    kind_is_declared=True,
    max_tokens=200,
    seed=0,
)


async def run(text: str, script: Script) -> tuple[Answer, ScriptedProvider]:
    """Run a strategy by its text."""
    provider = ScriptedProvider(script)
    meter = Meter(provider, Price(free=True), Allowance())
    return await parse_strategy(text).run(TASK, meter), provider


def mostly_wrong(request: SampleRequest, i: int) -> str:
    """Take the right step in the last completion of each call alone."""
    so_far = request.messages[-1].text
    right = i == request.n - 1
    if "5 * 4 = 20" in so_far:
        return "20 - 1 = 19\nAnswer: 19" if right else "20 - 1 = 18\nAnswer: 18"
    if "2 + 3 = 5" in so_far:
        return "5 * 4 = 20" if right else "5 * 4 = 24"
    return "2 + 3 = 5" if right else f"2 + 3 = {6 + i}"


async def test_a_beam_search_finds_the_one_path_whose_steps_hold() -> None:
    """The verifier prunes every wrong step; only kept paths are grown."""
    answer, provider = await run("beam_search(width=1, expand=3)", mostly_wrong)
    assert (answer.value, answer.confidence, answer.complete) == ("19", 1.0, True)
    assert answer.text == "2 + 3 = 5\n\n5 * 4 = 20\n\n20 - 1 = 19\nAnswer: 19"
    assert [request.n for request in provider.requests] == [3, 3, 3]
    assert all(request.max_tokens == 128 for request in provider.requests)


async def test_a_wider_beam_grows_each_kept_path_beside_the_other() -> None:
    """Width two keeps a wrong path beside the right one, until it repeats itself."""
    answer, provider = await run("beam_search(width=2, expand=2, depth=4)", mostly_wrong)
    assert answer.value == "19"
    assert len(provider.requests) == 1 + 2 + 1


async def test_diverse_trees_are_each_greedy_and_the_best_one_wins() -> None:
    """First steps come in one call; each tree keeps its own best child."""
    answer, provider = await run("diverse_tree_search(subtrees=2, expand=2)", mostly_wrong)
    assert (answer.value, answer.confidence) == ("19", 1.0)
    assert provider.requests[0].n == 4
    assert {request.n for request in provider.requests[1:]} == {2}


async def test_depth_ends_a_search_that_never_answers() -> None:
    """Steps that go on for ever are cut by the parameters."""
    steps: list[int] = []

    def endless(_request: SampleRequest, _i: int) -> str:
        steps.append(1)
        return f"Then I think of {'x' * len(steps)}."

    answer, provider = await run("beam_search(width=1, expand=1, depth=4)", endless)
    assert len(provider.requests) == 4
    assert len(answer.text.split("\n\n")) == 4
    assert answer.value is None


async def test_a_model_that_repeats_itself_is_not_asked_on() -> None:
    """A repeated step ends its path."""
    answer, provider = await run("beam_search(width=1, expand=1, depth=9)", lambda *_: "Hm.")
    assert (answer.text, len(provider.requests)) == ("Hm.", 2)
