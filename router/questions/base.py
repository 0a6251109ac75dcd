"""A question whose answer can be checked, a family of them, and their file form (JSONL)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cost_models.errors import RheostatError
from policies.types import AnswerKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from router.chance import Dice

ID_DIGITS = 12
OWN_FAMILY = "own"


class QuestionError(RheostatError):
    """Questions cannot be read or made; names the file, row and column where there are any."""

    def __init__(
        self,
        problem: str,
        *,
        source: str | None = None,
        row: int | None = None,
        column: str | None = None,
    ) -> None:
        self.source = source
        self.row = row
        self.column = column
        places = [
            source,
            f"row {row}" if row is not None else None,
            f"column {column!r}" if column is not None else None,
        ]
        where = ", ".join(place for place in places if place is not None)
        super().__init__(f"{where}: {problem}" if where else problem)


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its right answer.

    ``gold`` is the canonical answer, or one of them where a rule grades (countdown). ``level``
    counts from 1 within the family. ``difficulty`` in [0, 1] is what the simulated models are
    measured against: 0 trivial, 1 hopeless. ``payload`` holds what the family's rule needs.
    """

    question_id: str
    family: str
    level: int
    text: str
    gold: str
    kind: AnswerKind
    difficulty: float
    payload: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.question_id or not self.text.strip() or not 0.0 <= self.difficulty <= 1.0:
            msg = f"a question needs an id, a text and a difficulty in [0, 1], got {self!r}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a family's generator makes: a question before it has a name."""

    text: str
    gold: str
    kind: AnswerKind = AnswerKind.NUMBER
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of question in several levels.

    ``difficulties`` has one latent difficulty a level, the first for level 1. ``draft`` makes a
    question of a level. ``balanced`` are the right answers that must be equally frequent.
    ``rule`` grades a reply where more than one answer is right.
    """

    difficulties: tuple[float, ...]
    draft: Callable[[Dice, int], Draft]
    balanced: tuple[str, ...] = ()
    rule: Callable[[Question, str], bool] | None = None


def question_id(family: str, level: int, text: str) -> str:
    """Name a question by what it asks: the same question has the same id in every file."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]
    return f"{family}-{level}-{digest}"


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Write one JSON object a line; an existing file is replaced."""
    try:
        with path.open("w", encoding="utf-8", newline="\n") as sink:
            for question in questions:
                sink.write(json.dumps(asdict(question), ensure_ascii=False) + "\n")
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise QuestionError(problem, source=str(path)) from error


def read_questions(path: Path) -> list[Question]:
    """Read questions, one JSON object a line; raise QuestionError on the first that is wrong.

    Needed are ``question_id``, ``text``, ``gold`` and ``kind``; your own questions may leave out
    the rest.
    """
    source = str(path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read: {error}"
        raise QuestionError(problem, source=source) from error
    questions: dict[str, Question] = {}
    for row, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        question = _question(line, source, row)
        if question.question_id in questions:
            problem = f"{question.question_id!r} was used before; ids must be unique"
            raise QuestionError(problem, source=source, row=row, column="question_id")
        questions[question.question_id] = question
    if not questions:
        problem = "holds no question"
        raise QuestionError(problem, source=source)
    return list(questions.values())


def _question(line: str, source: str, row: int) -> Question:
    try:
        loaded = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON: {error}"
        raise QuestionError(problem, source=source, row=row) from error
    if not isinstance(loaded, dict):
        problem = f"is not a JSON object but {type(loaded).__name__}"
        raise QuestionError(problem, source=source, row=row)
    cells = _Cells(loaded, source, row)
    return Question(
        question_id=cells.text("question_id"),
        family=cells.text("family", OWN_FAMILY),
        level=int(cells.number("level", 1, low=0, high=1_000_000)),
        text=cells.text("text"),
        gold=cells.text("gold"),
        kind=cells.kind(),
        difficulty=cells.number("difficulty", 0.5, low=0, high=1),
        payload=cells.payload(),
    )


class _Cells:
    """The columns of one row, checked as they are read."""

    def __init__(self, values: Mapping[str, Any], source: str, row: int) -> None:
        self._values = values
        self._source = source
        self._row = row

    def _wrong(self, column: str, problem: str) -> QuestionError:
        return QuestionError(problem, source=self._source, row=self._row, column=column)

    def text(self, column: str, default: str | None = None) -> str:
        value = self._values.get(column, default)
        if value is None:
            problem = "is missing"
            raise self._wrong(column, problem)
        if not isinstance(value, str) or not value.strip():
            problem = f"must be text that is not empty, got {value!r}"
            raise self._wrong(column, problem)
        return value

    def number(self, column: str, default: float, *, low: float, high: float) -> float:
        value = self._values.get(column, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            problem = f"must be a number in [{low}, {high}], got {value!r}"
            raise self._wrong(column, problem)
        return float(value)

    def kind(self) -> AnswerKind:
        value = self.text("kind")
        try:
            return AnswerKind(value)
        except ValueError as error:
            problem = f"must be one of {', '.join(AnswerKind)}; got {value!r}"
            column = "kind"
            raise self._wrong(column, problem) from error

    def payload(self) -> Mapping[str, Any]:
        value = self._values.get("payload", {})
        if not isinstance(value, dict):
            column, problem = "payload", f"must be an object, got {value!r}"
            raise self._wrong(column, problem)
        return value
