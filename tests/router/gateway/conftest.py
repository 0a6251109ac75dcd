"""A gateway over a scripted engine, served by a real server."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest
from scripted_engine import ScriptedEngine

from router.gateway.app import create_app
from router.gateway.background import serving
from router.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

DEFAULTS = GatewaySettings()


class Serve(Protocol):
    """Start a gateway with these settings; give a client of it."""

    def __call__(self, engine: ScriptedEngine, settings: GatewaySettings = ...) -> httpx.Client: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve engines until the test ends."""
    with ExitStack() as stack:

        def start(engine: ScriptedEngine, settings: GatewaySettings = DEFAULTS) -> httpx.Client:
            app = create_app(engine, settings)
            base_url = stack.enter_context(serving(app))
            client = httpx.Client(base_url=base_url, trust_env=False, timeout=10)
            return stack.enter_context(client)

        yield start


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[FastAPI, str]]:
    """Serve one gateway with default settings for all tests that need no others."""
    app = create_app(ScriptedEngine(), DEFAULTS)
    with serving(app) as base_url:
        yield app, base_url


@pytest.fixture
def engine() -> ScriptedEngine:
    """Answer "four" to everything."""
    return ScriptedEngine()


@pytest.fixture
def client(shared: tuple[FastAPI, str], engine: ScriptedEngine) -> Iterator[httpx.Client]:
    """Talk to a gateway over ``engine``."""
    app, base_url = shared
    app.state.engine = engine
    with httpx.Client(base_url=base_url, trust_env=False, timeout=10) as client:
        yield client
