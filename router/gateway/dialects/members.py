"""Reading parts of a dialect strictly: an unknown kind or member is refused by its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.errors import RequestError
from router.gateway.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]


def take(given: object, kinds: Mapping[str, frozenset[str]], at: str, usual: str = "") -> Object:
    """Read an object by its ``type``, which is ``usual`` where it is left out.

    ``kinds`` has the members that each type may have beside ``type``; those that are null are left
    out. RequestError, with the place in ``param``, for anything else.
    """
    if not isinstance(given, dict):
        raise refusal(at, "is an object with a type", "invalid_type")
    kind = given.get("type") or usual
    if not isinstance(kind, str) or kind not in kinds:
        known = ", ".join(kinds)
        told = f"is one of {known}, got {kind!r}"
        raise refusal(at, told, "unsupported_parameter", "type")
    members = {name: value for name, value in given.items() if value is not None}
    for name in members.keys() - kinds[kind] - {"type"}:
        told = f"is not served here{nearest(name, sorted(kinds[kind]))}; leave it out"
        raise refusal(at, told, "unsupported_parameter", name)
    return {**members, "type": kind}


def text_in(members: Object, name: str, at: str) -> str:
    """Read a text that has to be there."""
    value = members.get(name)
    if not isinstance(value, str):
        raise refusal(at, "is required, and is text", "invalid_type", name)
    return value


def refusal(at: str, told: str, code: str = "invalid_value", member: str = "") -> RequestError:
    """Make the error for what is wrong at a place, or at a ``member`` of it."""
    place = f"{at}.{member}" if member else at
    return RequestError(f"{place}: {told}", param=place, code=code)
