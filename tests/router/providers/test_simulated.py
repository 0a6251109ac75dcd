"""Simulated models: known truth, reproducible samples, replies that look like real ones."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise

import pytest

from policies.types import AnswerKind
from router import answers
from router.errors import ConfigError, RequestError
from router.providers.base import Tally
from router.providers.simulated import (
    SIMULATED_MODELS,
    SimulatedModel,
    SimulatedProvider,
    build_simulated,
    count_tokens,
    simulated_pool,
)
from router.questions.base import Question
from router.questions.registry import generate, grade
from router.types import Message, SampleRequest

pytestmark = pytest.mark.anyio

QUESTIONS = generate(90, seed=0)
NUMBER = next(q for q in QUESTIONS if q.family == "add" and q.level == 3)
STEPS = "\n\nLet's think step by step.\nEnd with one last line 'Answer: X'."
HALF = SimulatedModel(skill=NUMBER.difficulty, steps_boost=0.1)


def ask(question: Question, hint: str = "", n: int = 1, seed: int = 0) -> SampleRequest:
    """Ask for ``n`` samples as a strategy would."""
    messages = (Message("system", "You are helpful."), Message("user", question.text + hint))
    return SampleRequest(messages=messages, max_tokens=512, n=n, seed=seed)


def provider(model: SimulatedModel = HALF) -> SimulatedProvider:
    """Make a provider that knows the questions."""
    return SimulatedProvider("sim", model, QUESTIONS)


async def share_right(simulated: SimulatedProvider, question: Question, hint: str) -> float:
    """Share of 2000 samples that are graded right."""
    samples = await simulated.sample(ask(question, hint, n=2000), Tally())
    return sum(grade(question, sample.text) for sample in samples) / len(samples)


@pytest.mark.parametrize("hint", ["", STEPS], ids=["direct", "with steps"])
@pytest.mark.parametrize("family", ["add", "compare", "logic", "countdown"])
async def test_samples_are_right_as_often_as_the_truth_says(family: str, hint: str) -> None:
    """2000 samples: within 4 standard deviations of the known probability, for every kind."""
    question = next(q for q in QUESTIONS if q.family == family)
    simulated = provider(SimulatedModel(skill=question.difficulty, steps_boost=0.1))
    truth = simulated.true_probability(question, steps=bool(hint))
    share = await share_right(simulated, question, hint)
    assert truth == pytest.approx(1 / (1 + math.exp(-0.8)) if hint else 0.5)
    assert abs(share - truth) < 4 * math.sqrt(truth * (1 - truth) / 2000)


def test_more_skill_less_difficulty_and_steps_all_help() -> None:
    """The pool runs from weak to strong, each model better on easier questions."""
    pool = simulated_pool(QUESTIONS)
    assert [p.model for p in pool] == [f"sim-{name}" for name in SIMULATED_MODELS]
    easy = min(QUESTIONS, key=lambda q: q.difficulty)
    hard = max(QUESTIONS, key=lambda q: q.difficulty)
    for weak, strong in pairwise(pool):
        for question in (easy, hard):
            chances = [
                p.true_probability(question, steps=steps)
                for p in (weak, strong)
                for steps in (False, True)
            ]
            assert chances[0] < chances[1]
            assert chances[0] < chances[2] < chances[3]
        assert weak.true_probability(hard, steps=True) < weak.true_probability(easy, steps=True)


async def test_wrong_answers_lean_towards_one_so_that_votes_can_go_wrong() -> None:
    """The popular mistake beats every other wrong answer, and there are others."""
    hopeless = provider(SimulatedModel(skill=-1.0))
    samples = await hopeless.sample(ask(NUMBER, n=1000), Tally())
    votes = Counter(answers.extract(sample.text, AnswerKind.NUMBER) for sample in samples)
    (_, first), (_, second), *_ = votes.most_common()
    assert first > 1.5 * second
    assert len(votes) > 3
    assert NUMBER.gold not in votes


@pytest.mark.parametrize(
    ("kind", "gold"),
    [
        (AnswerKind.NUMBER, "0.75"),
        (AnswerKind.NUMBER, "-0.05"),
        (AnswerKind.NUMBER, "1/3"),
        (AnswerKind.NUMBER, "9" * 60),
        (AnswerKind.NUMBER, "1,234"),
        (AnswerKind.NUMBER, "forty-two"),
        (AnswerKind.CHOICE, "yes"),
        (AnswerKind.CHOICE, "(b)"),
        (AnswerKind.CODE, "print(1)"),
        (AnswerKind.JSON, '{"a": 1}'),
        (AnswerKind.TOOL_CALL, '{"name": "f", "arguments": {}}'),
        (AnswerKind.TEXT, "Paris"),
    ],
)
async def test_right_and_wrong_replies_of_every_kind(kind: AnswerKind, gold: str) -> None:
    """An all-knowing model always answers right, an ignorant one never does."""
    question = Question("q", "own", 1, "What is it?", gold, kind, 0.5)
    for skill, is_right in ((9.0, gold != "forty-two"), (-9.0, False)):
        for hint in ("", STEPS) if kind is not AnswerKind.TEXT else ("",):
            simulated = SimulatedProvider("sim", SimulatedModel(skill), [question])
            samples = await simulated.sample(ask(question, hint, n=20), Tally())
            assert {grade(question, sample.text) for sample in samples} == {float(is_right)}


async def test_a_sample_depends_on_its_seed_and_on_nothing_else() -> None:
    """Completion i of a call is completion 0 of a call with seed + i, in any order."""
    simulated = provider()
    batch = await simulated.sample(ask(NUMBER, STEPS, n=6, seed=40), Tally())
    for i in reversed(range(6)):
        (alone,) = await provider().sample(ask(NUMBER, STEPS, seed=40 + i), Tally())
        assert alone == batch[i]
    assert len({sample.text for sample in batch}) > 1


async def test_temperature_zero_ignores_the_seed() -> None:
    """Greedy decoding has one answer."""
    samples = [
        (await provider().sample(replace(ask(NUMBER, seed=i), temperature=0.0), Tally()))[0]
        for i in range(5)
    ]
    assert len(set(map(str, samples))) == 1


async def test_without_a_seed_calls_differ_and_a_run_can_be_repeated() -> None:
    """The provider's own seed and the order of the calls decide."""
    request = replace(ask(NUMBER, n=20), seed=None)
    first, second = provider(), provider()
    drawn = [await first.sample(request, Tally()) for _ in range(2)]
    assert drawn[0] != drawn[1]
    assert drawn == [await second.sample(request, Tally()) for _ in range(2)]


