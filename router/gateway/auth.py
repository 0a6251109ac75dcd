"""Who is asking: static keys from the configuration, keys of the ledger, or everybody."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from cost_models.rates import NO_LIMITS
from storage.keys import id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cost_models.rates import RateLimits
    from router.gateway.settings import GatewaySettings
    from storage.keys import Key

DEFAULT_TENANT = "default"
SCHEME = b"bearer "


REMEMBERED_S = 1.0
"""For how long a key of the ledger is not looked up again: so soon a revoked one is refused."""

MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who is asking, for which team, how fast, and which models they may use; None is all."""

    name: str
    allowed_models: tuple[str, ...] | None = None
    team: str | None = None
    limits: RateLimits = NO_LIMITS


EVERYBODY = Tenant(DEFAULT_TENANT)


class Keyring:
    """The tenant behind an ``Authorization`` header; without keys everybody is the default one.

    Only digests are kept and compared, so the time that a look-up takes says nothing of a key.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._tenants = (
            None
            if settings.keys is None
            else {sha256(key.encode()).digest(): name for name, key in settings.keys.items()}
        )
        self._remembered: dict[str, tuple[float, Key | None]] = {}
        self._looking: dict[str, asyncio.Task[Key | None]] = {}

    async def tenant(self, authorization: bytes | None) -> Tenant | None:
        """Name the tenant; None when the key is missing, unknown, or over.

        Raises LedgerUnavailableError when the ledger's keys cannot be read: nobody knows then.
        """
        if self._tenants is None:
            return EVERYBODY
        if authorization is None or authorization[: len(SCHEME)].lower() != SCHEME:
            return None
        shown = authorization[len(SCHEME) :].strip()
        given = sha256(shown).digest()
        found = None
        for digest, name in self._tenants.items():
            if compare_digest(digest, given):
                found = self._of_file(name)
        return found or await self._of_ledger(shown.decode(errors="replace"))

    def _of_file(self, name: str) -> Tenant:
        settings = self._settings
        limits = settings.limits.get(name, NO_LIMITS)
        return Tenant(name, team=settings.teams.get(name), limits=limits)

    async def _of_ledger(self, shown: str) -> Tenant | None:
        pepper, key_id = self._settings.pepper, id_of(shown)
        if pepper is None or key_id is None:
            return None
        key = await self._found(key_id)
        now = self._settings.clock()
        if key is None or not key.opened_by(shown, pepper) or not key.is_valid(now):
            return None
        return Tenant(key.name, key.allowed_models, key.team, key.limits)

    async def _found(self, key_id: str) -> Key | None:
        """Look a key up, unless that was done just now; who asks meanwhile shares the answer."""
        find_key = self._settings.find_key
        if find_key is None:
            return None
        looked_up_s, key = self._remembered.get(key_id, (0.0, None))
        if looked_up_s and time.monotonic() - looked_up_s <= REMEMBERED_S:
            return key
        looking = self._looking.get(key_id)
        if looking is None:
            looking = asyncio.create_task(self._look_up(find_key, key_id))
            self._looking[key_id] = looking
            looking.add_done_callback(partial(self._looked_up, key_id))
        return await asyncio.shield(looking)

    def _looked_up(self, key_id: str, looking: asyncio.Task[Key | None]) -> None:
        del self._looking[key_id]
        if not looking.cancelled():
            looking.exception()  # whoever asked may be gone, with it unread

    async def _look_up(self, find_key: Callable[[str], Key | None], key_id: str) -> Key | None:
        key = await asyncio.to_thread(find_key, key_id)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key_id] = (time.monotonic(), key)
        return key
