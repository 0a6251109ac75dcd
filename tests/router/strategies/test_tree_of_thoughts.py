"""Tree of Thoughts with a model behind it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.questions.game24 import solves
from router.strategies.registry import parse_strategy
from router.types import Answer, CallRole, Message, Task

if TYPE_CHECKING:
    from router.providers.scripted import Script
    from router.types import SampleRequest

pytestmark = pytest.mark.anyio

PUZZLE = Task(
    messages=(Message("user", "Input: 4 9 10 13"),),
    answer_kind=AnswerKind.EXPRESSION,
    kind_is_declared=True,
    max_tokens=300,
    seed=3,
)
GAME24 = "tree_of_thoughts(task='game24', generator='propose', evaluator='value', breadth=5"


async def run(text: str, script: Script, task: Task = PUZZLE) -> tuple[Answer, Meter]:
    """Run a strategy by its text."""
    meter = Meter(ScriptedProvider(script), Price(free=True), Allowance())
    return await parse_strategy(text).run(task, meter), meter


def player(request: SampleRequest, _i: int) -> str:
    """Play the Game of 24 like a weak model: some steps of every kind, some of them wrong."""
    said = request.messages[-1].text
    found = re.search(r"Numbers left: ([-\d/ ]+)", said)
    left = found[1].split() if found else []
    if "Can these numbers reach" in said:
        return "sure" if sorted(left) in (["4", "6"], ["13", "6", "9"]) else "impossible"
    lines = ["3 + 3 = 7 (left: 1 2 3)", "99 - 1 = 98"]
    if {"10", "4"} <= set(left):
        lines.append("10 - 4 = 6 (left: 9 13 6)")
    if {"13", "9"} <= set(left):
        lines += ["13 + 9 = 22", "13 - 9 = 4 (left: whatever is left)"]
    if sorted(left) == ["4", "6"]:
        lines += ["4 + 6 = 10 (left: 10)", "4 * 6 = 24 (left: 24)"]
    return "\n".join(lines)


@pytest.mark.parametrize("search", ["", ", search='dfs', n_generate=8"])
async def test_the_game_of_24_is_solved_and_the_expression_put_together_by_rule(
    search: str,
) -> None:
    """Illegal steps are dropped without a call; the answer line is legal by construction."""
    answer, meter = await run(f"{GAME24}{search})", player)
    assert answer.value is not None
    assert solves(answer.value, (4, 9, 10, 13))
    assert answer.text.splitlines()[-1].startswith("Answer: ")
    assert answer.complete
    roles = {call.role for call in meter.calls}
    assert roles == {CallRole.ANSWER, CallRole.JUDGE}


async def test_a_state_is_valued_once_however_it_is_reached() -> None:
    """Two ways to the same numbers left cost one evaluation."""
    asked: list[str] = []

    def script(request: SampleRequest, i: int) -> str:
        said = request.messages[-1].text
        if "Can these numbers reach" in said and i == 0:
            asked.append(said)
        return player(request, i)

    await run(f"{GAME24})", script)
    assert asked
    assert len(asked) == len(set(asked))


async def test_a_question_that_is_no_puzzle_is_answered_with_the_first_reply() -> None:
    """Nothing is searched."""
    task = replace(PUZZLE, messages=(Message("user", "Hello"),))
    answer, meter = await run(f"{GAME24})", lambda *_: "Answer: 1+1", task)
    assert (answer.value, len(meter.calls)) == ("1+1", 1)


async def test_text_is_planned_voted_on_and_written() -> None:
    """The best plan by votes is in the prompt of the texts, the best text is the answer."""

    def script(request: SampleRequest, i: int) -> str:
        said = request.messages[-1].text
        if "choices" in said:
            return f"Looking at them ...\nChoice {said[: said.index('GOOD')].count('Choice ')}"
        if "Follow this plan" in said:
            good = "a GOOD text" if i == 1 else f"text {i}"
            return good if "GOOD plan" in said else "a text after a bad plan"
        return "a GOOD plan" if i == 2 else f"plan {i}"

    task = Task((Message("user", "Write a story."),), AnswerKind.TEXT, max_tokens=100, seed=1)
    answer, meter = await run("tree_of_thoughts(n_generate=3)", script, task)
    assert answer.text == "a GOOD text"
    assert len(meter.calls) == 4


async def test_crosswords_keep_only_words_that_fit() -> None:
    """A word that contradicts the board is dropped; the board is the answer."""
    words = "h1. agend (certain)\nh2. motor (high)\nv1. amass (certain)\nv2. ghost (low)\nh1. zzzzz"

    def script(request: SampleRequest, _i: int) -> str:
        return "sure" if "Can all of them" in request.messages[-1].text else words

    task = Task((Message("user", "h1. ...\nv1. ..."),), AnswerKind.TEXT, max_tokens=100, seed=1)
    answer, _ = await run(
        "tree_of_thoughts(task='crosswords', generator='propose', evaluator='value', "
        "search='dfs', max_expansions=6)",
        script,
        task,
    )
    rows = answer.text.splitlines()
    assert len(rows) == 5
    assert rows[0] == "A G E N D"
    assert rows[1] == "M O T O R"
    assert [row[0] for row in rows] == ["A", "M", "A", "S", "S"]
