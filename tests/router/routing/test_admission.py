"""What is tried when a hold does not fit: a lower cap, a cheaper arm, waiting."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from parts import (
    OUTPUT_NANO_USD,
    PROMPT_BOUND,
    PROMPT_NANO_USD,
    WORST,
    asks,
    at_worst,
    catalog,
    price,
    scripted,
)
from sqlalchemy import func, select

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from cost_models.pricing import DatedPrice, PriceBook
from cost_models.types import Arm, Usage
from router.providers.scripted import Reply, ScriptedProvider
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.output_sizes import MIN_SEEN, OutputSizes
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from router.types import Answer, CallRecord, CallRole
from storage.errors import HeldBackError
from storage.models import CallRow, EntryRow, RefusalRow, WaitRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.routing.catalog import Model
    from router.routing.types import ChatRequest
    from router.types import SampleRequest
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DEFAULT, FLOOR = 500, 50


def serving(ledger: Ledger, limit: int, *models: object, wait_s: float = 60.0) -> RoutingService:
    """Serve models, one that costs its worst case unless told, on a budget for a day."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, limit)])
    parts = catalog(*(models or (scripted("small", at_worst),)))  # type: ignore[arg-type] - models
    chooser = Chooser(parts, ChooserSettings(exploration=0.0))
    settings = ServiceSettings(budget_wait_s=wait_s)
    return RoutingService(parts, chooser, ledger, settings, clock=lambda: NOW)


def uncapped(**more: object) -> ChatRequest:
    """Ask without a cap of one's own: 500 tokens, or as few as 50."""
    return replace(asks(max_tokens=DEFAULT, **more), min_max_tokens=FLOOR)


def worst(max_tokens: int) -> int:
    """Worst case of the usual question at a cap."""
    return PROMPT_BOUND * PROMPT_NANO_USD + max_tokens * OUTPUT_NANO_USD


def caps(service: RoutingService) -> list[int]:
    """Caps that were sent upstream."""
    provider = service.catalog.models["small"].provider
    assert isinstance(provider, ScriptedProvider)
    return [request.max_tokens for request in provider.requests]


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.005)


