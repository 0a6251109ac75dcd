"""What every verifier must hold."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cost_models.estimates import worst_case_nano_usd
from cost_models.pricing import Price
from policies.types import AnswerKind
from router.errors import ProviderError, StrategyConfigError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.questions.registry import generate
from router.types import Answer, Message, Task
from router.verifiers.registry import VERIFIERS, for_question, parse_verifier

if TYPE_CHECKING:
    from router.types import SampleRequest
    from router.verifiers.base import Verdict, Verifier

PRICE = Price(
    input_usd_per_million_tokens=Decimal(1), output_usd_per_million_tokens=Decimal(2), source="test"
)
NUMBER, EXPRESSION, JSON = AnswerKind.NUMBER, AnswerKind.EXPRESSION, AnswerKind.JSON
COUNTDOWN = "Using the numbers 3, 4, 5, each at most once, write an expression that equals 35."

EXAMPLES = {
    "reference": ("reference(reference='42')", NUMBER, "?", "It is 42.", "It is 41."),
    "number": ("number(expected='1.5 km')", NUMBER, "?", "It is 1500 m.", "It is 1500 km."),
    "math": ("math(expected='1/2')", EXPRESSION, "?", r"\boxed{\frac{2}{4}}", r"\boxed{2}"),
    "choices": ("choices(among='A, B')", AnswerKind.CHOICE, "?", "Answer: (b)", "Answer: C"),
    "pattern": (r"pattern(regex='[A-Z]{2}\\d+')", AnswerKind.TEXT, "?", "AB12", "ab12"),
    "json_schema": (
        """json_schema(schema='{"type": "object", "required": ["a"]}')""",
        JSON,
        "?",
        '{"a": 1}',
        '{"b": 1}',
    ),
    "countdown": ("countdown", EXPRESSION, COUNTDOWN, "Answer: (3+4)*5", "Answer: 3*4*5"),
    "game24": ("game24", EXPRESSION, "Input: 4 9 10 13", "(10-4)*(13-9)", "4+9+10+1"),
    "arithmetic": ("arithmetic", NUMBER, "?", "6 * 7 = 42\nAnswer: 42", "6 * 7 = 43\nAnswer: 43"),
    "program_check": ("program_check", NUMBER, "?", "It is 42.", "It is 41."),
    "step_judge": ("step_judge", NUMBER, "?", "First.\nThen: right", "First.\nThen: wrong"),
    "self_judge": ("self_judge", NUMBER, "?", "It is right", "It is wrong"),
}
"""By name: the verifier, a kind of answer, a question, a right and a wrong answer to it."""

ELSEWHERE = {
    "predicate": "needs an installed package: tests/router/verifiers/test_predicate.py",
    "process_reward": "needs a server: tests/router/verifiers/test_process_reward.py",
}
OPTIONAL = {"math": "math_verify", "program_check": "pydantic_monty"}
INSTALLED = [
    name
    for name in sorted(EXAMPLES)
    if name not in OPTIONAL or importlib.util.find_spec(OPTIONAL[name])
]


def judging(request: SampleRequest, _i: int) -> str:
    """Judge as the double that it is: by the word in the answer that it is shown."""
    shown = " ".join(message.text for message in request.messages if message.role == "assistant")
    word = "wrong" if "wrong" in shown else "right"
    if "code block" in request.messages[-1].text:
        return "```python\nprint(6 * 7)\n```"
    if "numbered steps" in request.messages[-1].text:
        return f"Step 1: right\nStep 2: {word}"
    return f"Verdict: {95 if word == 'right' else 5}"


def made(name: str) -> tuple[Verifier, Task]:
    """Make a verifier and a task that it judges."""
    text, kind, question, _, _ = EXAMPLES[name]
    return parse_verifier(text), Task((Message("user", question),), kind, max_tokens=50)


def judged(verifier: Verifier, task: Task, answer: Answer, provider: ScriptedProvider) -> Verdict:
    """Let the verifier judge one answer with a meter that allows its worst case and no more."""
    calls = verifier.worst_case(task, provider.count_prompt_tokens(task.messages))
    cost = worst_case_nano_usd(PRICE, calls, None, native_n=True)
    meter = Meter(provider, PRICE, Allowance(max_cost_nano_usd=cost, max_calls=len(calls)))

    async def verify() -> Verdict:
        return await verifier.verify(task, answer, meter)

    return anyio.run(verify)


def test_every_verifier_is_tried() -> None:
    """A registered verifier has its example here or its own file of tests."""
    assert set(VERIFIERS) == set(EXAMPLES) | set(ELSEWHERE)


@pytest.mark.parametrize("name", INSTALLED)
def test_it_is_registered_under_its_grader(name: str) -> None:
    """The ledger's outcomes name it so, and its text can be read back."""
    verifier, _ = made(name)
    assert verifier.grader == VERIFIERS[name].grader == name
    assert parse_verifier(str(verifier)) == verifier
    assert verifier.title


