"""Secrets that events are signed with, in the form of Standard Webhooks or as plain text."""

from __future__ import annotations

import base64

STANDARD = "whsec_"
"""How secrets begin that are keys in base64."""


def signing_key(secret: str) -> bytes:
    """Give the key of a secret: what follows ``whsec_`` in base64, or else its very text.

    ValueError for one that begins so and is not base64.
    """
    if not secret.startswith(STANDARD):
        return secret.encode()
    return base64.b64decode(secret.removeprefix(STANDARD), validate=True)