async def test_a_short_budget_lowers_a_cap_that_nobody_asked_for(ledger: Ledger) -> None:
    """The hold and the cap sent upstream are what is left, to the token; then it is refused."""
    service = serving(ledger, worst(120) + worst(FLOOR) + 1)
    await service.answer(uncapped())
    assert caps(service) == [120 + (worst(FLOOR) + 1) // OUTPUT_NANO_USD]
    left = worst(120) + worst(FLOOR) + 1 - worst(caps(service)[0])
    assert 0 <= left < OUTPUT_NANO_USD
    with pytest.raises(BudgetExceededError):
        await service.answer(uncapped())
    assert ledger.examine() == []


async def test_a_cap_is_not_lowered_below_its_floor(ledger: Ledger) -> None:
    """An answer of a few words is worse than a refusal that says why."""
    service = serving(ledger, worst(FLOOR) - 1)
    with pytest.raises(BudgetExceededError) as refused:
        await service.answer(uncapped())
    assert refused.value.asked_nano_usd > worst(FLOOR) - 1
    assert caps(service) == []
    exact = serving(ledger, worst(FLOOR))
    await exact.answer(uncapped())
    assert caps(exact) == [FLOOR]


async def test_a_cap_that_the_client_set_is_its_own(ledger: Ledger) -> None:
    """It is refused as it was asked, not served otherwise."""
    service = serving(ledger, worst(DEFAULT) - 1)
    with pytest.raises(BudgetExceededError):
        await service.answer(asks(max_tokens=DEFAULT))
    assert caps(service) == []


async def test_a_plentiful_budget_leaves_the_default_cap(ledger: Ledger) -> None:
    """Nothing is shortened without need."""
    service = serving(ledger, worst(DEFAULT))
    await service.answer(uncapped())
    assert caps(service) == [DEFAULT]


async def test_a_loose_default_does_not_freeze_a_small_budget(ledger: Ledger) -> None:
    """On money for two at the default cap several run side by side, and none is refused."""
    n_running, most = 0, 0

    def script(request: SampleRequest, _i: int) -> Reply:
        return Reply("4", delay_s=0.1)

    service = serving(ledger, 2 * worst(DEFAULT), scripted("small", script))
    provider = service.catalog.models["small"].provider
    tasks = [asyncio.create_task(service.answer(uncapped())) for _ in range(30)]
    while not all(task.done() for task in tasks):
        n_running = ledger.read(
            lambda s: s.scalar(select(func.count(EntryRow.id)).where(EntryRow.status == "open"))
        )
        most = max(most, n_running or 0)
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    assert isinstance(provider, ScriptedProvider)
    assert len(provider.requests) == 30
    assert min(caps(service)) >= FLOOR
    assert most >= 4
    assert ledger.read(lambda s: s.scalar(select(func.count(RefusalRow.id)))) == 0


async def after_answers_of(service: RoutingService, n_tokens: int, n: int = MIN_SEEN) -> None:
    """Let the service see answers of so many tokens: at a cap of their own, on other money."""
    provider = service.catalog.models["small"].provider
    assert isinstance(provider, ScriptedProvider)
    for _ in range(n):
        await service.answer(asks(max_tokens=n_tokens + 1))
    provider.requests.clear()


def says(n_tokens: int, delay_s: float = 0.0) -> Model:
    """Give a model whose answers take so many tokens, or as many as are allowed."""

    def script(request: SampleRequest, _i: int) -> Reply:
        n = min(n_tokens, request.max_tokens)
        usage = Usage(n_calls=1, prompt_tokens=PROMPT_BOUND, completion_tokens=n)
        reason = "stop" if n == n_tokens else "length"
        return Reply("4", usage=usage, finish_reason=reason, delay_s=delay_s)

    return scripted("small", script)


async def test_a_cap_comes_from_the_arms_own_answers(sqlite_ledger: Ledger) -> None:
    """Beside one at the default cap four run at the usual one, where a second would not fit."""
    service = serving(sqlite_ledger, 100 * worst(DEFAULT), says(100, delay_s=0.1))
    await after_answers_of(service, 100)
    spent = sqlite_ledger.budget_status(NOW)[0].facts.spent_nano_usd
    room = worst(DEFAULT) + 4 * worst(100)
    assert room < 2 * worst(DEFAULT)
    sqlite_ledger.declare_budgets([Budget("organisation", Period.DAY, spent + room)])
    served = await asyncio.gather(*(service.answer(uncapped()) for _ in range(5)))
    assert sorted(caps(service)) == [100] * 4 + [DEFAULT]
    assert {one.answer.finish_reason for one in served} == {"stop"}


async def test_a_request_waits_rather_than_is_cut_below_what_its_arm_takes(
    sqlite_ledger: Ledger,
) -> None:
    """Half of what is free would cut it; what the others free is enough a moment later."""
    service = serving(sqlite_ledger, 100 * worst(DEFAULT), says(200, delay_s=0.05))
    await after_answers_of(service, 200)
    spent = sqlite_ledger.budget_status(NOW)[0].facts.spent_nano_usd
    limit = spent + worst(DEFAULT) + 3 * worst(200)
    sqlite_ledger.declare_budgets([Budget("organisation", Period.DAY, limit)])
    served = await asyncio.gather(*(service.answer(uncapped()) for _ in range(4)))
    assert min(caps(service)) >= 200
    assert {one.answer.finish_reason for one in served} == {"stop"}


def test_an_arm_whose_answers_are_cut_gets_a_higher_cap() -> None:
    """What a lowered cap cuts counts as twice its length; what its client cut says nothing."""
    sizes = OutputSizes()
    arm = Arm("small", "direct")

    def seen(n_tokens: int, request: ChatRequest, reason: str = "stop", n: int = MIN_SEEN) -> None:
        usage = Usage(n_calls=1, prompt_tokens=9, completion_tokens=n_tokens)
        call = CallRecord("small", CallRole.ANSWER, usage, 1, 0.1)
        for _ in range(n):
            sizes.observe(arm, request, Answer("4", finish_reason=reason), [call])

    seen(300, asks(), "length")
    assert sizes.usual_cap(arm) is None
    seen(100, uncapped(), n=MIN_SEEN - 1)
    assert sizes.usual_cap(arm) is None
    seen(100, uncapped(), n=1)
    assert sizes.usual_cap(arm) == 100
    seen(100, uncapped(), "length", n=2)
    assert sizes.usual_cap(arm) == 200
    seen(90, uncapped(n=3), n=400)
    assert sizes.usual_cap(arm) == 30


async def test_a_request_waits_for_what_others_hold(ledger: Ledger) -> None:
    """The second is served when the first, far below its worst case, is settled."""
    slow = scripted("small", lambda _request, _i: Reply("4", delay_s=0.3))
    service = serving(ledger, 2 * WORST - 1, slow)
    first, second = (asyncio.create_task(service.answer(asks())) for _ in range(2))
    done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1
    assert (await first).answer.text == (await second).answer.text == "4"
    assert ledger.examine() == []


async def test_a_wait_in_vain_ends_in_an_error_of_its_own(ledger: Ledger) -> None:
    """It is written down as a refusal, and no place is left."""
    slow = scripted("small", lambda _request, _i: Reply("4", delay_s=60))
    service = serving(ledger, 2 * WORST - 1, slow, wait_s=0.2)
    first = asyncio.create_task(service.answer(asks()))
    await until(lambda: bool(caps(service)))
    with pytest.raises(HeldBackError):
        await service.answer(asks())
    first.cancel()
    await asyncio.wait({first})
    assert ledger.read(lambda s: s.scalar(select(func.count(WaitRow.id)))) == 0
    assert ledger.read(lambda s: s.scalar(select(func.count(RefusalRow.id)))) == 1


async def test_a_client_that_leaves_the_queue_leaves_nothing(ledger: Ledger) -> None:
    """Neither a place, nor an entry, nor a refusal."""
    slow = scripted("small", lambda _request, _i: Reply("4", delay_s=60))
    service = serving(ledger, 2 * WORST - 1, slow)
    first, second = (asyncio.create_task(service.answer(asks())) for _ in range(2))

    def n_places() -> int:
        return ledger.read(lambda s: s.scalar(select(func.count(WaitRow.id))) or 0)

    await until(lambda: n_places() == 1)
    second.cancel()
    await asyncio.wait({second})
    await until(lambda: n_places() == 0)
    first.cancel()
    await asyncio.wait({first})
    assert ledger.read(lambda s: s.scalar(select(func.count(EntryRow.id)))) == 1
    assert ledger.read(lambda s: s.scalar(select(func.count(RefusalRow.id)))) == 0
    assert ledger.examine() == []


async def test_a_cheaper_arm_that_fits_now_is_taken_rather_than_waiting(ledger: Ledger) -> None:
    """The dear one is held back by itself; the cheap one serves meanwhile."""
    slow = scripted("large", lambda _request, _i: Reply("4", delay_s=60), times=10)
    service = serving(ledger, 12 * WORST, scripted("small"), slow)
    first = asyncio.create_task(service.answer(asks()))
    large = service.catalog.models["large"].provider
    assert isinstance(large, ScriptedProvider)
    await until(lambda: bool(large.requests))
    assert (await service.answer(asks())).decision.arm.model == "small"
    first.cancel()
    await asyncio.wait({first})


async def test_a_request_is_held_and_settled_at_the_price_of_its_day(ledger: Ledger) -> None:
    """A price that begins at midnight counts from then on, and the ledger says which it was."""
    ledger.declare_budgets([Budget("organisation", Period.TOTAL, 100 * WORST)])
    tomorrow = (NOW + timedelta(days=1)).date()
    dear = replace(price(3), source="from tomorrow")
    book = PriceBook((DatedPrice("small", price()), DatedPrice("small", dear, tomorrow)))
    parts = replace(catalog(scripted("small", at_worst)), prices=book)
    now = NOW
    service = RoutingService(parts, Chooser(parts), ledger, clock=lambda: now)
    assert (await service.answer(asks())).cost_nano_usd == WORST
    now = NOW + timedelta(hours=12)
    assert (await service.answer(asks())).cost_nano_usd == 3 * WORST
    sources = ledger.read(lambda s: list(s.scalars(select(CallRow.price_source))))
    assert sources == ["test", "from tomorrow"]
    assert ledger.examine() == []


async def test_an_end_user_has_a_budget_of_its_own(ledger: Ledger) -> None:
    """It is refused when that is spent; others of the same key are not."""
    ledger.declare_budgets(
        [
            Budget("organisation", Period.DAY, 100 * WORST),
            Budget("user:ann", Period.DAY, WORST),
            Budget("user:ann", Period.TOTAL, 2 * WORST - 1),
        ]
    )
    parts = catalog(scripted("small", at_worst))
    service = RoutingService(parts, Chooser(parts), ledger, clock=lambda: NOW)
    await service.answer(replace(asks(), user="ann"))
    with pytest.raises(BudgetExceededError) as refused:
        await service.answer(replace(asks(), user="ann"))
    assert refused.value.facts.scope == "user:ann"
    await service.answer(replace(asks(), user="bob"))
    await service.answer(asks())
    spent = [s.facts.spent_nano_usd for s in ledger.budget_status(NOW)]
    assert spent == [3 * WORST, WORST, WORST]
    assert ledger.examine() == []
