"""Who comes in: with keys, no route but the probes answers without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted_engine import ScriptedEngine

from router.gateway.app import create_app
from router.gateway.auth import EVERYBODY, Keyring, Tenant
from router.gateway.door import OPEN_PATHS
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from conftest import Serve

BODY = {"model": "auto", "messages": [{"role": "user", "content": "what is 2 + 2 ?"}]}
KEYS = GatewaySettings(keys={"alice": "key-of-alice", "bob": "key-of-bob"})


def test_a_key_names_the_tenant(serve: Serve) -> None:
    """Requests are charged to the name of the key that they came with."""
    engine = ScriptedEngine()
    client = serve(engine, KEYS)
    for key in ("key-of-bob", "key-of-alice"):
        headers = {"authorization": f"Bearer {key}"}
        assert client.post("/v1/chat/completions", json=BODY, headers=headers).status_code == 200
    assert [request.tenant for request in engine.requests] == ["bob", "alice"]


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="no key"),
        pytest.param("Bearer wrong", id="an unknown key"),
        pytest.param("Basic key-of-bob", id="another scheme"),
        pytest.param("key-of-bob", id="no scheme"),
        pytest.param("Bearer key-of-bobb", id="one letter more"),
    ],
)
def test_without_a_known_key_the_answer_is_401(serve: Serve, authorization: str | None) -> None:
    """In OpenAI's form, and the engine never hears of it."""
    engine = ScriptedEngine()
    headers = {} if authorization is None else {"authorization": authorization}
    response = serve(engine, KEYS).post("/v1/chat/completions", json=BODY, headers=headers)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-rheostat-request-id"]
    assert engine.requests == []


def test_every_route_but_the_probes_needs_a_key(serve: Serve) -> None:
    """Whatever the application lists, and what it does not know, is closed without a key."""
    engine = ScriptedEngine()
    document = create_app(engine, KEYS).openapi()
    routes = [(verb, path) for path, verbs in document["paths"].items() for verb in verbs]
    assert len(routes) >= 7
    client = serve(engine, KEYS)
    for verb, path in [*routes, ("get", "/openapi.json"), ("get", "/nowhere"), ("put", "/v1")]:
        response = client.request(verb, path.replace("{name}", "small"), json={})
        if path in OPEN_PATHS:
            assert response.status_code == 200, path
        else:
            assert response.status_code == 401, path


def test_a_body_is_not_read_without_a_key(serve: Serve) -> None:
    """Even one that is far too large, or broken, is a 401."""
    client = serve(ScriptedEngine(), GatewaySettings(keys=KEYS.keys, max_body_bytes=10))
    headers = {"content-type": "application/json"}
    response = client.post("/v1/chat/completions", content=b"{" * 100, headers=headers)
    assert response.status_code == 401


@pytest.mark.anyio
async def test_in_open_mode_everybody_is_the_default_tenant() -> None:
    """A key that comes along is not looked at: SDKs always send one."""
    ring = Keyring(GatewaySettings())
    assert await ring.tenant(None) == EVERYBODY
    assert await ring.tenant(b"Bearer whatever") == EVERYBODY


@pytest.mark.anyio
async def test_a_scheme_is_read_in_any_case_and_an_empty_key_is_none() -> None:
    """As HTTP has it."""
    ring = Keyring(KEYS)
    assert await ring.tenant(b"bearer key-of-bob") == Tenant("bob")
    assert await ring.tenant(b"Bearer ") is None


def test_a_keyring_tells_no_key() -> None:
    """Neither the ring nor the settings show a key when they are printed."""
    ring = Keyring(KEYS)
    assert "key-of" not in f"{ring!r} {vars(ring)!r} {KEYS!r}"
