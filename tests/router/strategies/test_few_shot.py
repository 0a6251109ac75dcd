"""Few-shot: worked examples of the right kind before the question."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cost_models.pricing import Price
from policies.types import AnswerKind
from router import answers
from router.errors import StrategyConfigError
from router.providers.metered import Allowance, Meter
from router.providers.scripted import ScriptedProvider
from router.strategies.few_shot import FewShot, load_exemplars
from router.types import Message, Task

if TYPE_CHECKING:
    from pathlib import Path

    from router.types import Exemplar

pytestmark = pytest.mark.anyio

TASK = Task(
    messages=(
        Message("system", "be kind"),
        Message("user", "Hello."),
        Message("assistant", "Hello!"),
        Message("user", "What is 6 times 7?"),
    ),
    answer_kind=AnswerKind.NUMBER,
    kind_is_declared=True,
)
ROW = {"kind": "number", "question": "1+1?", "reasoning": "One and one.", "answer": "2"}


async def asked(task: Task, strategy: FewShot) -> list[tuple[str, str]]:
    """Give the messages of the run's call."""
    provider = ScriptedProvider(["Answer: 42"])
    answer = await strategy.run(task, Meter(provider, Price(free=True), Allowance()))
    assert answer.value is None or answer.value == "42"
    return [(message.role, message.text) for message in provider.requests[0].messages]


async def test_examples_come_before_the_question() -> None:
    """As turns of their own, after everything that was said before."""
    messages = await asked(TASK, FewShot(n_exemplars=2))
    assert messages[:3] == [("system", "be kind"), ("user", "Hello."), ("assistant", "Hello!")]
    assert [role for role, _ in messages[3:]] == ["user", "assistant"] * 2 + ["user"]
    assert messages[4][1].splitlines()[-1].startswith("Answer: ")
    assert messages[-1][1].startswith("What is 6 times 7?")


@pytest.mark.parametrize("kind", [AnswerKind.NUMBER, AnswerKind.CHOICE, AnswerKind.EXPRESSION])
async def test_examples_are_of_the_answers_kind(kind: AnswerKind) -> None:
    """There are shipped ones for every kind that is voted on."""
    messages = await asked(replace(TASK, answer_kind=kind), FewShot(n_exemplars=1))
    shown = {e.question: e.kind for e in load_exemplars("")}
    assert shown[messages[3][1]] is kind


async def test_a_kind_without_examples_gets_none() -> None:
    """Examples of another kind would mislead."""
    messages = await asked(replace(TASK, answer_kind=AnswerKind.TEXT), FewShot())
    assert len(messages) == len(TASK.messages)


@pytest.mark.parametrize("exemplar", load_exemplars(""), ids=lambda e: e.question[:30])
def test_the_shipped_answers_can_be_read_off_their_examples(exemplar: Exemplar) -> None:
    """A model that imitates an example gives an answer that is extracted."""
    worked = exemplar.turns()[1].text
    value = answers.extract(worked, exemplar.kind)
    assert value is not None
    assert answers.same(value, exemplar.answer, exemplar.kind)


@pytest.mark.parametrize("suffix", ["jsonl", "yaml"])
async def test_examples_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    """One JSON object a line, or a YAML list."""
    path = tmp_path / f"mine.{suffix}"
    path.write_text(json.dumps(ROW) + "\n" if suffix == "jsonl" else json.dumps([ROW]))
    strategy = FewShot(file=str(path))
    assert ("user", "1+1?") in await asked(TASK, strategy)
    assert f"file={str(path)!r}" in str(strategy)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", "{not json}", "neither JSONL nor YAML"),
        ("x.yaml", "a: [1", "neither JSONL nor YAML"),
        ("x.yaml", "", "no list"),
        ("x.yaml", "[]", "no list"),
        ("x.jsonl", json.dumps(ROW) + '\n{"kind": "number"}', "exemplar 2"),
        ("x.jsonl", json.dumps({**ROW, "kind": "numbr"}), "'numbr'"),
    ],
)
def test_a_bad_file_is_an_error_at_start(tmp_path: Path, name: str, text: str, said: str) -> None:
    """It names the file and the row."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(StrategyConfigError, match=said) as told:
        FewShot(file=str(path))
    assert name in str(told.value)


def test_a_missing_file_is_an_error_at_start(tmp_path: Path) -> None:
    """Not at the first request."""
    with pytest.raises(StrategyConfigError, match="cannot be read"):
        FewShot(file=str(tmp_path / "none.yaml"))
