"""Keys of the ledger: what opens, until when, for which models, and what is kept of them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from scripted_engine import ScriptedEngine
from sqlalchemy import text

from router.gateway.auth import REMEMBERED_S, Keyring, Tenant
from router.gateway.settings import GatewaySettings
from storage.errors import KeyNotFoundError, LedgerUnavailableError
from storage.keys import (
    create_first_key,
    create_key,
    find_key,
    id_of,
    list_keys,
    revoke_key,
    rotate_key,
)

if TYPE_CHECKING:
    from conftest import Serve

    from storage.keys import Key
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

PEPPER = "a pepper of some length"
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@dataclass
class Gate:
    """A keyring over a ledger, with a clock that can be put forward."""

    ledger: Ledger
    now: datetime = NOW
    pepper: str = PEPPER
    ring: Keyring = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with nothing remembered, as a gateway that starts."""

        def find(key_id: str) -> Key | None:
            return self.ledger.read(lambda session: find_key(session, key_id))

        self.ring = Keyring(
            GatewaySettings(
                keys={"static": "key-of-static"},
                pepper=self.pepper,
                find_key=find,
                clock=lambda: self.now,
            )
        )

    async def tenant(self, shown: str) -> Tenant | None:
        """Knock."""
        return await self.ring.tenant(f"Bearer {shown}".encode())

    def made(self, name: str = "acme", **more: object) -> str:
        """Make a key."""
        return self.ledger.write(lambda s: create_key(s, name, PEPPER, NOW, **more))  # type: ignore[arg-type] - fields by name


async def test_a_key_opens_beside_the_static_ones_and_a_wrong_one_does_not(ledger: Ledger) -> None:
    """The right id with another secret, another pepper, or a cut key: nobody."""
    gate = Gate(ledger)
    shown = gate.made()
    assert await gate.tenant(shown) == Tenant("acme")
    assert await gate.tenant("key-of-static") == Tenant("static")
    for wrong in (shown[:-1], f"{shown}x", "rh_000000000000_secret", "rh__", "rh_\ud800", ""):
        assert await gate.ring.tenant(b"Bearer " + wrong.encode(errors="replace")) is None
    assert await Gate(ledger, pepper="some other pepper").tenant(shown) is None


async def test_the_secret_is_nowhere_in_the_ledger(ledger: Ledger) -> None:
    """Nor does printing what is kept show it."""
    gate = Gate(ledger)
    shown = gate.made()
    secret = shown.split("_", 2)[2]
    rows = ledger.read(lambda s: [tuple(row) for row in s.execute(text("SELECT * FROM keys"))])
    assert len(rows) == 1
    assert str(id_of(shown)) in str(rows)
    assert secret not in str(rows)
    assert shown not in repr(ledger.read(list_keys))


async def test_a_key_ends_when_it_was_said_to(ledger: Ledger) -> None:
    """To the instant."""
    gate = Gate(ledger)
    shown = gate.made(expires_at=NOW + timedelta(hours=1))
    gate.now = NOW + timedelta(minutes=59)
    assert await gate.tenant(shown) == Tenant("acme")
    gate.now = NOW + timedelta(hours=1)
    assert await gate.tenant(shown) is None


async def test_a_revoked_key_is_refused_within_a_second(ledger: Ledger) -> None:
    """By a gateway that let it in a moment ago; revoking again changes nothing."""
    gate = Gate(ledger)
    shown = gate.made()
    key_id = str(id_of(shown))
    assert await gate.tenant(shown) is not None
    for _ in range(2):
        ledger.write(lambda s: revoke_key(s, key_id, NOW))
    end = time.monotonic() + REMEMBERED_S + 1
    while await gate.tenant(shown) is not None:
        assert time.monotonic() < end
        time.sleep(0.02)  # noqa: ASYNC251 - nothing else runs
    with pytest.raises(KeyNotFoundError):
        ledger.write(lambda s: revoke_key(s, "nobody", NOW))


async def test_a_rotated_key_and_its_successor_both_open_during_the_overlap(
    ledger: Ledger,
) -> None:
    """With the same name and models; then the new one alone, and the old cannot be rotated."""
    gate = Gate(ledger)
    old = gate.made(allowed_models=["small"])
    until = NOW + timedelta(hours=24)
    new = ledger.write(lambda s: rotate_key(s, str(id_of(old)), PEPPER, NOW, old_until=until))
    same = Tenant("acme", ("small",))
    assert [await gate.tenant(old), await gate.tenant(new)] == [same, same]
    gate.now = until
    assert [await gate.tenant(old), await gate.tenant(new)] == [None, same]
    with pytest.raises(KeyNotFoundError):
        ledger.write(lambda s: rotate_key(s, str(id_of(old)), PEPPER, until, old_until=until))


