"""Whose money a request spends: the names of budgets' scopes, and which of them apply."""

from __future__ import annotations

from storage.ledger import ORGANISATION

KINDS = ("key", "team", "user", "tag", "session")
"""Kinds of scopes inside the organisation; a scope is its kind, a colon and a name."""


def scopes_of(
    tenant: str,
    user: str | None = None,
    *,
    team: str | None = None,
    tags: tuple[str, ...] = (),
    session: str | None = None,
) -> tuple[str, ...]:
    """Name the scopes whose budgets a request has to fit, all of them.

    ``tenant`` and ``team`` are the key's; the request says ``user``, ``tags`` and ``session``.
    """
    named = [("key", tenant), ("team", team), ("user", user), ("session", session)]
    named += [("tag", tag) for tag in tags]
    return (ORGANISATION, *(f"{kind}:{name}" for kind, name in named if name is not None))
