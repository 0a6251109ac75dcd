"""JSON that is valid against a schema. The only door to jsonschema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from policies.types import AnswerKind
from router import answers
from router.errors import StrategyConfigError
from router.parameters import canonical, check
from router.verifiers.base import Rule, Verdict

if TYPE_CHECKING:
    from router.types import Answer, Task

MAX_CHARS = 200_000
MAX_SAID_CHARS = 200


@dataclass(frozen=True, slots=True)
class JsonSchemaVerifier(Rule):
    """Right is an answer with JSON that is valid against ``schema``.

    ``schema`` is the schema itself as JSON, or the name of a file that holds it; it is read once,
    when the verifier is made. A ``$ref`` to elsewhere is never fetched: it is an error when the
    verifier is made, or "cannot say" where only a document reaches it.
    """

    grader: ClassVar[str] = "json_schema"
    title: ClassVar[str] = "JSON that is valid against a schema"

    schema: str

    def __post_init__(self) -> None:
        check(self)
        _validator(self.schema)

    def __str__(self) -> str:
        return canonical(self)

    def judge(self, task: Task, answer: Answer) -> Verdict:  # noqa: ARG002 - protocol
        """Judge the JSON of ``answer``; the reason is the first thing that is wrong with it."""
        found = answers.extract(answer.text[:MAX_CHARS], AnswerKind.JSON)
        if found is None:
            return Verdict(0.0, "no JSON was found")
        import jsonschema.exceptions  # noqa: PLC0415 - only a process that uses it loads it
        import referencing.exceptions  # noqa: PLC0415 - as above

        try:
            problem = next(_validator(self.schema).iter_errors(json.loads(found)), None)
        except (RecursionError, referencing.exceptions.Unresolvable) as error:
            return Verdict(None, f"the schema cannot be applied: {type(error).__name__}")
        if problem is None:
            return Verdict(1.0, "valid against the schema")
        best = jsonschema.exceptions.best_match([problem]) or problem
        return Verdict(0.0, f"at {best.json_path}: {best.message[:MAX_SAID_CHARS]}")


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:  # noqa: ANN401 - jsonschema ships no types
    """Make the validator of a schema, or raise StrategyConfigError."""
    import jsonschema.exceptions  # noqa: PLC0415 - only a process that uses it loads it
    import jsonschema.validators  # noqa: PLC0415 - as above
    import referencing  # noqa: PLC0415 - as above

    try:
        text = schema if schema.lstrip().startswith(("{", "[")) else Path(schema).read_text("utf-8")
        loaded = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        msg = f"json_schema: schema is neither JSON nor a readable file of JSON: {error}"
        raise StrategyConfigError(msg) from error
    kind = jsonschema.validators.validator_for(
        loaded, default=jsonschema.validators.Draft202012Validator
    )
    try:
        kind.check_schema(loaded)
    except jsonschema.exceptions.SchemaError as error:
        msg = f"json_schema: the schema is not valid at {error.json_path}: {error.message}"
        raise StrategyConfigError(msg) from error
    return kind(loaded, registry=referencing.Registry())