@pytest.mark.parametrize("name", INSTALLED)
def test_what_is_right_is_better_than_what_is_wrong_and_than_nothing(name: str) -> None:
    """1 for what is right (0.95 of a judge), less for what is not, with a reason each."""
    verifier, task = made(name)
    _, _, _, right, wrong = EXAMPLES[name]
    verdicts = [
        judged(verifier, task, Answer(text), ScriptedProvider(judging))
        for text in (right, wrong, "")
    ]
    assert verdicts[0].quality is not None
    assert verdicts[0].quality >= 0.95
    assert verdicts[1].quality is not None
    assert verdicts[1].quality <= 0.05
    assert verdicts[2].quality is None or verdicts[2].quality < 1.0
    assert all(verdict.reason for verdict in verdicts)


odd = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["1e999", "\ud800", "= = 3 + 4 = = 8", "[" * 500, "9" * 500, "ü" * 7000]),
)


@pytest.mark.parametrize("name", [name for name in INSTALLED if name != "math"])
@settings(deadline=None)
@given(text=odd, value=st.none() | odd, kind=st.sampled_from(AnswerKind), said=odd)
def test_odd_answers_get_a_quality_in_range_within_the_worst_case(
    name: str, text: str, value: str | None, kind: AnswerKind, said: str
) -> None:
    """Nothing raises, whatever is judged and whatever a judge replies; calls fit their bound."""
    verifier, task = made(name)
    provider = ScriptedProvider(lambda *_: Reply(said, reports_usage=False))
    verdict = judged(verifier, replace(task, answer_kind=kind), Answer(text, value=value), provider)
    assert verdict.quality is None or 0.0 <= verdict.quality <= 1.0
    assert all(step is None or 0.0 <= step <= 1.0 for step in verdict.steps)
    assert len(provider.requests) <= verifier.demands.model_calls


@pytest.mark.parametrize("name", INSTALLED)
def test_a_judge_is_paid_as_a_judge_and_its_failure_is_the_providers(name: str) -> None:
    """Without anybody to ask it cannot say; a rule never asks."""
    verifier, task = made(name)
    answer = Answer(EXAMPLES[name][3])
    down = ScriptedProvider([ProviderError("scripted", "down")])
    n_calls = len(verifier.worst_case(task, 10))
    assert n_calls == verifier.demands.model_calls
    if n_calls:
        with pytest.raises(ProviderError):
            judged(verifier, task, answer, down)
        unheard = anyio.run(verifier.verify, task, answer)
        assert unheard.quality is None
    else:
        assert judged(verifier, task, answer, down).quality == 1.0


@pytest.mark.parametrize("question", generate(60, seed=0), ids=lambda q: q.question_id)
def test_a_generated_question_has_a_verifier_that_knows_its_answer(question: object) -> None:
    """Rule or reference: its own right answer gets 1."""
    verifier = for_question(question)  # type: ignore[arg-type]
    task = Task((Message("user", question.text),), question.kind)  # type: ignore[attr-defined]
    answer = Answer(f"Answer: {question.gold}")  # type: ignore[attr-defined]
    assert judged(verifier, task, answer, ScriptedProvider([])).quality == 1.0


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("arithmetik", "did you mean 'arithmetic'"),
        ("arithmetic(aggregation='most')", "must be one of min, product, last, mean"),
        ("number", "expected has no default"),
        ("number(expected='much')", "must be a number"),
        ("pattern(regex='(')", "no regular expression"),
        ("choices(among=' , ')", "at least one choice"),
        ("json_schema(schema='{\"type\": 3}')", "schema is not valid"),
        ("json_schema(schema='no/such/file')", "neither JSON nor a readable file"),
        ("countdown(numbers=(1.5,), target=3)", "must be whole"),
        ("process_reward(url='ftp://x', price='free')", "http(s) address"),
        ("predicate(entry='nowhere')", "no entry point"),
        ("reference(reference=3)", "must be text"),
        ({"number": {"expects": 3}}, "did you mean 'expected'"),
        ({"number": 3}, "parameters are written as"),
        (3, "a verifier is a name"),
    ],
)
def test_a_wrong_verifier_is_refused_with_what_to_write(value: object, problem: str) -> None:
    """When it is made, never at the first request."""
    with pytest.raises(StrategyConfigError) as raised:
        parse_verifier(value)
    assert problem in str(raised.value)
