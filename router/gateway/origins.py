"""Where each value of a configuration comes from: a line, the environment, or a default."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import yaml

from router.gateway.config import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """One value: its place, such as ``models[0].name``, how it is shown, where it comes from."""

    place: str
    shown: str
    origin: str


def origins(
    shown: Mapping[str, Any], root: yaml.Node | None, source: str, environ: Mapping[str, str]
) -> list[Origin]:
    """Give every value of ``shown``, a configuration as plain data, with its origin.

    ``root`` is the document that it was read from. A value that the file does not say is a
    default; one with a reference names the variable, and whether the reference's default was used.
    """
    return list(_walk(shown, root, None, "", source, environ))


def _walk(  # noqa: PLR0913, PLR0917 - a value, its node, the one around it, its place, the source
    value: Any,  # noqa: ANN401 - any value of a configuration
    node: yaml.Node | None,
    around: yaml.Node | None,
    place: str,
    source: str,
    environ: Mapping[str, str],
) -> Iterator[Origin]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            inner = f"{place}.{key}".lstrip(".")
            yield from _walk(item, _member(node, key), node, inner, source, environ)
    elif isinstance(value, list) and value:
        for i, item in enumerate(value):
            found = _item(node, i)
            yield from _walk(item, found, node, f"{place}[{i}]", source, environ)
    else:
        given = node if node is not None else around if _is_scalar(around) else None
        yield Origin(place, _plain(value), _origin(given, source, environ))


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _origin(node: yaml.Node | None, source: str, environ: Mapping[str, str]) -> str:
    if node is None:
        return DEFAULT
    line = f"{source}:{node.start_mark.line + 1}"
    names = [
        f"default of ${{{name}}}"
        if default is not None and not environ.get(name)
        else f"${{{name}}}"
        for name, default in _references(node)
    ]
    return f"{line}, {', '.join(names)}" if names else line


def _references(node: yaml.Node) -> Iterator[tuple[str, str | None]]:
    """Find the variables that a value refers to."""
    if isinstance(node, yaml.ScalarNode):
        for found in REFERENCE.finditer(str(node.value)):
            if found["name"] is not None:
                yield found["name"], found["default"]
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _references(item)
    elif isinstance(node, yaml.MappingNode):
        for _, item in node.value:
            yield from _references(item)


def _member(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _item(node: yaml.Node | None, i: int) -> yaml.Node | None:
    if not isinstance(node, yaml.SequenceNode) or i >= len(node.value):
        return None
    found: yaml.Node = node.value[i]
    return found


def _is_scalar(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode)
