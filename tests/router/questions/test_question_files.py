"""Question files: written and read back, and clear about what is wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from policies.types import AnswerKind
from router.questions.base import Question, QuestionError, read_questions, write_questions
from router.questions.registry import generate, grade

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"question_id": "a", "text": "What is 1 + 1?", "gold": "2", "kind": "number"}


def test_questions_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """Every family, with its payload."""
    path = tmp_path / "questions.jsonl"
    questions = generate(60, seed=9)
    write_questions(path, questions)
    assert read_questions(path) == questions


def test_your_own_questions_need_four_columns(tmp_path: Path) -> None:
    """The rest has defaults, empty lines are skipped, and a reply can be graded."""
    path = tmp_path / "own.jsonl"
    path.write_text("\n" + json.dumps(GOOD) + "\n\n", "utf-8")
    (question,) = read_questions(path)
    assert question == Question("a", "own", 1, "What is 1 + 1?", "2", AnswerKind.NUMBER, 0.5)
    assert grade(question, "it is 2") == 1.0


@pytest.mark.parametrize(
    ("line", "row", "column", "said"),
    [
        pytest.param("{", 2, None, "not JSON", id="broken JSON"),
        pytest.param("[1]", 2, None, "list", id="not an object"),
        pytest.param("{}", 2, "question_id", "missing", id="nothing"),
        pytest.param(json.dumps(GOOD | {"text": " "}), 2, "text", "empty", id="no text"),
        pytest.param(json.dumps(GOOD | {"gold": 2}), 2, "gold", "text", id="a gold number"),
        pytest.param(json.dumps(GOOD | {"kind": "nr"}), 2, "kind", "number, choice", id="kind"),
        pytest.param(json.dumps(GOOD | {"level": "1"}), 2, "level", "'1'", id="level"),
        pytest.param(json.dumps(GOOD | {"difficulty": 2}), 2, "difficulty", "2", id="difficulty"),
        pytest.param(json.dumps(GOOD | {"payload": []}), 2, "payload", "object", id="payload"),
        pytest.param(json.dumps(GOOD), 2, "question_id", "before", id="an id twice"),
    ],
)
def test_a_wrong_row_is_named(
    tmp_path: Path, line: str, row: int, column: str | None, said: str
) -> None:
    """File, row and column are in the message and on the error."""
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n", "utf-8")
    with pytest.raises(QuestionError, match=said) as failure:
        read_questions(path)
    assert (failure.value.source, failure.value.row) == (str(path), row)
    assert failure.value.column == column
    assert str(path) in str(failure.value)
    assert f"row {row}" in str(failure.value)


def test_files_that_are_no_question_files(tmp_path: Path) -> None:
    """Missing, a folder, empty, not text, not writable: each is a QuestionError."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n", "utf-8")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.jsonl", tmp_path, empty, binary):
        with pytest.raises(QuestionError, match=path.name):
            read_questions(path)
    with pytest.raises(QuestionError, match="cannot be written"):
        write_questions(tmp_path, [])


def test_a_countdown_question_without_its_numbers_is_said(tmp_path: Path) -> None:
    """A file can name a family without giving what its rule needs."""
    path = tmp_path / "own.jsonl"
    row = GOOD | {"family": "countdown", "kind": "expression", "gold": "1+1"}
    path.write_text(json.dumps(row) + "\n", "utf-8")
    (question,) = read_questions(path)
    with pytest.raises(QuestionError, match="'numbers' and 'target'"):
        grade(question, "1+1")


def test_a_question_is_whole_at_birth() -> None:
    """No id, no text, or a difficulty off the scale."""
    for wrong in ({"question_id": ""}, {"text": "\n"}, {"difficulty": 1.5}):
        values = {
            "question_id": "a",
            "family": "own",
            "level": 1,
            "text": "?",
            "gold": "1",
            "kind": AnswerKind.NUMBER,
            "difficulty": 0.5,
        }
        with pytest.raises(ValueError, match="a question needs"):
            Question(**(values | wrong))