async def test_steps_cost_more_tokens_and_look_like_steps() -> None:
    """About as many as the model is said to need, with the answer on the last line."""
    (direct,) = await provider().sample(ask(NUMBER), Tally())
    (steps,) = await provider().sample(ask(NUMBER, STEPS), Tally())
    assert direct.n_tokens <= HALF.direct_tokens
    assert HALF.steps_tokens - 10 <= steps.n_tokens <= HALF.steps_tokens + 40
    assert steps.text.startswith("Step 1: ")
    assert steps.text.splitlines()[-1].startswith("Answer: ")


async def test_max_tokens_cut_a_reply_and_stop_ends_it() -> None:
    """A cut says so; a stop sequence is not part of the text."""
    request = ask(NUMBER, STEPS)
    (whole,) = await provider().sample(request, Tally())
    (cut,) = await provider().sample(replace(request, max_tokens=12), Tally())
    assert (cut.finish_reason, cut.n_tokens) == ("length", 12)
    assert whole.text.startswith(cut.text)
    tally = Tally()
    (stopped,) = await provider().sample(replace(request, stop=("", "Step 2")), tally)
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text.partition("Step 2")[0]
    assert tally.usage.completion_tokens == stopped.n_tokens < whole.n_tokens


async def test_usage_is_what_was_said_and_is_no_estimate() -> None:
    """The prompt once, every completion, within the bound of the prompt."""
    request = ask(NUMBER, STEPS, n=3)
    tally = Tally()
    samples = await provider().sample(request, tally)
    assert tally.final
    assert not tally.usage.estimated
    assert tally.usage.n_calls == 1
    assert tally.usage.completion_tokens == sum(count_tokens(s.text) for s in samples)
    assert tally.usage.prompt_tokens <= provider().count_prompt_tokens(request.messages)