def test_a_key_sees_and_reaches_the_models_that_it_may_use(
    sqlite_ledger: Ledger, serve: Serve
) -> None:
    """In the list and one by one; a key without limits sees all."""
    gate = Gate(sqlite_ledger)
    keys = {gate.made(allowed_models=["large"]): ["auto", "large"]}
    keys[gate.made()] = ["auto", "small", "large"]

    def find(key_id: str) -> Key | None:
        return sqlite_ledger.read(lambda session: find_key(session, key_id))

    settings = GatewaySettings(keys={}, pepper=PEPPER, find_key=find, clock=lambda: NOW)
    client = serve(ScriptedEngine(), settings)
    for shown, usable in keys.items():
        headers = {"authorization": f"Bearer {shown}"}
        listed = client.get("/v1/models", headers=headers).json()["data"]
        assert [model["id"] for model in listed] == usable
        for name in ("auto", "small", "large"):
            one = client.get(f"/v1/models/{name}", headers=headers)
            assert one.status_code == (200 if name in usable else 404)
            body = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
            asked = client.post("/v1/chat/completions", headers=headers, json=body)
            assert asked.status_code == (200 if name in usable else 403)
            if name not in usable:
                assert asked.json()["error"]["code"] == "model_not_allowed"


async def test_a_rotation_does_not_lengthen_the_life_of_a_key(ledger: Ledger) -> None:
    """One that ends before the overlap does still ends then."""
    gate = Gate(ledger)
    soon = NOW + timedelta(minutes=5)
    old = gate.made(expires_at=soon)
    ledger.write(
        lambda s: rotate_key(s, str(id_of(old)), PEPPER, NOW, old_until=NOW + timedelta(hours=24))
    )
    gate.now = soon
    assert await gate.tenant(old) is None


async def test_a_ledger_that_cannot_be_read_is_no_wrong_key(sqlite_ledger: Ledger) -> None:
    """Nobody knows whether the key is right: that is an error of ours, not of the client."""

    def unreachable(_key_id: str) -> Key | None:
        msg = "the server is gone"
        raise LedgerUnavailableError(msg)

    shown = Gate(sqlite_ledger).made()
    settings = GatewaySettings(keys={}, pepper=PEPPER, find_key=unreachable)
    with pytest.raises(LedgerUnavailableError):
        await Keyring(settings).tenant(f"Bearer {shown}".encode())


async def test_requests_that_come_together_share_one_look_up(sqlite_ledger: Ledger) -> None:
    """50 at once with a key that nobody remembers read it once; a failure is everybody's."""
    shown = Gate(sqlite_ledger).made()
    asked: list[str] = []
    away = [False]

    def find(key_id: str) -> Key | None:
        asked.append(key_id)
        time.sleep(0.05)
        if away[0]:
            msg = "the server is gone"
            raise LedgerUnavailableError(msg)
        return sqlite_ledger.read(lambda session: find_key(session, key_id))

    settings = GatewaySettings(keys={}, pepper=PEPPER, find_key=find, clock=lambda: NOW)
    ring = Keyring(settings)
    knocks = [ring.tenant(f"Bearer {shown}".encode()) for _ in range(50)]
    assert set(await asyncio.gather(*knocks)) == {Tenant("acme")}
    assert len(asked) == 1
    away[0] = True
    other = Keyring(settings)
    knocks = [other.tenant(f"Bearer {shown}".encode()) for _ in range(50)]
    failed = await asyncio.gather(*knocks, return_exceptions=True)
    assert {type(error) for error in failed} == {LedgerUnavailableError}
    assert len(asked) == 2
    away[0] = False
    assert await other.tenant(f"Bearer {shown}".encode()) == Tenant("acme")


def test_the_first_key_is_made_once_however_many_begin(ledger: Ledger) -> None:
    """Gateways that start together make one between them; it opens, and none follows it."""

    def begin(_i: int) -> str | None:
        return ledger.write(lambda s: create_first_key(s, "admin", PEPPER, NOW))

    with ThreadPoolExecutor(4) as pool:
        made = [shown for shown in pool.map(begin, range(4)) if shown is not None]
    assert len(made) == 1
    (key,) = ledger.read(list_keys)
    assert key.opened_by(made[0], PEPPER)
    assert key.name == "admin"


def test_a_ledger_with_keys_gets_no_first_one(ledger: Ledger) -> None:
    """Somebody can ask already, also where the key is over."""
    shown = Gate(ledger).made()
    ledger.write(lambda s: revoke_key(s, str(id_of(shown)), NOW))
    assert ledger.write(lambda s: create_first_key(s, "admin", PEPPER, NOW)) is None
