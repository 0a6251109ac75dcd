"""JSON that is valid against a schema of the operator."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from policies.types import AnswerKind
from router import answers
from router.errors import StrategyConfigError
from router.parameters import canonical, check
from router.verifiers.base import Rule, Verdict
from router.verifiers.schemas import BoundedSchema, CannotSayError, schema_of

if TYPE_CHECKING:
    from router.types import Answer, Task

MAX_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class JsonSchemaVerifier(Rule):
    """Right is an answer with JSON that is valid against ``schema``.

    ``schema`` is the schema itself as JSON, or the name of a file that holds it; it is read once,
    when the verifier is made. A ``$ref`` to elsewhere is never fetched: it is an error when the
    verifier is made, or "cannot say" where only a document reaches it, as a pattern is that cannot
    be matched in linear time.
    """

    grader: ClassVar[str] = "json_schema"
    title: ClassVar[str] = "JSON that is valid against a schema"

    schema: str

    def __post_init__(self) -> None:
        check(self)
        _schema(self.schema)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:  # noqa: ARG002 - protocol
        """Judge the JSON of ``answer``; the reason is the first thing that is wrong with it."""
        found = answers.extract(answer.text[:MAX_CHARS], AnswerKind.JSON)
        if found is None:
            return Verdict(0.0, "no JSON was found")
        try:
            problem = _schema(self.schema).problem(json.loads(found))
        except CannotSayError as error:
            return Verdict(None, str(error))
        return (
            Verdict(1.0, "valid against the schema") if problem is None else Verdict(0.0, problem)
        )


@lru_cache(maxsize=64)
def _schema(schema: str) -> BoundedSchema:
    """Read a schema or its file, or raise StrategyConfigError."""
    try:
        text = schema if schema.lstrip().startswith(("{", "[")) else Path(schema).read_text("utf-8")
    except (OSError, ValueError) as error:
        msg = f"json_schema: schema is neither JSON nor a readable file of JSON: {error}"
        raise StrategyConfigError(msg) from error
    try:
        return schema_of(text)
    except StrategyConfigError as error:
        msg = f"json_schema: {error}"
        raise StrategyConfigError(msg) from error
