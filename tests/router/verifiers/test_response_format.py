"""Response formats: what keeps one, what breaks it, and who wins among samples that do either."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.errors import RequestError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import Reply, ScriptedProvider
from router.strategies.cascade import CascadeRun
from router.strategies.escalation import parse_escalation
from router.strategies.registry import parse_strategy
from router.types import Answer, Message, Sample, Task
from router.verifiers.response_format import check_format, format_verdict, with_format

pytestmark = pytest.mark.anyio

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
GOOD, OTHER, BROKEN = '{"n": 7}', '{"n": 8}', "Sure! {not json"


def asked(schema: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Give the fields of a request for a schema."""
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return {"response_format": form}


def task(extra: dict[str, Any]) -> Task:
    """Give a task of kind JSON with a response format."""
    return Task((Message("user", "which?"),), AnswerKind.JSON, extra=extra)


TASK = task(asked(NUMBER))


def quality(schema: Any, text: str) -> float | None:  # noqa: ANN401 - any JSON
    """Judge a text by a schema."""
    return format_verdict(task(asked(schema)), Sample(text)).quality


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        pytest.param(GOOD, 1.0, id="valid"),
        pytest.param(f"  {GOOD}\n", 1.0, id="white space"),
        pytest.param('{"n": "7"}', 0.0, id="wrong type"),
        pytest.param("{}", 0.0, id="missing"),
        pytest.param(f"```json\n{GOOD}\n```", 0.0, id="a fence is no JSON"),
        pytest.param('{"n": NaN}', 0.0, id="NaN is no JSON"),
        pytest.param('{"n": ', 0.0, id="cut off"),
        pytest.param("", 0.0, id="empty"),
        pytest.param("[" * 100_000, 0.0, id="nested too deep"),
        pytest.param('"' + "x" * 300_000 + '"', None, id="too long to say"),
    ],
)
def test_the_text_as_it_is_has_to_be_valid(text: str, wanted: float | None) -> None:
    """Clients read it with a JSON parser."""
    assert quality(NUMBER, text) == wanted


def test_an_object_is_any_object_and_other_answers_are_not_judged() -> None:
    """``json_object`` asks for an object; tool calls and refusals are answers of another kind."""
    plain = task({"response_format": {"type": "json_object"}})
    assert format_verdict(plain, Sample('{"a": [1]}')).quality == 1.0
    assert format_verdict(plain, Sample("[1]")).quality == 0.0
    assert format_verdict(plain, Sample("", tool_calls=({"id": "c"},))).quality is None
    assert format_verdict(plain, Sample("", refusal="no")).quality is None
    assert format_verdict(task({}), Sample("x")).quality is None


DOUBLING = {
    "$defs": {
        **{f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)},
        "a60": {"type": "object"},
    },
    "$ref": "#/$defs/a0",
}


