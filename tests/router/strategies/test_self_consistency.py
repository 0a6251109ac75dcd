"""Self-consistency: the vote, and when to stop drawing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.errors import AllowanceExceededError, ProviderError, StrategyConfigError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.strategies.self_consistency import SelfConsistency
from router.strategies.voting import probability_ahead
from router.types import Answer, Message, Task

pytestmark = pytest.mark.anyio

TASK = Task(
    messages=(Message("user", "What is 6 times 7?"),),
    answer_kind=AnswerKind.NUMBER,
    kind_is_declared=True,
    max_tokens=50,
    seed=100,
)
ALL_AT_ONCE = SelfConsistency(samples=5, stop_at=1.0)


async def run(
    strategy: SelfConsistency, provider: ScriptedProvider, task: Task = TASK, **caps: int
) -> Answer:
    """Run on a meter with ``caps``."""
    return await strategy.run(task, Meter(provider, Price(free=True), Allowance(**caps)))


@pytest.mark.parametrize(
    ("replies", "value", "text", "confidence"),
    [
        pytest.param(["41", "It is 42", "43", "42", "40"], "42", "It is 42", 0.4, id="majority"),
        pytest.param(["1", "2", "2", "1", "3"], "1", "1", 0.4, id="a tie goes to the earliest"),
        pytest.param(["hm", "hm", "hm", "hm", "7"], "7", "7", 0.2, id="no answer never wins"),
        pytest.param(["42", "42.0", "so 42.", "7", "7"], "42", "42", 0.6, id="equal values"),
        pytest.param(["", "hm", "well", "", ""], None, "hm", None, id="nothing can be read"),
        pytest.param(["", "", "", "", ""], None, "", None, id="nothing at all"),
    ],
)
async def test_the_vote(
    replies: list[str], value: str | None, text: str, confidence: float | None
) -> None:
    """Canonical values are counted; the text shown is the winner's first."""
    answer = await run(ALL_AT_ONCE, ScriptedProvider(replies))
    assert (answer.value, answer.text, answer.confidence) == (value, text, confidence)
    assert len(answer.samples) == 5
    assert [choice.text for choice in answer.choices] == [text]


async def test_a_whole_text_is_better_than_a_cut_one() -> None:
    """Where nothing can be read, the first that was finished is shown."""
    replies = [Reply("hm, so", finish_reason="length"), "well", "no", "a", "b"]
    assert (await run(ALL_AT_ONCE, ScriptedProvider(replies))).text == "well"


