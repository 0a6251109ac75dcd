"""Who is asking: static keys from the configuration, or everybody."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TENANT = "default"
SCHEME = b"bearer "


class Keyring:
    """The tenant behind an ``Authorization`` header; without keys everybody is the default one.

    Only digests are kept and compared, so the time that a look-up takes says nothing of a key.
    """

    def __init__(self, keys: Mapping[str, str] | None) -> None:
        self._tenants = (
            None
            if keys is None
            else {sha256(key.encode()).digest(): name for name, key in keys.items()}
        )

    def tenant(self, authorization: bytes | None) -> str | None:
        """Name the tenant; None when the key is missing or unknown."""
        if self._tenants is None:
            return DEFAULT_TENANT
        if authorization is None or authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        given = sha256(authorization[len(SCHEME) :].strip()).digest()
        found = None
        for digest, name in self._tenants.items():
            if compare_digest(digest, given):
                found = name
        return found
