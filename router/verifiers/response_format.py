"""Whether a sample is what ``response_format`` asked for: a client reads it with a JSON parser.

What is judged is the text as it is, since nobody would cut JSON out of it for the client. A sample
that calls tools or refuses is no answer in the format, and is not judged by it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from router.errors import RequestError, StrategyConfigError
from router.verifiers.base import Verdict
from router.verifiers.schemas import CannotSayError, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.types import Answer, Sample, Task

FIELD = "response_format"
SCHEMA = "json_schema"
JSON_FORMATS = frozenset({SCHEMA, "json_object"})
MAX_CHARS = 200_000
NOT_JUDGED = Verdict(None, "no answer in the format")


def has_format(task: Task) -> bool:
    """Tell whether the client asked for JSON."""
    return _format(task) is not None


def check_format(extra: Mapping[str, Any]) -> None:
    """Raise RequestError for a format whose schema is missing or is no valid schema."""
    asked = extra.get(FIELD)
    if not isinstance(asked, dict) or asked.get("type") != SCHEMA:
        return
    described = asked.get(SCHEMA)
    if not isinstance(described, dict) or not isinstance(described.get("schema"), dict | bool):
        msg = f"{FIELD}.{SCHEMA}.schema is required with the type {SCHEMA}; send a JSON schema"
        raise RequestError(msg, param=f"{FIELD}.{SCHEMA}", code="invalid_value")
    try:
        schema_of(json.dumps(described["schema"], sort_keys=True))
    except (StrategyConfigError, RecursionError) as error:
        msg = f"{FIELD}.{SCHEMA}: {error}"
        raise RequestError(msg, param=f"{FIELD}.{SCHEMA}.schema", code="invalid_value") from error


def format_verdict(task: Task, sample: Sample) -> Verdict:
    """Judge one sample; quality None without a format, and where it cannot be judged by it."""
    asked = _format(task)
    if asked is None or sample.tool_calls or sample.refusal:
        return NOT_JUDGED
    if len(sample.text) > MAX_CHARS:
        return Verdict(None, f"the text is above {MAX_CHARS} characters")
    try:
        document = json.loads(sample.text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Verdict(0.0, f"the text is no JSON: {error}")
    if asked["type"] != SCHEMA:
        is_object = isinstance(document, dict)
        return Verdict(1.0) if is_object else Verdict(0.0, "the JSON is no object")
    try:
        schema = schema_of(json.dumps(asked[SCHEMA]["schema"], sort_keys=True))
        problem = schema.problem(document)
    except CannotSayError as error:
        return Verdict(None, str(error))
    return Verdict(1.0) if problem is None else Verdict(0.0, problem)


def fits(task: Task, sample: Sample) -> bool:
    """Tell whether a sample may count: it is not known to break the format."""
    return not has_format(task) or format_verdict(task, sample).quality != 0.0


def with_format(task: Task, answer: Answer) -> Answer:
    """Give ``answer`` with what its format says of all that the client sees.

    A broken format outdoes what another verifier found; one that holds is named beside it.
    """
    if not has_format(task):
        return answer
    shown = answer.choices or answer.samples[:1]
    qualities = {format_verdict(task, sample).quality for sample in shown}
    name = f"{FIELD}:{task.extra[FIELD]['type']}"
    if 0.0 in qualities:
        return replace(answer, verified=False, verified_by=name)
    if qualities != {1.0} or answer.verified is False:
        return answer
    both = name if answer.verified_by is None else f"{answer.verified_by}, {name}"
    return replace(answer, verified=True, verified_by=both)


def _format(task: Task) -> Mapping[str, Any] | None:
    asked = task.extra.get(FIELD)
    return asked if isinstance(asked, dict) and asked.get("type") in JSON_FORMATS else None


def _no_constant(name: str) -> object:
    msg = f"{name} is not JSON"
    raise ValueError(msg)
