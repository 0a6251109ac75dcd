"""Fixtures that every room's tests may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that the gateway runs on."""
    return "asyncio"


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[Upstream]:
    """Serve a real OpenAI-compatible upstream on a loopback port, with scripted replies."""
    async with Upstream().running() as server:
        yield server
