"""Rules for numbers, forms, JSON, puzzles and formulas."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.sandbox.monty import installed
from router.types import Answer, CallRole, Message, Task
from router.verifiers.equivalence import EquivalenceVerifier, Worker, worker
from router.verifiers.registry import parse_verifier

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
needs_math = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="needs rheostat[verify]"
)


async def quality(
    verifier: str, text: str, question: str = "?", value: str | None = None
) -> object:
    """Let a verifier judge a text."""
    task = Task((Message("user", question),), AnswerKind.TEXT)
    return (await parse_verifier(verifier).verify(task, Answer(text, value=value))).quality


@pytest.mark.parametrize(
    ("verifier", "text", "wanted"),
    [
        ("number(expected='100')", "It is 100.", 1.0),
        ("number(expected='100')", "It is 100.001", 0.0),
        ("number(expected='100', relative=0.01)", "about 99.2", 1.0),
        ("number(expected='100', relative=0.01)", "about 98.9", 0.0),
        ("number(expected='0', absolute=0.5)", "-0.5", 1.0),
        ("number(expected='36 km/h')", "The speed is 10 m/s.", 1.0),
        ("number(expected='36 km/h')", "The speed is 10 km/h.", 0.0),
        ("number(expected='36 km/h')", "The speed is 36.", 1.0),
        ("number(expected='36 km/h')", "It takes 36 s.", 0.0),
        ("number(expected='2 h')", "Answer: 120 minutes", 1.0),
        ("number(expected='25 %')", "Answer: 25 percent", 1.0),
        ("number(expected='5')", "5 apples", 1.0),
        ("number(expected='5')", "no idea", 0.0),
        ("number(expected='5')", "9" * 500, 0.0),
        ("number(expected='1e3')", "1000", 1.0),
        ("number(expected='5')", "5A", 1.0),
        (r"pattern(regex='\\d{4}-\\d\\d')", "2024-05", 1.0),
        (r"pattern(regex='\\d{4}-\\d\\d')", "in 2024-05", 0.0),
        ("choices(among='red, green')", "Green", 1.0),
        ("choices(among='red, green')", "blue", 0.0),
    ],
)
async def test_a_rule_decides(verifier: str, text: str, wanted: float) -> None:
    """By tolerance and unit, by form, by set."""
    assert await quality(verifier, text) == wanted


@pytest.mark.parametrize(
    ("question", "text", "wanted"),
    [
        ("Input: 4 9 10 13", "Answer: (10 - 4) * (13 - 9) = 24", 1.0),
        ("Input: 4 9 10 13", "Answer: 4 + 10 + 10", 0.0),
        ("Input: 4 9 10 13", "Answer: (13 - 9) * (10 - 4)\nso 24", 1.0),
        ("Use 4, 9, 10 and 13 to make 24.", "(13-9)*(10-4)", 1.0),
        ("Use 24, 1, 1 and 1 to make 24.", "24*1*1*1", 1.0),
        ("Use 4, 9 and 10 to make 24.", "(13-9)*(10-4)", None),
        ("Input: 4 9 10 13", "I give up", 0.0),
    ],
)
async def test_the_game_of_24_reads_its_numbers_from_the_question(
    question: str, text: str, wanted: float | None
) -> None:
    """Each number exactly once; a question without four numbers is not judged."""
    assert await quality("game24", text, question) == wanted


async def test_countdown_reads_its_numbers_from_the_question() -> None:
    """Numbers and target where they are not given; a question without them is not judged."""
    asked = "Use the numbers 2, 3 and 7 and the signs + - * / to make 17."
    assert await quality("countdown", "2*7+3", asked) == 1.0
    assert await quality("countdown", "2*7+2", asked) == 0.0
    assert await quality("countdown", "2*7+3", "Hello") is None
    assert await quality("countdown(numbers=(2, 8), target=16)", "2*8", "Hello") == 1.0


async def test_a_schema_from_a_file_and_what_is_wrong_at_which_place(tmp_path: Path) -> None:
    """The first thing that is wrong is the reason; nothing is fetched for a reference."""
    file = tmp_path / "schema.json"
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}
    file.write_text(json.dumps(schema), "utf-8")
    verifier = parse_verifier({"json_schema": {"schema": str(file)}})
    task = Task((Message("user", "?"),), AnswerKind.JSON)
    right = await verifier.verify(task, Answer('```json\n{"n": 3}\n```'))
    wrong = await verifier.verify(task, Answer('{"n": 2}'))
    assert (right.quality, wrong.quality) == (1.0, 0.0)
    assert "$.n" in wrong.reason
    remote = json.dumps({"properties": {"n": {"$ref": "http://127.0.0.1:9/schema"}}})
    verdict = await parse_verifier({"json_schema": {"schema": remote}}).verify(
        task, Answer('{"n": 1}')
    )
    assert verdict.quality is None


@needs_math
@pytest.mark.parametrize(
    ("expected", "text", "wanted"),
    [
        ("1/2", r"So \boxed{\frac{1}{2}}", 1.0),
        ("1/2", r"So \boxed{0.5}", 1.0),
        ("1/2", r"So \boxed{\frac{1}{3}}", 0.0),
        (r"2\sqrt{3}", r"\boxed{\sqrt{12}}", 1.0),
        (r"(x+1)^2", r"\boxed{x^2+2x+1}", 1.0),
        ("1/2", "Answer: 0.5", 1.0),
        ("9^{9^{9^{9}}}", r"\boxed{9^{9^{9^{8}}}}", None),
    ],
)
async def test_equal_formulas_are_equal_however_written(
    expected: str, text: str, wanted: float | None
) -> None:
    """Symbolically, in the worker process; what overflows cannot be compared."""
    verdict = await EquivalenceVerifier(expected, timeout_s=30.0).verify(
        Task((Message("user", "?"),), AnswerKind.EXPRESSION), Answer(text)
    )
    assert verdict.quality == wanted, verdict.reason


@needs_math
def test_a_comparison_that_takes_too_long_ends_the_worker_and_the_next_one_works() -> None:
    """Time is bounded by ending the process; what cannot be compared is None."""
    own = Worker()
    try:
        assert own.equal("1", "1", 30.0) is True
        assert own.equal("2", "1+1", 0.0) is None
        assert own.equal("x" * 10_000, "1", 1.0) is None
        assert own.equal("2", "1+1", 30.0) is True
    finally:
        own.close()


def test_one_worker_serves_the_process() -> None:
    """It is made once."""
    assert worker() is worker()


@pytest.mark.skipif(not installed(), reason="needs rheostat[sandbox]")
@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("```\nprint(6 * 7)\n```", 1.0),
        ("```\nprint(6 * 8)\n```", 0.0),
        ("```\nprint(6 / 0)\n```", None),
        ("```\nx = 42\n```", None),
        ("```\nprint('much')\n```", None),
        ("It is 42.", None),
    ],
)
async def test_a_program_must_come_to_the_same(program: str, wanted: float | None) -> None:
    """What fails or cannot be compared decides nothing; the call is a verifier's."""
    task = Task((Message("user", "6 * 7?"),), AnswerKind.NUMBER, max_tokens=50)
    meter = Meter(ScriptedProvider([program]), Price(free=True), Allowance())
    verdict = await parse_verifier("program_check").verify(task, Answer("It is 42."), meter)
    assert verdict.quality == wanted, verdict.reason
    assert [call.role for call in meter.calls] == [CallRole.VERIFY]
