"""Parameters of strategies and verifiers: ranges, canonical text, and reading it back."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from router.errors import StrategyConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

RANGE = "range"
ALWAYS_SHOWN = "always_shown"
CHOICES = "choices"
IS_VERIFIER = "is_verifier"
IS_STRATEGY = "is_strategy"
FIRST = "of"
NO_VERIFIER = "none"
"""Text of a verifier where a strategy can do without one."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``low`` to ``high``; ``low`` itself is outside when ``open_low``."""

    low: float
    high: float
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"


def number(
    default: float, low: float, high: float, *, open_low: bool = False, always_shown: bool = False
) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare a number in a range; a whole one if its default is whole.

    ``always_shown`` puts it into the canonical text also when it has its default value.
    """
    metadata = {RANGE: Range(low, high, open_low), ALWAYS_SHOWN: always_shown}
    return field(default=default, metadata=metadata)


def one_of(default: str, *choices: str, always_shown: bool = False) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare a text that is one of a few words."""
    return field(default=default, metadata={CHOICES: choices, ALWAYS_SHOWN: always_shown})


def verifier_text(default: str) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare the canonical text of a verifier, `router.verifiers.registry` reads it."""
    return field(default=default, metadata={IS_VERIFIER: True, ALWAYS_SHOWN: True})


def strategy_text(default: str) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Declare the canonical text of another strategy; it may stand first, without its name."""
    return field(default=default, metadata={IS_STRATEGY: True, ALWAYS_SHOWN: True})


def check(made: Any) -> None:  # noqa: ANN401 - any dataclass
    """Raise StrategyConfigError for a parameter of the wrong type or out of its range."""
    for parameter in fields(made):
        value = getattr(made, parameter.name)
        allowed = parameter.metadata.get(RANGE)
        whole = isinstance(parameter.default, int)
        choices = parameter.metadata.get(CHOICES)
        wanted = "text" if allowed is None else "a whole number" if whole else "a number"
        kinds = str if allowed is None else int if whole else int | float
        if not isinstance(value, kinds) or isinstance(value, bool):
            msg = f"{made.name}: {parameter.name} must be {wanted}, got {value!r}"
            raise StrategyConfigError(msg)
        if allowed is not None and value not in allowed:
            msg = f"{made.name}: {parameter.name} must be in {allowed}, got {value!r}"
            raise StrategyConfigError(msg)
        if choices is not None and value not in choices:
            msg = (
                f"{made.name}: {parameter.name} must be one of {', '.join(choices)}; got {value!r}"
            )
            raise StrategyConfigError(msg)


def canonical(made: Any) -> str:  # noqa: ANN401 - any dataclass
    """Give the text that names a strategy with its parameters, ``self_consistency(samples=5)``.

    Parameters at their defaults are left out, except those always shown.
    """
    shown = (
        f"{parameter.name}={_same_type(getattr(made, parameter.name), parameter.default)!r}"
        for parameter in fields(made)
        if parameter.metadata.get(ALWAYS_SHOWN)
        or getattr(made, parameter.name) != parameter.default
    )
    arguments = ", ".join(shown)
    return f"{made.name}({arguments})" if arguments else str(made.name)


def _same_type(value: object, default: object) -> object:
    """Write 1 as 1.0 where the parameter is no whole number: one strategy has one text."""
    return float(value) if isinstance(default, float) and isinstance(value, int) else value


def read(text: str) -> tuple[str, Mapping[str, Any]]:
    """Read a canonical text; raise StrategyConfigError for anything else.

    A text of a strategy that stands first without a name is the parameter `FIRST`.
    """
    msg = (
        f"{text!r} does not name a strategy or a verifier; write NAME or NAME(parameter=value, ...)"
    )
    try:
        parsed = ast.parse(text.strip(), mode="eval").body
        if isinstance(parsed, ast.Name):
            return parsed.id, {}
        if not isinstance(parsed, ast.Call) or not isinstance(parsed.func, ast.Name):
            raise StrategyConfigError(msg)
        if len(parsed.args) > 1 or any(keyword.arg is None for keyword in parsed.keywords):
            raise StrategyConfigError(msg)
        values = {str(k.arg): ast.literal_eval(k.value) for k in parsed.keywords}
        if parsed.args:
            values[FIRST] = _unparsed(parsed.args[0], msg)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise StrategyConfigError(msg) from error
    return parsed.func.id, values


def _unparsed(argument: ast.expr, msg: str) -> str:
    if not isinstance(argument, ast.Name | ast.Call):
        raise StrategyConfigError(msg)
    return ast.unparse(argument)


def chosen(value: object, what: str) -> tuple[str, Any]:
    """Read what a configuration names: a name, a canonical text, or a name with its parameters.

    Gives the name and its parameters, which `kind_of` checks. Raises StrategyConfigError.
    """
    if isinstance(value, str):
        return read(value)
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, parameters),) = value.items()
        return str(name), parameters
    msg = f"a {what} is a name, or one name with its parameters, got {value!r}"
    raise StrategyConfigError(msg)


def kind_of(
    name: str, parameters: object, kinds: Mapping[str, type[Any]], what: str
) -> tuple[type[Any], Mapping[str, Any]]:
    """Give the class of a name with parameters that it has; StrategyConfigError for others.

    The message has the nearest name or parameter.
    """
    if name not in kinds:
        msg = unknown(what, name, kinds)
        raise StrategyConfigError(msg)
    if not isinstance(parameters, Mapping):
        msg = f"{name}: parameters are written as parameter: value, got {parameters!r}"
        raise StrategyConfigError(msg)
    known = [parameter.name for parameter in fields(kinds[name])]
    for parameter in parameters:
        if parameter not in known:
            msg = unknown(f"parameter of {name}", str(parameter), known)
            raise StrategyConfigError(msg)
    return kinds[name], parameters


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is no known ``what``, and which known one is nearest."""
    names = sorted(known)
    nearest = get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    listed = f"known: {', '.join(names)}" if names else "it takes none"
    return f"there is no {what} {name!r}; {hint}{listed}"
