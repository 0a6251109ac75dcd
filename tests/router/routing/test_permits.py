"""Rate limits in the service: a request that was let in ends, whatever becomes of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from parts import N_WORDS, PRICE, WORST, asks, catalog, scripted
from sqlalchemy import event, select

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from cost_models.rates import RateLimits
from cost_models.types import Usage
from router.errors import ProviderError
from router.providers.embeddings import EmbeddingRequest
from router.providers.scripted import Reply
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.embeddings import EmbeddingModel, EmbedRequest
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from router.routing.switching import SwitchingEngine
from storage.engine import create_ledger_engine
from storage.errors import LedgerUnavailableError, RateLimitedError
from storage.models import PermitRow
from storage.store import Ledger

if TYPE_CHECKING:
    from router.providers.base import Tally
    from router.providers.embeddings import Vector
    from router.providers.scripted import Script
    from router.routing.types import ChatRequest

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ONE = RateLimits(parallel_requests=1)


def service(
    ledger: Ledger, script: Script = lambda _request, _i: "4", n: int = 100
) -> RoutingService:
    """Serve one model, on a budget for ``n`` requests."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, n * WORST)])
    parts = catalog(scripted("small", script))
    chooser = Chooser(parts, ChooserSettings(exploration=0.0), np.random.default_rng(0))
    return RoutingService(parts, chooser, ledger, ServiceSettings(budget_wait_s=0), lambda: NOW)


async def let_in(served: RoutingService, limits: RateLimits = ONE) -> ChatRequest:
    """Let a request in."""
    request = asks()
    return replace(request, permit=await served.admit(request, limits))


def n_inside(ledger: Ledger) -> int:
    """Count the permits."""
    return len(ledger.read(lambda s: s.scalars(select(PermitRow.id)).all()))


async def test_a_request_holds_its_place_until_its_cost_is_committed(ledger: Ledger) -> None:
    """Whole or streamed: the next one is refused while it runs, and let in after it."""
    served = service(ledger)
    for _ in range(2):
        request = await let_in(served)
        with pytest.raises(RateLimitedError):
            await let_in(served)
        await served.answer(request)
        request = await let_in(served)
        async with aclosing(served.stream(request)) as pieces:
            assert [piece async for piece in pieces]
    assert n_inside(ledger) == 0
    assert ledger.examine() == []


async def test_ending_shares_the_commit_of_settling(ledger: Ledger) -> None:
    """A key with limits pays one commit more, not two."""
    served = service(ledger)
    commits: list[object] = []
    event.listen(ledger.engine, "commit", commits.append)
    await served.answer(asks())
    plain = len(commits)
    await served.answer(await let_in(served))
    assert len(commits) == 2 * plain + 1


async def test_a_request_that_fails_or_is_refused_gives_its_place_back(ledger: Ledger) -> None:
    """An upstream that fails, and a budget that is too small."""

    def failing(_request: object, _i: int) -> Reply:
        return Reply(error=ProviderError("small", "it is gone", status=400))

    served = service(ledger, failing)
    with pytest.raises(ProviderError):
        await served.answer(await let_in(served))
    assert n_inside(ledger) == 0
    poor = service(ledger, n=0)
    with pytest.raises(BudgetExceededError):
        await poor.answer(await let_in(poor))
    assert n_inside(ledger) == 0


async def test_a_client_that_leaves_gives_its_place_back(ledger: Ledger) -> None:
    """While the model works, and while it was being let in."""
    served = service(ledger, lambda _request, _i: Reply("4", delay_s=60))
    running = asyncio.create_task(served.answer(await let_in(served)))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert n_inside(ledger) == 0
    entering = asyncio.create_task(let_in(served))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await asyncio.to_thread(ledger.close)
    assert n_inside(ledger) == 0


async def test_a_request_let_in_before_a_switch_ends_after_it(ledger: Ledger) -> None:
    """The service that serves it is another one than let it in."""
    engine = SwitchingEngine(service(ledger))
    request = asks()
    request = replace(request, permit=await engine.admit(request, ONE))
    await engine.switch(service(ledger))
    await engine.answer(request)
    assert n_inside(ledger) == 0


@dataclass
class Words:
    """An embedder that counts texts as tokens, or fails."""

    fails: bool = False
    model: str = "words"

    async def embed(self, request: EmbeddingRequest, tally: Tally) -> tuple[Vector, ...]:
        """Give one vector a text."""
        if self.fails:
            raise ProviderError(self.model, "it is gone", status=400)
        tally.settle(Usage(n_calls=1, prompt_tokens=len(request.inputs)))
        return tuple([1.0] for _ in request.inputs)

    async def aclose(self) -> None:
        """Hold nothing."""


@pytest.mark.parametrize("fails", [False, True])
async def test_embeddings_keep_the_limits_of_their_key(ledger: Ledger, *, fails: bool) -> None:
    """Each holds its place until it ends; one that no budget pays for gives it back."""
    served = service(ledger)
    served.embedders = {"words": EmbeddingModel("words", Words(fails=fails), PRICE)}
    limits = RateLimits(parallel_requests=1, tokens_per_minute=1_000)
    for i in range(2):
        request = EmbedRequest(f"e{i}", "words", EmbeddingRequest(("one", "two")))
        request = replace(request, permit=await served.admit(request, limits))
        with pytest.raises(RateLimitedError):
            await served.admit(replace(request, request_id="other"), limits)
        with pytest.raises(ProviderError) if fails else nullcontext():
            await served.embed(request)
    assert n_inside(ledger) == 0
    ledger.declare_budgets([Budget("organisation", Period.DAY, 0)])
    request = EmbedRequest("poor", "words", EmbeddingRequest(("one",)))
    request = replace(request, permit=await served.admit(request, limits))
    with pytest.raises(BudgetExceededError):
        await served.embed(request)
    assert n_inside(ledger) == 0
    assert ledger.examine() == []


async def test_tokens_of_all_calls_are_counted(ledger: Ledger) -> None:
    """What the upstream reported takes the place of the guess."""
    served = service(ledger)
    limits = RateLimits(tokens_per_minute=1000)
    request = await let_in(served, limits)
    assert request.permit is not None
    guess = request.permit.tokens
    assert guess > 10
    await served.answer(request)
    after = await served.admit(asks(), limits)
    assert after.buckets["tokens"].remaining == 1000 - (N_WORDS + 1) - guess


async def test_the_heartbeat_renews_what_runs_and_frees_what_a_dead_process_had(
    ledger: Ledger,
) -> None:
    """A request that runs for longer than the lease keeps its place."""
    clock = [NOW]
    served = service(ledger)
    served = replace(served, clock=lambda: clock[0])
    request = await let_in(served)
    for _ in range(3):
        clock[0] += timedelta(seconds=50)
        await asyncio.to_thread(served.heart.tend)
    assert n_inside(ledger) == 1
    other = replace(served)
    clock[0] += timedelta(seconds=61)
    await asyncio.to_thread(other.heart.tend)
    assert n_inside(ledger) == 0
    await served.answer(request)
    assert ledger.examine() == []


async def test_a_ledger_that_cannot_be_written_lets_nobody_in(sqlite_ledger: Ledger) -> None:
    """No limit is passed by because nobody can count."""
    url = sqlite_ledger.engine.url.render_as_string(hide_password=False)
    impatient = Ledger(create_ledger_engine(url, wait_s=0.05))
    served = service(impatient)
    with sqlite_ledger.engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(LedgerUnavailableError):
            await let_in(served)
    assert (await let_in(served)).permit is not None
    await served.aclose()
