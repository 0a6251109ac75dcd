"""Strategies that draw several samples and judge, weigh or combine them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.errors import StrategyConfigError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.strategies.registry import parse_strategy
from router.types import Answer, CallRole, Message, Task

pytestmark = pytest.mark.anyio

TASK = Task(
    messages=(Message("user", "What is 6 times 7?"),),
    answer_kind=AnswerKind.NUMBER,
    kind_is_declared=True,
    max_tokens=200,
    seed=100,
)
PUZZLE = replace(
    TASK, messages=(Message("user", "Input: 4 9 10 13"),), answer_kind=AnswerKind.EXPRESSION
)
RIGHT = "6 * 7 = 42\nAnswer: 42"
WRONG = "6 * 7 = 43\nAnswer: 43"
SILENT = "I would say so.\nAnswer: 44"


async def run(
    text: str, replies: list[Reply | str], task: Task = TASK
) -> tuple[Answer, ScriptedProvider, Meter]:
    """Run a strategy by its text over replies in order."""
    provider = ScriptedProvider(replies)
    meter = Meter(provider, Price(free=True), Allowance())
    return await parse_strategy(text).run(task, meter), provider, meter


@pytest.mark.parametrize(
    ("replies", "value", "confidence"),
    [
        pytest.param([WRONG, WRONG, SILENT, RIGHT], "42", 1.0, id="the verified one"),
        pytest.param([WRONG, WRONG, SILENT, WRONG], "44", None, id="unjudged beats wrong"),
        pytest.param([WRONG, "6*7 = 41\nAnswer: 41", WRONG, WRONG], "43", 0.0, id="most common"),
        pytest.param([SILENT, "Answer: 1", "Answer: 1", SILENT], "44", None, id="a tie: earliest"),
    ],
)
async def test_best_of_n_keeps_what_the_verifier_likes_best(
    replies: list[Reply | str], value: str, confidence: float | None
) -> None:
    """An answer that cannot be judged counts half; equals are decided by votes, then by order."""
    answer, _, _ = await run("best_of_n(samples=4)", replies)
    assert (answer.value, answer.confidence) == (value, confidence)
    assert len(answer.samples) == 4


async def test_best_of_n_stops_at_the_first_batch_with_a_verified_answer() -> None:
    """An exact verifier makes sampling pay only until it is satisfied."""
    replies: list[Reply | str] = ["Answer: 4+9", "Answer: (10-4)*(13-9)", "Answer: 1"]
    answer, provider, _ = await run(
        "best_of_n(samples=9, batch=2, verifier='game24')", replies, PUZZLE
    )
    assert answer.value == "(10-4)*(13-9)"
    assert [request.n for request in provider.requests] == [2]
    assert provider.requests[0].temperature == 0.7


async def test_weighted_best_of_n_sums_qualities_by_answer() -> None:
    """Two half-liked answers of one kind tie with one fully liked; three win."""
    two, three = [SILENT, SILENT, RIGHT, WRONG], [SILENT, SILENT, SILENT, RIGHT]
    answer, _, _ = await run("weighted_best_of_n(samples=4)", [*two])
    assert answer.value == "44"
    assert answer.confidence == pytest.approx(0.5)
    answer, _, _ = await run("weighted_best_of_n(samples=4)", [*three])
    assert (answer.value, answer.confidence) == ("44", pytest.approx(0.6))
    answer, _, _ = await run("weighted_best_of_n(samples=4)", [WRONG, RIGHT, RIGHT, WRONG])
    assert (answer.value, answer.confidence) == ("42", 1.0)
    answer, _, _ = await run("weighted_best_of_n(samples=3)", [WRONG, WRONG, "1+1 = 3\nAnswer: 3"])
    assert (answer.value, answer.confidence) == ("43", pytest.approx(2 / 3))


async def test_weighted_self_consistency_counts_log_probabilities() -> None:
    """One sure sample outweighs two unsure ones; without reports it is the plain vote."""
    unsure = [Reply("Answer: 1", mean_logprob=-2.0)] * 2
    answer, provider, _ = await run(
        "weighted_self_consistency(samples=3)", [*unsure, Reply("Answer: 2", mean_logprob=-0.1)]
    )
    assert answer.value == "2"
    assert provider.requests[0].logprobs
    answer, _, _ = await run(
        "weighted_self_consistency(samples=3)", ["Answer: 1", "Answer: 1", "Answer: 2"]
    )
    assert (answer.value, answer.confidence) == ("1", pytest.approx(2 / 3))
    answer, _, _ = await run(
        "weighted_self_consistency(samples=3)",
        ["Answer: 1", Reply("Answer: 2", mean_logprob=-0.5), Reply("Answer: 3", mean_logprob=-1)],
    )
    assert answer.value == "2"


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        ("Response 2", "second"),
        ("I compared Response 1 with the others.\nResponse 3", "third"),
        ("2", "second"),
        ("Response 9", "first"),
        ("none of them", "first"),
    ],
)
async def test_universal_self_consistency_takes_what_the_model_picks(
    reply: str, shown: str
) -> None:
    """A reply that names none leaves the first whole answer."""
    task = replace(TASK, answer_kind=AnswerKind.TEXT)
    answer, provider, meter = await run(
        "universal_self_consistency(samples=3)", ["first", "second", "third", reply], task
    )
    assert answer.text == shown
    assert "Response 3:\nthird" in provider.requests[1].messages[-1].text
    assert [call.role for call in meter.calls] == [CallRole.ANSWER, CallRole.AGGREGATE]


async def test_equal_answers_need_no_pick() -> None:
    """One call less."""
    answer, provider, _ = await run("universal_self_consistency(samples=3)", ["same"] * 3)
    assert answer.text == "same"
    assert len(provider.requests) == 1


async def test_an_aggregator_may_find_an_answer_that_no_sample_has() -> None:
    """Its reply is the answer; where nothing can be read from it the vote is."""
    drawn: list[Reply | str] = ["Answer: 1", "Answer: 2", "Answer: 2"]
    answer, _, meter = await run("sample_aggregation(samples=3)", [*drawn, "Answer: 42"])
    assert (answer.value, len(answer.samples)) == ("42", 4)
    assert meter.calls[-1].role is CallRole.AGGREGATE
    answer, _, _ = await run("sample_aggregation(samples=3)", [*drawn, "I cannot tell"])
    assert (answer.value, answer.complete) == ("2", True)


async def test_a_revision_hears_the_reason_and_is_kept_only_when_it_is_better() -> None:
    """The wrong equation is named to the model; a worse revision changes nothing."""
    answer, provider, _ = await run("revision(rounds=2)", [WRONG, RIGHT])
    assert (answer.value, answer.confidence) == ("42", 1.0)
    assert "6 * 7 = 43" in provider.requests[1].messages[-1].text
    assert provider.requests[1].messages[-2] == Message("assistant", WRONG)
    answer, provider, _ = await run("revision(rounds=2)", [WRONG, WRONG, "1 + 1 = 5\nAnswer: 5"])
    assert (answer.value, answer.confidence) == ("43", 0.0)
    assert len(answer.samples) == 3
    answer, provider, _ = await run("revision(rounds=2)", [SILENT])
    assert (answer.value, answer.confidence) == ("44", None)
    assert len(provider.requests) == 1


async def test_a_model_that_judges_is_asked_beside_and_metered() -> None:
    """The judge's calls carry their role and their own seeds."""
    replies: list[Reply | str] = ["A", "B", "Verdict: 20", "Verdict: 80"]
    answer, provider, meter = await run("best_of_n(samples=2, verifier='self_judge')", replies)
    assert (answer.text, answer.confidence) == ("B", 0.8)
    roles = [call.role for call in meter.calls]
    assert roles == [CallRole.ANSWER, CallRole.JUDGE, CallRole.JUDGE]
    assert [request.seed for request in provider.requests] == [100, 102, 103]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"best_of_n": {"verifier": "arithmetik"}}, "did you mean 'arithmetic'"),
        ("best_of_n(verifier='number')", "expected has no default"),
        ("best_of_n(verifier='pattern(regex=\\'a|b\\')')", "must not contain"),
        ("revision(rounds=0)", "must be in"),
        ("long_thought(effort='unset')", "set effort or thinking_tokens"),
        ("tree_of_thoughts(task='chess')", "must be one of text, game24, crosswords"),
    ],
)
def test_wrong_parameters_are_refused_at_start(value: object, problem: str) -> None:
    """With what to write instead."""
    with pytest.raises(StrategyConfigError) as raised:
        parse_strategy(value)
    assert problem in str(raised.value)


def test_a_verifier_is_written_as_text_or_as_a_mapping() -> None:
    """Both give the same strategy, under one canonical text."""
    as_text = parse_strategy("""best_of_n(samples=5, verifier="number(expected='3 km')")""")
    as_mapping = parse_strategy({"best_of_n": {"verifier": {"number": {"expected": "3 km"}}}})
    assert as_text == as_mapping
    assert str(as_text) == str(as_mapping)