async def test_a_stream_left_early_has_used_what_was_said() -> None:
    """The rest was never made."""
    tally = Tally()
    said = ""
    async with aclosing(provider().stream(ask(NUMBER, STEPS), tally)) as chunks:
        async for chunk in chunks:
            said += str(chunk.delta.get("content") or "")
            if len(said) > 40:
                break
    assert tally.final
    assert tally.usage.completion_tokens == count_tokens(said)


async def test_a_stream_has_one_completion() -> None:
    """More cannot be told apart."""
    with pytest.raises(RequestError, match="n=2"):
        await anext(provider().stream(ask(NUMBER, n=2), Tally()))


async def test_the_question_is_found_wherever_a_strategy_puts_it() -> None:
    """Behind other text, before exemplars' answers, or in an earlier turn."""
    knowing = provider(SimulatedModel(skill=9.0))
    shapes = [
        (Message("user", f"Please help: {NUMBER.text} Thanks!"),),
        (Message("user", f"Some context.\n\n{NUMBER.text}\n\nA hint."),),
        (
            Message("user", NUMBER.text),
            Message("assistant", "Hm."),
            Message("user", "Therefore, what is the final answer?"),
        ),
        (
            Message("user", QUESTIONS[0].text),
            Message("assistant", "Answer: 1"),
            Message("user", NUMBER.text),
        ),
    ]
    for messages in shapes:
        (sample,) = await knowing.sample(SampleRequest(messages, max_tokens=99, seed=1), Tally())
        assert grade(NUMBER, sample.text) == 1.0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("How many legs has a spider?", AnswerKind.NUMBER),
        ("Is it so, yes or no?", AnswerKind.CHOICE),
        ("Combine the numbers 1, 2, 3 with + - * / to make 6.", AnswerKind.EXPRESSION),
        ("Return a JSON object.", AnswerKind.JSON),
        ("Tell me about spiders.", AnswerKind.TEXT),
        ("", AnswerKind.TEXT),
    ],
)
async def test_unknown_questions_get_the_same_made_up_answer(text: str, kind: AnswerKind) -> None:
    """Nothing raises, and a reply has the kind that was asked for."""
    request = SampleRequest((Message("user", text),), max_tokens=99, seed=3)
    (first,) = await provider().sample(request, Tally())
    (again,) = await provider().sample(request, Tally())
    assert first == again
    assert first.text
    assert kind is AnswerKind.TEXT or answers.extract(first.text, kind) is not None


async def test_latency_passes_and_nothing_is_open_afterwards() -> None:
    """A call with a delay still answers; closing twice is fine."""
    slow = SimulatedProvider("sim", HALF, QUESTIONS, latency_s=0.001)
    assert await slow.sample(ask(NUMBER), Tally())
    await slow.aclose()
    await slow.aclose()


def test_a_shipped_model_is_built_by_name() -> None:
    """With or without its prefix; another name is answered with those that there are."""
    assert build_simulated("mine", "small").simulated == SIMULATED_MODELS["small"]
    assert build_simulated("mine", "sim-large").model == "mine"
    with pytest.raises(ConfigError, match=r"'huge'.*simulated/small"):
        build_simulated("mine", "huge")


def test_impossible_models_are_refused() -> None:
    """No discrimination, or answers without tokens."""
    for wrong in ({"discrimination": 0.0}, {"direct_tokens": 0}, {"steps_tokens": 0}):
        with pytest.raises(ValueError, match="discrimination"):
            SimulatedModel(0.5, **wrong)
