"""JSON against schemas from strangers, in bounded time. The only door to jsonschema.

Both the schema and the document may come from somebody who wishes us ill, and a regular expression
or a tree of references can keep jsonschema busy for days. So patterns are matched by an engine in
linear time, equal items are found by their canonical text, and every keyword counts as a step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import SchemaError, SchemaValidator, core_schema

from router.errors import StrategyConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_STEPS = 20_000
"""Keywords that are applied to one document at most; what needs more cannot be judged."""

MAX_SCHEMA_CHARS = 200_000
MAX_SAID_CHARS = 200
MAX_KEPT = 64


class CannotSayError(Exception):
    """The schema cannot be applied to this document within bounds, or at all."""


@dataclass(slots=True)
class BoundedSchema:
    """A schema that was found valid, ready to be applied; a ``$ref`` elsewhere is never fetched."""

    _made: Any
    _steps: _Steps

    def problem(self, document: object) -> str | None:
        """Say what is wrong with ``document`` first, None for nothing.

        Raises CannotSayError.
        """
        import jsonschema.exceptions  # noqa: PLC0415 - only a process that uses it loads it
        import referencing.exceptions  # noqa: PLC0415 - as above

        self._steps.left = MAX_STEPS
        try:
            problem = next(self._made.iter_errors(document), None)
        except (RecursionError, referencing.exceptions.Unresolvable) as error:
            msg = f"the schema cannot be applied: {type(error).__name__}"
            raise CannotSayError(msg) from error
        if problem is None:
            return None
        best = jsonschema.exceptions.best_match([problem]) or problem
        return f"at {best.json_path}: {best.message[:MAX_SAID_CHARS]}"


@lru_cache(maxsize=MAX_KEPT)
def schema_of(text: str) -> BoundedSchema:
    """Read the schema in ``text``; StrategyConfigError for one that is none, or is too long."""
    import jsonschema.exceptions  # noqa: PLC0415 - only a process that uses it loads it
    import jsonschema.validators  # noqa: PLC0415 - as above
    import referencing  # noqa: PLC0415 - as above

    if len(text) > MAX_SCHEMA_CHARS:
        msg = f"the schema has {len(text)} characters; at most {MAX_SCHEMA_CHARS} are read"
        raise StrategyConfigError(msg)
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"the schema is no JSON: {error}"
        raise StrategyConfigError(msg) from error
    newest = jsonschema.validators.Draft202012Validator
    kind = jsonschema.validators.validator_for(loaded, default=newest)
    try:
        kind.check_schema(loaded)
    except jsonschema.exceptions.SchemaError as error:
        msg = f"the schema is not valid at {error.json_path}: {error.message[:MAX_SAID_CHARS]}"
        raise StrategyConfigError(msg) from error
    except RecursionError as error:
        msg = "the schema is nested too deep"
        raise StrategyConfigError(msg) from error
    steps = _Steps()
    bounded = {name: steps.counted(rule) for name, rule in kind.VALIDATORS.items()}
    bounded |= {name: steps.counted(rule) for name, rule in LINEAR.items()}
    made = jsonschema.validators.extend(kind, bounded)
    return BoundedSchema(made(loaded, registry=referencing.Registry()), steps)


@dataclass(slots=True)
class _Steps:
    """What is left of the steps of one document."""

    left: int = field(default=MAX_STEPS)

    def counted(self, rule: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        """Give ``rule`` of jsonschema, each use of which is a step."""

        def apply(validator: object, value: object, instance: object, schema: object) -> Any:  # noqa: ANN401 - as jsonschema's own
            self.left -= 1
            if self.left < 0:
                msg = f"applying the schema takes more than {MAX_STEPS} steps"
                raise CannotSayError(msg)
            return rule(validator, value, instance, schema)

        return apply


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator:
    """Make the matcher of a pattern, in linear time; CannotSayError where it needs more."""
    wanted = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")
    try:
        return SchemaValidator(wanted)
    except SchemaError as error:
        msg = f"the pattern {pattern[:60]!r} cannot be matched in linear time"
        raise CannotSayError(msg) from error


def _matches(pattern: str, text: str) -> bool:
    return _matcher(pattern).isinstance_python(text)


def _pattern(_validator: Any, wanted: str, instance: object, _schema: object) -> Iterator[Any]:  # noqa: ANN401 - jsonschema ships no types
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - loaded by now

    if isinstance(instance, str) and not _matches(wanted, instance):
        yield ValidationError(f"{instance[:60]!r} does not match {wanted[:60]!r}")


def _pattern_properties(
    validator: Any,  # noqa: ANN401 - jsonschema ships no types
    wanted: dict[str, Any],
    instance: object,
    _schema: object,
) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, schema in wanted.items():
        for name, value in instance.items():
            if _matches(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any,  # noqa: ANN401 - jsonschema ships no types
    wanted: object,
    instance: object,
    schema: dict[str, Any],
) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - loaded by now

    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in known or any(_matches(pattern, name) for pattern in patterns):
            continue
        if wanted is False:
            yield ValidationError(f"{name[:60]!r} is not among the properties")
        elif isinstance(wanted, dict):
            yield from validator.descend(value, wanted, path=name)


def _unique_items(
    _validator: Any,  # noqa: ANN401 - jsonschema ships no types
    wanted: object,
    instance: object,
    _schema: object,
) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError  # noqa: PLC0415 - loaded by now

    if wanted and isinstance(instance, list):
        texts = {json.dumps(item, sort_keys=True) for item in instance}
        if len(texts) < len(instance):
            yield ValidationError("items are there twice")


LINEAR: dict[str, Callable[..., Any]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
"""Keywords whose time would not be bounded by the size of schema and document."""
