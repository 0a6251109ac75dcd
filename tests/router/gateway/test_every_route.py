"""Every route that there is, found in the application: none without a key but the probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute
from scripted_engine import ScriptedEngine
from starlette.routing import Route

from router.gateway.app import create_app
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    import httpx
    from conftest import Serve

OPEN = {"/livez", "/readyz"}
KEYED = GatewaySettings(keys={"acme": "sk-test"})


def flattened(routes: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - routes, and rooms of routes
    """List (method, path) of all routes, in rooms or not."""
    found = []
    for route in routes:
        if isinstance(route, Route | APIRoute):
            found += [(method, route.path) for method in sorted(route.methods or ())]
        else:
            room = getattr(route, "original_router", None) or route
            found += flattened(room.routes)
    return found


ROUTES = flattened(create_app(ScriptedEngine(), GatewaySettings()).routes)


def test_the_routes_were_found() -> None:
    """The list below is the whole: every path of the document is in it."""
    document = create_app(ScriptedEngine(), GatewaySettings()).openapi()
    assert {path.replace(":path", "") for _, path in ROUTES} >= document["paths"].keys()


@pytest.fixture
def keyed(serve: Serve) -> httpx.Client:
    """Talk to a gateway that asks for keys."""
    return serve(ScriptedEngine(), KEYED)


def test_every_route_asks_for_a_key(keyed: httpx.Client) -> None:
    """401 without one and with a wrong one; probes alone are open."""
    for method, path in ROUTES:
        for headers in ({}, {"authorization": "Bearer no"}, {"x-api-key": "no"}):
            response = keyed.request(method, path.replace("{name:path}", "auto"), headers=headers)
            expected = 200 if path in OPEN else 401
            assert response.status_code == expected, (method, path, headers)
