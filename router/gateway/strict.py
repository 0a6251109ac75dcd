"""Strict shapes: a key that nobody knows is an error that names the nearest one."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

MAX_SHOWN_CHARS = 60
CODES = {
    "missing": "missing_required_parameter",
    "unknown_parameter": "unknown_parameter",
    "unsupported_parameter": "unsupported_parameter",
}
INVALID_VALUE = "invalid_value"
NO_OBJECT = frozenset({"model_type", "model_attributes_type", "dict_type"})


class Strict(BaseModel):
    """A frozen shape that refuses keys it does not know.

    ``refused`` names keys that are known and not supported, each with what to do instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, data: object) -> object:
        known = cls.__pydantic_fields__
        if not isinstance(data, dict) or data.keys() <= known.keys():
            return data
        for key in data:
            if key in cls.refused:
                if data[key] is not None:
                    raise wrong(cls.refused[key], at=(key,), code="unsupported_parameter")
            elif key not in known:
                message = f"unknown key{nearest(key, known)}"
                raise wrong(message, at=(str(key),), code="unknown_parameter")
        return {key: value for key, value in data.items() if key in known}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it is, and OpenAI's code for it."""

    path: Path
    message: str
    code: str

    @property
    def place(self) -> str:
        """``models[0].price``; empty for the whole."""
        return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).lstrip(".")


def wrong(message: str, *, at: Path = (), code: str = INVALID_VALUE) -> PydanticCustomError:
    """Make the error for a validator to raise; ``at`` is the place inside what it validates."""
    return PydanticCustomError("told", "{problem}", {"problem": message, "at": at, "code": code})


def nearest(key: object, known: Iterable[str]) -> str:
    """``; did you mean 'price'?``, or every known name when none is near."""
    names = list(known)
    near = get_close_matches(str(key), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; use one of: {', '.join(names)}"


def problems(
    errors: Sequence[ErrorDetails] | Sequence[Mapping[str, Any]], hidden: Collection[str] = ()
) -> list[Problem]:
    """Translate validation errors; values at places that end in a ``hidden`` name are not shown.

    A list is not also called too short because its items are wrong.
    """
    paths = [tuple(error["loc"]) for error in errors]
    return [
        _problem(error, hidden)
        for error, path in zip(errors, paths, strict=True)
        if error["type"] != "too_short"
        or not any(other[: len(path)] == path and len(other) > len(path) for other in paths)
    ]


def _problem(error: Mapping[str, Any], hidden: Collection[str]) -> Problem:
    path: Path = tuple(error["loc"])
    kind = error["type"]
    if kind == "told":
        facts = error["ctx"]
        return Problem((*path, *facts["at"]), facts["problem"], facts["code"])
    message = str(error["msg"])
    message = message[:1].lower() + message[1:]
    value = error.get("input")
    if kind == "missing":
        message = "is required; add it"
    elif kind in NO_OBJECT:
        message = "an object with named members is needed here"
    elif isinstance(value, str | int | float) and not any(part in hidden for part in path):
        shown = repr(value)
        cut = shown if len(shown) <= MAX_SHOWN_CHARS else shown[:MAX_SHOWN_CHARS] + "..."
        message = f"{message}, got {cut}"
    return Problem(path, message, CODES.get(kind, INVALID_VALUE))