@pytest.mark.parametrize(
    ("schema", "document", "wanted"),
    [
        pytest.param({"type": "string", "pattern": "^(a+)+$"}, "a" * 60 + "!", 0.0, id="regex"),
        pytest.param({"patternProperties": {"^(a+)+$": {}}}, {"a" * 60 + "!": 1}, 1.0, id="names"),
        pytest.param(
            {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
            {"a" * 60 + "!": 1},
            0.0,
            id="other names",
        ),
        pytest.param({"additionalProperties": {"type": "null"}}, {"a": 1}, 0.0, id="more"),
        pytest.param({"patternProperties": {"^n": {"type": "null"}}}, {"n": 1}, 0.0, id="by name"),
        pytest.param({"pattern": "(?=a)b"}, "ab", None, id="a look-ahead"),
        pytest.param(DOUBLING, {}, None, id="references that double"),
        pytest.param({"$ref": "http://127.0.0.1:9/x"}, {}, None, id="a reference elsewhere"),
        pytest.param({"uniqueItems": True}, [{"a": i} for i in range(9000)], 1.0, id="unique"),
        pytest.param({"uniqueItems": True}, [{"a": 1}, {"a": 1}], 0.0, id="twice"),
    ],
)
def test_neither_schema_nor_document_can_keep_us_busy(
    schema: dict[str, Any], document: object, wanted: float | None
) -> None:
    """What would take for ever elsewhere is judged, or said to be beyond judging."""
    assert quality(schema, json.dumps(document)) == wanted


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"type": "json_schema"}, id="no description"),
        pytest.param({"type": "json_schema", "json_schema": {"name": "x"}}, id="no schema"),
        pytest.param(asked({"type": "nothing"})["response_format"], id="no valid schema"),
        pytest.param(asked({"pad": "x" * 200_001})["response_format"], id="too long"),
    ],
)
def test_a_bad_schema_is_refused_before_anything_is_spent(form: dict[str, Any]) -> None:
    """The client learns it from us, whatever the upstream would do."""
    with pytest.raises(RequestError) as raised:
        check_format({"response_format": form})
    assert str(raised.value.param).startswith("response_format.json_schema")
    check_format(asked(NUMBER))
    check_format({"response_format": {"type": "json_object"}})


async def run(strategy: str, *replies: str) -> Answer:
    """Run a strategy for a number in JSON."""
    meter = Meter(ScriptedProvider(list(replies)), Price(free=True), Allowance())
    return with_format(TASK, await parse_strategy(strategy).run(TASK, meter))


@pytest.mark.parametrize(
    "strategy",
    [
        "self_consistency(samples=5, stop_at=1.0)",
        "best_of_n(samples=5, batch=5)",
        "weighted_best_of_n(samples=5)",
        "weighted_self_consistency(samples=5)",
    ],
)
async def test_samples_that_break_the_format_have_no_vote(strategy: str) -> None:
    """Three alike that are fenced lose against two that are valid; without any, one is given."""
    fenced = f"```json\n{OTHER}\n```"
    answer = await run(strategy, fenced, fenced, fenced, GOOD, GOOD)
    assert answer.text == GOOD
    assert answer.verified is True
    assert "response_format:json_schema" in str(answer.verified_by)
    broken = await run(strategy, *[BROKEN] * 5)
    assert broken.text == BROKEN
    assert (broken.verified, broken.verified_by) == (False, "response_format:json_schema")


async def test_a_cascade_climbs_past_a_broken_answer() -> None:
    """However sure its model was; where all are broken the last one is given, marked."""
    stages = "small|direct then escalate to large|direct until confident 0.5"
    escalation = parse_escalation(stages)

    async def climb(*texts: str) -> tuple[Answer, int]:
        run = CascadeRun(escalation)
        said = [Reply(text, mean_logprob=-0.01) for text in texts]
        sure = [Meter(ScriptedProvider([reply]), Price(free=True), Allowance()) for reply in said]
        return with_format(TASK, await run.run(TASK, sure)), len(run.attempts)

    answer, n_stages = await climb(BROKEN, GOOD)
    assert (answer.text, answer.verified, n_stages) == (GOOD, True, 2)
    answer, n_stages = await climb(GOOD, OTHER)
    assert (answer.text, answer.verified, n_stages) == (GOOD, True, 1)
    answer, _ = await climb(BROKEN, BROKEN)
    assert (answer.text, answer.verified) == (BROKEN, False)


def test_every_choice_has_to_keep_the_format() -> None:
    """One broken choice makes the whole unverified; what a verifier found before stays beside."""
    good, broken = Sample(GOOD), Sample(BROKEN)
    both = Answer(GOOD, choices=(good, broken))
    assert with_format(TASK, both).verified is False
    assert with_format(TASK, replace(both, choices=(good, good))).verified is True
    known = Answer(GOOD, choices=(good,), verified=False, verified_by="judge")
    assert with_format(TASK, known) is known
    known = replace(known, verified=True)
    assert with_format(TASK, known).verified_by == "judge, response_format:json_schema"
