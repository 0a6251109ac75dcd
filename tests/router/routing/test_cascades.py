"""A cascade through the service: one hold, one entry, and a row for each stage, on SQLite."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest
from parts import asks, catalog, scripted
from sqlalchemy import select

from cost_models.budgets import Budget, Period
from policies.types import AnswerKind
from router.errors import ProviderError
from router.gateway.wire import to_completion
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.service import RoutingService
from router.routing.types import Served
from storage.engine import create_ledger_engine, migrate
from storage.models import AttemptRow, CallRow, EntryRow
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from router.providers.scripted import Script
    from router.routing.types import ChatRequest

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
CASCADE = "small|cot then small|direct then escalate to large|direct until agree"
DOWN = ProviderError("large", "down", status=500)


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    migrate(engine)
    ledger = Ledger(engine)
    ledger.declare_budgets([Budget("organisation", Period.DAY, 10**12)])
    yield ledger
    ledger.close()


def served_by(ledger: Ledger, small: Script, large: Script) -> tuple[RoutingService, ChatRequest]:
    """Give a service over a cascade of two models, and a request for it."""
    models = catalog(
        scripted("small", small), scripted("large", large, times=20), cascades=(CASCADE,)
    )
    chooser = Chooser(models, ChooserSettings(exploration=0.0), np.random.default_rng(0))
    request = asks(
        strategy=next(iter(models.cascades)),
        answer_kind=AnswerKind.NUMBER,
        kind_is_declared=True,
        max_tokens=40,
    )
    return RoutingService(models, chooser, ledger, clock=lambda: NOW), request


async def test_every_stage_is_a_row_under_one_request(ledger: Ledger) -> None:
    """Costs add up to the entry's, and the budget is charged once."""
    said = iter(["Answer: 5", "Answer: 6"])
    service, request = served_by(ledger, lambda *_: next(said), lambda *_: "Answer: 7")
    served = await service.answer(request)
    entry = ledger.read(lambda s: s.scalars(select(EntryRow)).one())
    attempts = ledger.read(lambda s: s.scalars(select(AttemptRow).order_by(AttemptRow.seq)).all())
    calls = ledger.read(lambda s: s.scalars(select(CallRow).order_by(CallRow.seq)).all())
    assert f"{entry.model}|{entry.strategy}" == (
        "cascade|agree(small/cot > small/direct > large/direct)"
    )
    assert [(a.model, a.strategy, a.answer_value, a.trust) for a in attempts] == [
        ("small", "cot", "5", None),
        ("small", "direct", "6", 0.0),
        ("large", "direct", "7", 0.0),
    ]
    assert [call.stage for call in calls] == [0, 1, 2]
    assert [a.cost_nano_usd for a in attempts] == [call.cost_nano_usd for call in calls]
    assert sum(a.cost_nano_usd for a in attempts) == entry.cost_nano_usd == served.cost_nano_usd
    assert sum(a.prompt_tokens for a in attempts) == entry.prompt_tokens
    (status,) = ledger.budget_status(NOW)
    assert (status.facts.spent_nano_usd, status.facts.held_nano_usd) == (entry.cost_nano_usd, 0)
    assert ledger.examine() == []


async def test_the_client_sees_the_model_that_answered_and_every_attempt(ledger: Ledger) -> None:
    """The completion names the last model that gave an answer."""
    said = iter(["Answer: 5", "Answer: 6"])
    service, request = served_by(ledger, lambda *_: next(said), lambda *_: DOWN)
    completion = to_completion(await service.answer(request), 0)
    assert completion["model"] == "small"
    assert completion["choices"][0]["message"]["content"] == "Answer: 6"
    assert completion["compute"]["complete"] is False
    assert [a["value"] for a in completion["compute"]["attempts"]] == ["5", "6", None]
    assert "down" in completion["compute"]["attempts"][2]["error"]


async def test_a_stream_carries_the_answer_whole(ledger: Ledger) -> None:
    """Also where the last stage is a plain call: nothing is shown before it is known to be it."""
    service, request = served_by(ledger, lambda *_: "Answer: 5", lambda *_: "Answer: 7")
    *chunks, served = [piece async for piece in service.stream(request)]
    assert isinstance(served, Served)
    text = "".join(str(c.delta.get("content") or "") for c in chunks if not isinstance(c, Served))
    assert text == "Answer: 5"
    assert len(served.attempts) == 2


async def test_a_run_without_any_answer_keeps_its_attempts(ledger: Ledger) -> None:
    """What failed is written down, under the error that the client got."""
    service, request = served_by(ledger, lambda *_: DOWN, lambda *_: DOWN)
    with pytest.raises(ProviderError):
        await service.answer(request)
    attempts = ledger.read(lambda s: s.scalars(select(AttemptRow).order_by(AttemptRow.seq)).all())
    assert [a.error is not None for a in attempts] == [True, True, True]


async def test_a_plan_shows_the_cascade_beside_the_plain_arms(ledger: Ledger) -> None:
    """Its worst case is the sum of its stages."""
    service, request = served_by(ledger, lambda *_: "Answer: 5", lambda *_: "Answer: 7")
    plan = await service.plan(asks(answer_kind=AnswerKind.NUMBER, max_tokens=40))
    assert [c.arm.model for c in plan.candidates] == ["small", "large", "cascade"]
    small, large, cascade = (c.worst_case_nano_usd or 0 for c in plan.candidates)
    assert cascade > small + large
    assert request.limits.strategy is not None