@given(st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_the_winner_has_the_most_votes(values: list[int]) -> None:
    """The vote agrees with a counter, whatever was drawn."""
    replies = [f"Answer: {value}" for value in values]
    answer = anyio.run(run, ALL_AT_ONCE, ScriptedProvider(replies))
    votes = Counter(values)
    most = max(votes.values())
    assert answer.value == str(next(value for value in values if votes[value] == most))
    assert answer.confidence == most / 5


@given(st.integers(0, 12), st.integers(0, 12))
def test_the_stopping_probability_is_that_of_the_beta_posterior(first: int, second: int) -> None:
    """It agrees with the integral of the density over (1/2, 1)."""
    p = np.linspace(0.5, 1.0, 20_001)
    whole = np.linspace(0.0, 1.0, 40_001)
    tail = np.trapezoid(p**first * (1 - p) ** second, p)
    total = np.trapezoid(whole**first * (1 - whole) ** second, whole)
    assert probability_ahead(first, second) == pytest.approx(tail / total, abs=1e-6)


async def test_agreement_stops_the_drawing() -> None:
    """Four of four is enough at 0.95; the fifth sample is never paid for."""
    provider = ScriptedProvider(lambda *_: "Answer: 42")
    answer = await run(SelfConsistency(samples=40), provider)
    assert [request.n for request in provider.requests] == [4]
    assert (answer.value, answer.confidence, answer.complete) == ("42", 1.0, True)


async def test_disagreement_draws_on() -> None:
    """Up to ``samples``, batch by batch, the last one smaller."""
    provider = ScriptedProvider(lambda request, i: str((request.seed or 0) + i))
    answer = await run(SelfConsistency(samples=10), provider)
    assert [request.n for request in provider.requests] == [4, 4, 2]
    assert len(answer.samples) == 10
    assert answer.value == "100"


async def test_unreadable_samples_are_no_reason_to_stop() -> None:
    """Agreement on nothing is not agreement."""
    provider = ScriptedProvider(lambda *_: "hm")
    await run(SelfConsistency(samples=6, batch=2), provider)
    assert len(provider.requests) == 3


async def test_never_stopping_early_is_one_call() -> None:
    """Independent samples are drawn side by side."""
    provider = ScriptedProvider(lambda *_: "Answer: 42")
    await run(SelfConsistency(samples=16, stop_at=1.0), provider)
    assert [request.n for request in provider.requests] == [16]


async def test_the_batch_changes_neither_samples_nor_seeds() -> None:
    """Completion i has seed + i however the draws are grouped."""
    drawn = []
    for batch in (1, 3, 7):
        provider = ScriptedProvider(lambda request, i: f"Answer: {(request.seed or 0) + i}")
        strategy = SelfConsistency(samples=7, batch=batch)
        drawn.append((await run(strategy, provider)).samples)
    assert drawn[0] == drawn[1] == drawn[2]


async def test_the_temperature_leaves_room_for_diversity() -> None:
    """The strategy's own, unless the client asks for one above 0."""
    for asked, used in ((None, 0.7), (0.0, 0.7), (0.3, 0.3)):
        provider = ScriptedProvider(lambda *_: "42")
        await run(SelfConsistency(), provider, replace(TASK, temperature=asked))
        assert provider.requests[0].temperature == used


async def test_a_short_draw_is_not_made_up_for() -> None:
    """A provider that gives fewer completions than asked costs no further calls."""
    down = ProviderError("scripted", "down", status=500)
    provider = ScriptedProvider(["Answer: 1", down, "Answer: 2", "Answer: 2", down])
    answer = await run(SelfConsistency(samples=6, batch=3), provider)
    assert len(provider.requests) == 2
    assert (answer.value, len(answer.samples)) == ("2", 3)


async def test_what_was_drawn_before_the_caps_is_voted_on() -> None:
    """The answer says that it is not complete; with nothing drawn, the refusal is raised."""
    provider = ScriptedProvider(["1", "2", "2", "3"])
    answer = await run(SelfConsistency(samples=9), provider, max_calls=1)
    assert (answer.value, answer.complete, answer.confidence) == ("2", False, 0.5)
    with pytest.raises(AllowanceExceededError):
        await run(SelfConsistency(), ScriptedProvider([]), max_calls=0)


@pytest.mark.parametrize(
    ("replies", "n_drawn", "value"),
    [
        pytest.param(["7", "7", "7"], 3, "7", id="the first window agrees"),
        pytest.param(["1", "2", "1", "2", "2", "2"], 6, "2", id="the second one does"),
        pytest.param(["hm", "hm", "hm", "1", "2", "1", "3"], 7, "1", id="none, to the end"),
    ],
)
async def test_a_window_that_agrees_stops_the_drawing(
    replies: list[str], n_drawn: int, value: str
) -> None:
    """Unreadable samples agree with nothing; the vote is over everything that was drawn."""
    strategy = SelfConsistency(samples=7, batch=3, stop="window")
    answer = await run(strategy, ScriptedProvider(replies))
    assert (len(answer.samples), answer.value) == (n_drawn, value)


@pytest.mark.parametrize(
    ("difficulty", "n_drawn"), [(None, 8), (0.1, 1), (0.2, 1), (0.25, 2), (0.6, 5), (1.0, 8)]
)
async def test_predicted_difficulty_sets_the_cap(difficulty: float | None, n_drawn: int) -> None:
    """One sample of an easy question, all of a hopeless one or where nothing was predicted."""
    strategy = SelfConsistency(samples=8, batch=2, easy=0.2)
    task = replace(TASK, difficulty=difficulty)
    provider = ScriptedProvider(lambda request, i: f"Answer: {(request.seed or 0) + i}")
    assert len((await run(strategy, provider, task)).samples) == n_drawn
    assert sum(call.n_samples for call in strategy.worst_case(task, 10)) == 8


async def test_prior_votes_of_an_easier_question_stop_it_earlier() -> None:
    """Two of two are not enough at 0.95; with four votes beforehand they are."""
    easier = replace(TASK, difficulty=0.3)
    for prior, n_drawn in ((0, 4), (5, 2)):
        strategy = SelfConsistency(samples=20, batch=2, easy=0.1, prior=prior)
        answer = await run(strategy, ScriptedProvider(lambda *_: "42"), easier)
        assert len(answer.samples) == n_drawn


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"stop": "window", "batch": 1}, "at least 2"),
        ({"stop": "window", "stop_at": 1.0}, "stop_at below 1"),
        ({"prior": 2}, "set easy"),
    ],
)
def test_parameters_that_would_do_nothing_are_refused(
    parameters: dict[str, Any], told: str
) -> None:
    """With what to change."""
    with pytest.raises(StrategyConfigError, match=told):
        SelfConsistency(**parameters)
