"""Fixtures that every room's tests may use."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that the gateway runs on."""
    return "asyncio"
