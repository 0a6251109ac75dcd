"""Entries and calls to write into a fresh ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from cost_models.types import Arm, Usage
from policies.types import Decision, Query
from storage.ledger import Asked, Call, OpenEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.store import Ledger

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def engine(ledger: Ledger) -> Engine:
    """Engine of the fresh ledger."""
    return ledger.engine


@pytest.fixture(scope="session")
def now() -> datetime:
    """Noon of a plain day."""
    return NOW


@pytest.fixture(scope="session")
def opening() -> Callable[..., OpenEntry]:
    """Build an entry to open: a request id, a hold, and whatever else a test cares about."""

    def build(
        request_id: str, hold_nano_usd: int, *, attempt: int = 0, **asked: object
    ) -> OpenEntry:
        decision = Decision(
            arm=Arm("small", "self_consistency(samples=5)"),
            propensity=0.9,
            policy_version="p1",
            predicted_quality=0.8,
            predicted_cost_usd=1e-6,
            difficulty=0.3,
            attempt=attempt,
            reason="best value",
        )
        what = replace(Asked(Query(request_id, f"what is {request_id}?")), **asked)  # type: ignore[arg-type] - fields by name
        return OpenEntry(what, decision, hold_nano_usd)

    return build


@pytest.fixture(scope="session")
def call() -> Callable[..., Call]:
    """Build an upstream call that cost so much."""

    def build(cost_nano_usd: int, *, in_doubt: bool = False) -> Call:
        usage = Usage(n_calls=1, prompt_tokens=10, completion_tokens=4, reasoning_tokens=1)
        return Call(
            model="small",
            role="answer",
            usage=usage,
            cost_nano_usd=cost_nano_usd,
            latency_s=0.1,
            price_source="config",
            in_doubt=in_doubt,
        )

    return build
