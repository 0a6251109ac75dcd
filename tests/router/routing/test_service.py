"""The way of one query: held, run, settled - whatever becomes of it, on both databases."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from parts import (
    N_WORDS,
    OUTPUT_NANO_USD,
    PRICE,
    PROMPT_NANO_USD,
    TEXT,
    WORST,
    asks,
    at_worst,
    catalog,
    scripted,
)
from sqlalchemy import event, select, text

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from cost_models.types import Arm, Usage
from policies.errors import NoAffordableArmError
from policies.types import AnswerKind, Decision, Query
from router.errors import ProviderError, ProviderTimeoutError, RequestError
from router.providers.openai_compatible import OpenAICompatibleProvider
from router.providers.scripted import Reply, ScriptedProvider
from router.providers.simulated import build_simulated
from router.routing.candidates import offers
from router.routing.catalog import Model
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from router.routing.types import Served
from router.types import Chunk
from storage.engine import create_ledger_engine
from storage.errors import EntryNotFoundError, LedgerBusyError, LedgerUnavailableError
from storage.ledger import Asked, OpenEntry, open_entry
from storage.models import (
    Base,
    CallRow,
    EntryRow,
    EntryStatus,
    OutcomeRow,
    RefusalRow,
    ReplicaRow,
    RequestRow,
)
from storage.outcomes import Grade
from storage.policies import promote_policy, save_policy
from storage.recovery import Replica, register_replica, this_host
from storage.store import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection
    from upstream import Upstream

    from cost_models.errors import BudgetFacts
    from router.providers.scripted import Script
    from router.routing.catalog import Catalog
    from router.types import SampleRequest

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LIMIT = 10 * WORST
USED = N_WORDS * PROMPT_NANO_USD + OUTPUT_NANO_USD
"""What the answer "4" to the usual question costs."""
CLIENT_LEFT = "the client left"


def service(
    ledger: Ledger,
    found: Catalog | Script = lambda _request, _i: "4",
    *,
    limit: int | None = LIMIT,
    clock: Callable[[], datetime] = lambda: NOW,
    **settings: Any,  # noqa: ANN401 - fields of ServiceSettings
) -> RoutingService:
    """Serve a catalog, or one model that says what a script says, on a budget for a day."""
    if limit is not None:
        ledger.declare_budgets([Budget("organisation", Period.DAY, limit)])
    parts = found if hasattr(found, "models") else catalog(scripted("small", found))
    chooser = Chooser(parts, ChooserSettings(exploration=0.0), np.random.default_rng(0))
    return RoutingService(parts, chooser, ledger, ServiceSettings(**settings), clock)


def rows(ledger: Ledger, kind: type[Base]) -> list[Any]:
    """Read every row of a table, oldest first."""

    def read(session: Any) -> list[Any]:  # noqa: ANN401 - a session
        order = kind.registered_at if kind is ReplicaRow else kind.id  # type: ignore[attr-defined] - each table has one
        found = session.scalars(select(kind).order_by(order)).all()
        session.expunge_all()
        return list(found)

    return ledger.read(read)


def only(ledger: Ledger, kind: type[Base] = EntryRow) -> Any:  # noqa: ANN401 - a row
    """Read the one row of a table."""
    (row,) = rows(ledger, kind)
    return row


def budget(ledger: Ledger) -> BudgetFacts:
    """Where the budget stands; the ledger has to be sound."""
    assert ledger.examine() == []
    (status,) = ledger.budget_status(NOW)
    return status.facts


def stands_at(ledger: Ledger, spent: int, held: int = 0) -> bool:
    """Tell whether the budget's counters are these, and say what they are if not."""
    facts = budget(ledger)
    assert (facts.spent_nano_usd, facts.held_nano_usd) == (spent, held)
    return True


@contextmanager
def locked(ledger: Ledger) -> Iterator[None]:
    """Keep every writer waiting."""
    with ledger.engine.begin() as connection:
        if ledger.engine.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE entries IN EXCLUSIVE MODE"))
        yield


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.005)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task; the cancellation has to reach whoever awaits it."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def settled(serving: RoutingService) -> None:
    """Wait for what goes on in the background."""
    await serving.books.all_written()


def simulated(latency_s: float = 0.0) -> Catalog:
    """Give a simulated model, which always knows what it used."""
    provider = build_simulated("small", "small")
    provider._latency_s = latency_s  # noqa: SLF001 - it has no other door
    return catalog(Model("small", provider, PRICE))


# Success


async def test_an_answer_is_in_the_ledger_when_it_is_given(ledger: Ledger) -> None:
    """The true cost is spent, nothing is held, and the call is written with its price."""
    serving = service(ledger)
    request = asks(answer_kind=AnswerKind.NUMBER)
    served = await serving.answer(request)
    assert (served.answer.text, served.answer.value, served.cost_nano_usd) == ("4", "4", USED)
    assert served.decision.arm == Arm("small", "direct")
    assert min(served.overhead_s, served.latency_s) >= 0
    entry, call, asked = (only(ledger, kind) for kind in (EntryRow, CallRow, RequestRow))
    assert (entry.request_id, entry.status) == (request.request_id, EntryStatus.SETTLED)
    assert (entry.held_nano_usd, entry.cost_nano_usd, entry.answer_value) == (WORST, USED, "4")
    assert (entry.complete, entry.error, entry.propensity) == (True, None, 1.0)
    assert (call.role, call.status, call.cost_nano_usd) == ("answer", "ok", USED)
    assert (call.prompt_tokens, call.completion_tokens) == (N_WORDS, 1)
    assert call.price_source == "test"
    assert (asked.query_text, asked.model_asked, asked.prompt_text) == (TEXT, "auto", None)
    assert stands_at(ledger, USED)


async def test_every_call_of_a_strategy_is_a_row(ledger: Ledger) -> None:
    """A vote draws in batches; each is charged, and the vote share is the confidence."""
    script: Script = lambda request, i: "Answer: 4" if (request.seed or 0) + i != 1 else "Answer: 5"  # noqa: E731 - as a script is given
    vote = catalog(
        scripted("small", script), strategies=("self_consistency(samples=5, stop_at=1.0)",)
    )
    serving = service(ledger, vote, limit=10**9)
    served = await serving.answer(asks(answer_kind=AnswerKind.NUMBER, seed=0))
    assert (served.answer.value, served.answer.confidence) == ("4", 0.8)
    calls = rows(ledger, CallRow)
    assert sum(call.completion_tokens for call in calls) == 10
    assert sum(call.cost_nano_usd for call in calls) == served.cost_nano_usd
    assert only(ledger).confidence == 0.8
    assert stands_at(ledger, served.cost_nano_usd)


async def test_a_cost_at_the_worst_case_leaves_nothing_and_overshoots_nothing(
    ledger: Ledger,
) -> None:
    """The bound is met exactly: a budget for one request serves one."""
    serving = service(ledger, at_worst, limit=WORST)
    served = await serving.answer(asks())
    assert served.cost_nano_usd == WORST
    assert stands_at(ledger, WORST)
    with pytest.raises(BudgetExceededError):
        await serving.answer(asks())


async def test_a_strategy_stops_at_the_cap_of_its_request(ledger: Ledger) -> None:
    """A vote of five that can pay for three is held over three, and says so."""
    vote = catalog(
        scripted("small", at_worst), strategies=("self_consistency(samples=5, batch=1)",)
    )
    asked = {"answer_kind": AnswerKind.NUMBER, "text": "2 + 2?"}
    serving = service(ledger, vote, limit=10**9)
    (offer,) = offers(vote, asks(**asked))
    cap = 3 * offer.first_call_nano_usd + 1
    served = await serving.answer(asks(**asked, max_cost_usd=cap / 1e9))
    assert only(ledger).held_nano_usd == cap
    assert (len(served.answer.samples), served.answer.complete) == (3, False)
    assert served.cost_nano_usd < cap < served.cost_nano_usd + served.calls[0].cost_nano_usd
    assert stands_at(ledger, served.cost_nano_usd)


async def test_what_an_upstream_bills_above_its_cap_is_recorded_in_full(ledger: Ledger) -> None:
    """The only way to overshoot, and it is told as such."""
    beyond = Usage(n_calls=1, prompt_tokens=1, completion_tokens=100)
    serving = service(ledger, lambda _request, _i: Reply("4", usage=beyond))
    served = await serving.answer(asks())
    assert served.cost_nano_usd == 201_000 > WORST
    assert stands_at(ledger, 201_000)
    (status,) = ledger.budget_status(NOW)
    assert status.overshoot_nano_usd == 201_000 - WORST


async def test_what_is_kept_of_a_query_is_the_operators_choice(sqlite_ledger: Ledger) -> None:
    """Nothing but a hash, or the whole conversation."""
    await service(sqlite_ledger, keep_query_text=False).answer(asks())
    await service(sqlite_ledger, store_prompts=True).answer(asks())
    first, second = rows(sqlite_ledger, RequestRow)
    assert (first.query_text, first.prompt_text) == (None, None)
    assert first.query_sha256 == second.query_sha256
    assert (second.query_text, second.prompt_text) == (TEXT, f"user: {TEXT}")


# Failure


async def test_an_answer_outlives_a_ledger_that_is_busy_for_a_moment(sqlite_ledger: Ledger) -> None:
    """It was paid for: the settlement is tried again before its client is told of an error."""
    serving = service(sqlite_ledger, ["4"])
    locks = [LedgerBusyError("others keep it locked")]

    @event.listens_for(sqlite_ledger.engine, "before_cursor_execute")
    def meet_a_lock(*arguments: object) -> None:
        if locks and str(arguments[2]).startswith("INSERT INTO calls"):
            raise locks.pop()

    served = await serving.answer(asks())
    assert locks == []
    assert only(sqlite_ledger).status is EntryStatus.SETTLED
    assert stands_at(sqlite_ledger, served.cost_nano_usd)


async def test_an_upstream_error_that_cost_nothing_frees_the_hold(ledger: Ledger) -> None:
    """The client reads the error, the ledger keeps it."""
    serving = service(ledger, [ProviderError("small", "no such deployment", status=404)])
    with pytest.raises(ProviderError, match="no such deployment"):
        await serving.answer(asks())
    entry = only(ledger)
    assert (entry.status, entry.cost_nano_usd, entry.complete) == (EntryStatus.SETTLED, 0, False)
    assert "no such deployment" in entry.error
    assert only(ledger, CallRow).status == "error"
    assert stands_at(ledger, 0)


async def test_an_upstream_that_never_says_what_it_used_is_charged_at_worst(
    ledger: Ledger,
) -> None:
    """In doubt, with an answer or without one."""
    failed = Reply(error=ProviderError("small", "it hung up"), reports_usage=False)
    serving = service(ledger, [failed, Reply("4", reports_usage=False)])
    with pytest.raises(ProviderError):
        await serving.answer(asks())
    served = await serving.answer(asks())
    assert served.cost_nano_usd == WORST
    assert [entry.status for entry in rows(ledger, EntryRow)] == [EntryStatus.IN_DOUBT] * 2
    assert all(call.in_doubt for call in rows(ledger, CallRow))
    assert stands_at(ledger, 2 * WORST)


async def test_an_error_that_nobody_foresaw_is_settled_and_names_its_kind_alone(
    ledger: Ledger,
) -> None:
    """What a defect says may hold anything, so only its type goes into the ledger."""

    def broken(_request: SampleRequest, _i: int) -> Reply:
        msg = "secret"
        raise ZeroDivisionError(msg)

    with pytest.raises(ZeroDivisionError):
        await service(ledger, broken).answer(asks())
    entry = only(ledger)
    assert (entry.error, entry.status) == ("ZeroDivisionError", EntryStatus.IN_DOUBT)
    assert stands_at(ledger, WORST)


async def test_a_strategy_that_fails_half_way_pays_for_its_first_half(ledger: Ledger) -> None:
    """Reasoning was answered, the extraction failed: the answer is incomplete, the cost whole."""
    steps = catalog(
        scripted("small", ["I do not know", ProviderError("small", "it is gone")]),
        strategies=("cot",),
    )
    served = await service(ledger, steps, limit=10**9).answer(asks(answer_kind=AnswerKind.NUMBER))
    assert served.answer.complete is False
    first, second = rows(ledger, CallRow)
    assert (first.role, second.role, second.status) == ("answer", "extract", "error")
    assert only(ledger).complete is False
    assert stands_at(ledger, first.cost_nano_usd)


async def test_the_deadline_ends_a_request_and_its_hold(ledger: Ledger) -> None:
    """An upstream that hangs costs its worst case, and no more time."""
    serving = service(ledger, lambda _request, _i: Reply("4", delay_s=60), request_timeout_s=0.05)
    with pytest.raises(ProviderTimeoutError):
        await serving.answer(asks())
    assert only(ledger).status is EntryStatus.IN_DOUBT
    assert stands_at(ledger, WORST)


# Cancellation


async def test_a_client_that_leaves_while_its_hold_is_written_pays_nothing(
    ledger: Ledger,
) -> None:
    """The hold is taken and given back; no call is ever made."""
    serving = service(ledger)
    with locked(ledger):
        task = asyncio.create_task(serving.answer(asks()))
        await asyncio.sleep(0.1)
        await cancelled(task)
    await settled(serving)
    entry = only(ledger)
    assert (entry.status, entry.error) == (EntryStatus.SETTLED, CLIENT_LEFT)
    assert rows(ledger, CallRow) == []
    assert stands_at(ledger, 0)


async def test_a_client_that_leaves_while_it_is_being_refused(ledger: Ledger) -> None:
    """There is nothing to give back."""
    serving = service(ledger, limit=1)
    with locked(ledger):
        task = asyncio.create_task(serving.answer(asks()))
        await asyncio.sleep(0.1)
        await cancelled(task)
    await settled(serving)
    assert rows(ledger, EntryRow) == []
    assert stands_at(ledger, 0)


async def test_a_client_that_leaves_in_flight_pays_the_worst_case(ledger: Ledger) -> None:
    """Nobody knows what the upstream used: it is charged, in doubt."""
    serving = service(ledger, lambda _request, _i: Reply("4", delay_s=60))
    task = asyncio.create_task(serving.answer(asks()))
    await until(lambda: bool(_provider(serving).requests))
    assert stands_at(ledger, 0, WORST)
    await cancelled(task)
    entry, call = only(ledger), only(ledger, CallRow)
    assert (entry.status, entry.error) == (EntryStatus.IN_DOUBT, CLIENT_LEFT)
    assert (call.status, call.in_doubt, call.cost_nano_usd) == ("cancelled", True, WORST)
    assert stands_at(ledger, WORST)


async def test_a_client_that_leaves_in_flight_pays_what_is_known(ledger: Ledger) -> None:
    """A model that can tell what it used until then is believed."""
    serving = service(ledger, simulated(latency_s=60))
    task = asyncio.create_task(serving.answer(asks()))
    await until(lambda: bool(rows(ledger, EntryRow)))
    await asyncio.sleep(0.05)
    await cancelled(task)
    call = only(ledger, CallRow)
    assert (call.status, call.in_doubt, call.completion_tokens) == ("cancelled", False, 0)
    assert 0 < call.cost_nano_usd < WORST
    assert stands_at(ledger, call.cost_nano_usd)


async def test_a_client_that_leaves_while_its_answer_is_settled(ledger: Ledger) -> None:
    """The settlement goes on without it: the answer and its cost are kept."""
    with ExitStack() as stack:

        def last_words(_request: SampleRequest, _i: int) -> str:
            stack.enter_context(locked(ledger))
            return "4"

        serving = service(ledger, last_words)
        task = asyncio.create_task(serving.answer(asks(answer_kind=AnswerKind.NUMBER)))
        await until(lambda: bool(_provider(serving).requests))
        await asyncio.sleep(0.1)
        await cancelled(task)
    await settled(serving)
    entry = only(ledger)
    assert (entry.status, entry.answer_value, entry.error) == (EntryStatus.SETTLED, "4", None)
    assert stands_at(ledger, USED)


async def test_a_client_that_leaves_twice_is_settled_once(ledger: Ledger) -> None:
    """A second cancellation, while the first is being settled, changes nothing."""
    with ExitStack() as stack:

        def hangs(_request: SampleRequest, _i: int) -> Reply:
            stack.enter_context(locked(ledger))
            return Reply("4", delay_s=60)

        serving = service(ledger, hangs)
        task = asyncio.create_task(serving.answer(asks()))
        await until(lambda: bool(_provider(serving).requests))
        task.cancel()
        await asyncio.sleep(0.1)
        await cancelled(task)
    await settled(serving)
    assert only(ledger).status is EntryStatus.IN_DOUBT
    assert stands_at(ledger, WORST)


def _provider(serving: RoutingService) -> ScriptedProvider:
    provider = serving.catalog.models["small"].provider
    assert isinstance(provider, ScriptedProvider)
    return provider


# Streams


async def test_a_plain_stream_ends_with_what_was_served(ledger: Ledger) -> None:
    """Its pieces make the answer, the last item comes after the commit."""
    serving = service(ledger, lambda _request, _i: "it is 4")
    items = [item async for item in serving.stream(asks(answer_kind=AnswerKind.NUMBER))]
    *chunks, served = items
    assert isinstance(served, Served)
    pieces = [c.delta.get("content", "") for c in chunks if isinstance(c, Chunk)]
    assert "".join(pieces) == served.answer.text == "it is 4"
    assert (served.answer.value, served.answer.finish_reason) == ("4", "stop")
    assert served.cost_nano_usd == N_WORDS * PROMPT_NANO_USD + 3 * OUTPUT_NANO_USD
    assert only(ledger).answer_value == "4"
    assert stands_at(ledger, served.cost_nano_usd)


async def test_a_strategy_streams_its_whole_answer(sqlite_ledger: Ledger) -> None:
    """Only one answer wins, so it cannot come before it is known."""
    steps = catalog(scripted("small", lambda _r, _i: "2 + 2. Answer: 4"), strategies=("cot",))
    serving = service(sqlite_ledger, steps, limit=10**9)
    *chunks, served = [i async for i in serving.stream(asks(answer_kind=AnswerKind.NUMBER))]
    assert isinstance(served, Served)
    assert [c.delta for c in chunks if isinstance(c, Chunk)] == [
        {"role": "assistant", "content": ""},
        {"content": "2 + 2. Answer: 4"},
        {},
    ]
    assert served.answer.value == "4"
    assert stands_at(sqlite_ledger, served.cost_nano_usd)


async def test_a_streamed_strategy_keeps_log_probabilities_and_reasoning(
    sqlite_ledger: Ledger, upstream: Upstream
) -> None:
    """What an answer has when it is given whole it has in a stream as well."""
    logprobs = {"content": [{"token": "4", "logprob": -0.1}]}
    upstream.default = upstream.Served(
        ("Answer: 4",), logprobs=logprobs, message={"reasoning_content": "two and two"}
    )
    provider = OpenAICompatibleProvider("small", "some-model", upstream.base_url)
    serving = service(
        sqlite_ledger, catalog(Model("small", provider, PRICE), strategies=("cot",)), limit=10**9
    )
    asked = {"answer_kind": AnswerKind.NUMBER, "logprobs": True}
    whole = await serving.answer(asks(**asked))
    _, chunk, _, _ = [item async for item in serving.stream(asks(**asked))]
    assert isinstance(chunk, Chunk)
    assert whole.answer.choices[0].logprobs == chunk.logprobs == logprobs
    assert chunk.delta == {"content": "Answer: 4", "reasoning_content": "two and two"}
    await provider.aclose()


async def test_a_stream_that_is_closed_early_pays_for_what_was_said(ledger: Ledger) -> None:
    """The model is stopped first and tells what it used; only then is it settled."""
    serving = service(ledger, simulated())
    stream = serving.stream(asks(text="Write a poem.", max_tokens=10))
    async with aclosing(stream):
        said = [(await anext(stream)) for _ in range(3)]
    assert len(said) == 3
    entry, call = only(ledger), only(ledger, CallRow)
    assert (entry.status, entry.error) == (EntryStatus.SETTLED, CLIENT_LEFT)
    assert (call.status, call.in_doubt) == ("cancelled", False)
    assert 0 < call.completion_tokens < 10
    assert stands_at(ledger, call.cost_nano_usd)


async def test_a_stream_that_is_cancelled_in_flight_is_settled(ledger: Ledger) -> None:
    """A client that leaves before the first word pays the worst case."""
    serving = service(ledger, lambda _request, _i: Reply("it is 4", delay_s=60))

    async def read() -> None:
        async with aclosing(serving.stream(asks())) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(read())
    await until(lambda: bool(_provider(serving).requests))
    await cancelled(task)
    assert only(ledger).error == CLIENT_LEFT
    assert stands_at(ledger, WORST)


async def test_a_stream_that_fails_after_its_first_words_is_settled(ledger: Ledger) -> None:
    """The client hears of it, and the ledger too."""
    broken = Reply("it is", error=ProviderError("small", "it hung up"), reports_usage=False)
    serving = service(ledger, [broken])
    stream = serving.stream(asks())
    pieces = [await anext(stream) for _ in range(3)]
    with pytest.raises(ProviderError, match="hung up"):
        await anext(stream)
    assert [c.delta["content"] for c in pieces if isinstance(c, Chunk)] == ["", "it", " is"]
    assert only(ledger).status is EntryStatus.IN_DOUBT
    assert stands_at(ledger, WORST)


# Refusals


async def test_a_short_budget_is_served_by_a_cheaper_arm(ledger: Ledger) -> None:
    """The dear model is passed over without a trace of a refusal."""
    two = catalog(scripted("small"), scripted("large", times=10))
    serving = service(ledger, two, limit=10 * WORST - 1)
    served = await serving.answer(asks())
    assert served.decision.arm == Arm("small", "direct")
    assert served.decision.propensity == 1.0
    assert only(ledger).held_nano_usd == WORST
    assert rows(ledger, RefusalRow) == []
    assert stands_at(ledger, USED)


async def test_a_budget_that_fits_exactly_is_used(ledger: Ledger) -> None:
    """To the last nano-USD."""
    two = catalog(scripted("small"), scripted("large", times=10))
    served = await service(ledger, two, limit=10 * WORST).answer(asks())
    assert served.decision.arm == Arm("large", "direct")


async def test_a_request_that_no_budget_fits_is_refused_and_written_down(ledger: Ledger) -> None:
    """The error has the figures; the ledger has the refusal, and no entry."""
    serving = service(ledger, limit=WORST - 1)
    request = asks()
    with pytest.raises(BudgetExceededError) as caught:
        await serving.answer(request)
    facts = caught.value.facts
    assert (facts.limit_nano_usd, facts.spent_nano_usd, facts.held_nano_usd) == (WORST - 1, 0, 0)
    assert caught.value.asked_nano_usd == WORST
    refusal = only(ledger, RefusalRow)
    assert (refusal.request_id, refusal.scope) == (request.request_id, "organisation")
    assert (refusal.asked_nano_usd, refusal.model) == (WORST, "small")
    assert rows(ledger, EntryRow) == []
    assert _provider(serving).requests == []
    assert stands_at(ledger, 0)


async def test_each_key_has_a_budget_of_its_own(ledger: Ledger) -> None:
    """One tenant's spent budget does not keep the other from what is left of the whole."""
    serving = service(ledger, at_worst, limit=None)
    ledger.declare_budgets(
        [
            Budget("organisation", Period.DAY, 2 * WORST),
            Budget("key:acme", Period.DAY, WORST),
        ]
    )
    await serving.answer(asks(tenant="acme"))
    with pytest.raises(BudgetExceededError) as caught:
        await serving.answer(asks(tenant="acme"))
    assert caught.value.facts.scope == "key:acme"
    await serving.answer(asks(tenant="other"))
    with pytest.raises(BudgetExceededError) as caught:
        await serving.answer(asks(tenant="other"))
    assert caught.value.facts.scope == "organisation"
    assert ledger.examine() == []
    assert [s.facts.spent_nano_usd for s in ledger.budget_status(NOW)] == [2 * WORST, WORST]


async def test_a_request_that_no_arm_can_afford_is_written_down(sqlite_ledger: Ledger) -> None:
    """Its own cap refuses it before any budget is asked; it still counts as refused."""
    serving = service(sqlite_ledger)
    with pytest.raises(NoAffordableArmError):
        await serving.answer(asks(max_cost_usd=1e-9))
    refusal = only(sqlite_ledger, RefusalRow)
    assert "max_cost_usd" in refusal.reason
    assert (refusal.scope, refusal.model) == (None, None)


async def test_a_short_budget_and_a_limit_are_refused_by_the_budget(
    sqlite_ledger: Ledger,
) -> None:
    """The cheaper arm is too slow for the request, so the budget is what stood in the way."""
    two = catalog(scripted("small"), scripted("large", times=10))
    serving = service(sqlite_ledger, two, limit=WORST)
    serving.chooser.observe(Arm("small", "direct"), 9.0)
    with pytest.raises(BudgetExceededError):
        await serving.answer(asks(max_latency_s=1.0))
    assert only(sqlite_ledger, RefusalRow).model == "large"


async def test_a_request_that_makes_no_sense_leaves_no_trace(sqlite_ledger: Ledger) -> None:
    """An unknown model is the client's mistake, not a decision."""
    with pytest.raises(RequestError):
        await service(sqlite_ledger).answer(asks(model="gpt-9"))
    assert rows(sqlite_ledger, RequestRow) == []


async def test_a_plan_costs_nothing_and_leaves_no_trace(sqlite_ledger: Ledger) -> None:
    """It is a dry run."""
    serving = service(sqlite_ledger)
    plan = await serving.plan(asks())
    assert plan.decision is not None
    assert plan.decision.arm == Arm("small", "direct")
    assert rows(sqlite_ledger, RequestRow) == []
    assert _provider(serving).requests == []


# Many at once


async def test_whatever_happens_to_many_requests_the_books_agree(ledger: Ledger) -> None:
    """Answers, errors, doubts, refusals and clients that leave, all at once on a short budget."""

    def script(request: SampleRequest, _i: int) -> Reply:
        fate = int(request.messages[0].text.split()[-1]) % 5
        return (
            at_worst(request),
            Reply("4"),
            Reply(error=ProviderError("small", "no")),
            Reply("4", reports_usage=False),
            Reply("4", delay_s=60),
        )[fate]

    limit = 10 * WORST
    serving = service(ledger, script, limit=limit, budget_wait_s=1)
    requests = [asks(text=f"say {i}") for i in range(40)]
    tasks = [asyncio.create_task(serving.answer(request)) for request in requests]
    await until(lambda: all(task.done() for i, task in enumerate(tasks) if i % 5 < 4))
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    await settled(serving)
    facts = budget(ledger)
    entries = rows(ledger, EntryRow)
    assert facts.held_nano_usd == 0
    assert facts.spent_nano_usd == sum(entry.cost_nano_usd for entry in entries) <= limit
    by_end: dict[type, set[str]] = {}
    for request, end in zip(requests, ended, strict=True):
        kind = BudgetExceededError if isinstance(end, BudgetExceededError) else type(end)
        by_end.setdefault(kind, set()).add(request.request_id)
    assert by_end.keys() == {
        Served,
        ProviderError,
        BudgetExceededError,
        asyncio.CancelledError,
    }
    opened = {entry.request_id for entry in entries}
    assert {e.request_id for e in entries if e.complete} == by_end[Served]
    assert opened >= by_end[Served] | by_end[ProviderError]
    refused = {refusal.request_id for refusal in rows(ledger, RefusalRow)}
    assert refused >= by_end[BudgetExceededError]
    assert not refused & opened


# Life and death


@dataclass
class Clock:
    """A clock that goes on by itself, and can be put forward."""

    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return NOW + timedelta(seconds=time.monotonic()) + self.offset


def left_open(ledger: Ledger, replica: Replica, at: datetime = NOW) -> None:
    """Let a process that is not this one open an entry and never settle it."""
    asked = Asked(Query(f"of-{replica.replica_id}", TEXT))
    decision = Decision(Arm("small", "direct"), 1.0, "p1")
    ledger.write(lambda s: register_replica(s, replica, at))
    ledger.write(lambda s: open_entry(s, OpenEntry(asked, decision, WORST), replica.replica_id, at))


async def test_a_start_charges_what_a_dead_process_left_open(ledger: Ledger) -> None:
    """At its hold, in doubt: the upstream may have billed it."""
    serving = service(ledger)
    left_open(ledger, Replica("dead", this_host(), 2**22 + 1, "1"))
    assert stands_at(ledger, 0, WORST)
    await serving.start()
    entry = only(ledger)
    assert (entry.status, entry.cost_nano_usd) == (EntryStatus.IN_DOUBT, WORST)
    assert stands_at(ledger, WORST)
    await serving.aclose()


async def test_what_a_living_process_has_open_is_left_alone(ledger: Ledger) -> None:
    """Another replica elsewhere beats, so its entry is its own."""
    serving = service(ledger)
    left_open(ledger, Replica("elsewhere", "another host", 1, "1"))
    await serving.start()
    assert only(ledger).status is EntryStatus.OPEN
    assert stands_at(ledger, 0, WORST)
    await serving.aclose()


async def test_a_replica_beats_and_charges_for_those_that_fall_silent(
    sqlite_ledger: Ledger,
) -> None:
    """A replica elsewhere is dead once it was silent for too long."""
    clock = Clock()
    serving = service(sqlite_ledger, clock=clock, heartbeat_s=0.02, stale_after_s=60.0)
    left_open(sqlite_ledger, Replica("elsewhere", "another host", 1, "1"), clock())
    await serving.start()
    first = _heartbeat(sqlite_ledger)
    await until(lambda: _heartbeat(sqlite_ledger) > first)
    assert only(sqlite_ledger).status is EntryStatus.OPEN
    clock.offset = timedelta(seconds=120)
    await until(lambda: only(sqlite_ledger).status is EntryStatus.IN_DOUBT)
    await serving.aclose()


async def test_an_unreadable_policy_does_not_stop_the_heart(sqlite_ledger: Ledger) -> None:
    """Others would take a silent replica for dead and charge what it still serves."""
    serving = service(sqlite_ledger, clock=Clock(), heartbeat_s=0.02)
    await serving.start()
    sqlite_ledger.write(lambda s: save_policy(s, "broken", b"not a policy", {}, NOW))
    sqlite_ledger.write(lambda s: promote_policy(s, "broken", NOW))
    await asyncio.sleep(0.1)
    seen = _heartbeat(sqlite_ledger)
    await until(lambda: _heartbeat(sqlite_ledger) > seen)
    assert (await serving.answer(asks())).answer.text == "4"
    await serving.aclose()


def _heartbeat(ledger: Ledger) -> datetime:
    (own,) = [row for row in rows(ledger, ReplicaRow) if row.id == ledger.replica_id]
    seen: datetime = own.heartbeat_at
    return seen


async def test_closing_waits_for_settlements(ledger: Ledger) -> None:
    """A server that stops leaves nothing open."""
    serving = service(ledger, lambda _request, _i: Reply("4", delay_s=60))
    await serving.start()
    task = asyncio.create_task(serving.answer(asks()))
    await until(lambda: bool(_provider(serving).requests))
    with locked(ledger):
        task.cancel()
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(serving.aclose())
        await asyncio.sleep(0.1)
        assert not closing.done()
    await closing
    with suppress(asyncio.CancelledError):
        await task
    assert stands_at(ledger, WORST)
    await serving.aclose()


async def test_an_entry_that_the_ledger_could_not_take_is_settled_later(
    sqlite_ledger: Ledger,
) -> None:
    """The client hears that the ledger failed; the hold is not kept for ever."""
    impatient = Ledger(create_ledger_engine(str(sqlite_ledger.engine.url), wait_s=0.05))
    with ExitStack() as stack:

        def last_words(_request: SampleRequest, _i: int) -> str:
            stack.enter_context(locked(sqlite_ledger))
            return "4"

        serving = service(impatient, last_words, heartbeat_s=0.05)
        await serving.start()
        with pytest.raises(LedgerBusyError):
            await serving.answer(asks())
    await until(lambda: only(sqlite_ledger).status is EntryStatus.SETTLED)
    assert stands_at(sqlite_ledger, USED)
    await serving.aclose()


async def test_closing_settles_what_the_ledger_could_not_take(sqlite_ledger: Ledger) -> None:
    """The last chance before the process ends."""
    impatient = Ledger(create_ledger_engine(str(sqlite_ledger.engine.url), wait_s=0.05))
    with ExitStack() as stack:

        def last_words(_request: SampleRequest, _i: int) -> str:
            stack.enter_context(locked(sqlite_ledger))
            return "4"

        serving = service(impatient, last_words)
        with pytest.raises(LedgerBusyError):
            await serving.answer(asks())
    assert stands_at(sqlite_ledger, 0, WORST)
    await serving.aclose()
    assert stands_at(sqlite_ledger, USED)


async def test_a_hold_whose_commit_was_not_confirmed_is_given_back(
    sqlite_ledger: Ledger,
) -> None:
    """The client hears that the ledger failed; a heartbeat finds what was opened after all."""
    serving = service(sqlite_ledger)
    await serving.start()
    request = asks()
    lost = []

    @event.listens_for(sqlite_ledger.engine, "commit")
    def lose_the_answer(connection: Connection) -> None:
        if not lost:
            lost.append(connection)
            connection.connection.commit()
            msg = "the connection broke after the commit"
            raise LedgerUnavailableError(msg)

    with pytest.raises(LedgerUnavailableError):
        await serving.answer(request)
    assert only(sqlite_ledger).status is EntryStatus.OPEN
    assert stands_at(sqlite_ledger, 0, WORST)
    await asyncio.to_thread(serving.heart.tend)
    entry = only(sqlite_ledger)
    assert (entry.status, entry.complete) == (EntryStatus.SETTLED, False)
    assert "while the hold was written" in entry.error
    assert stands_at(sqlite_ledger, 0)
    await serving.aclose()


# Feedback, readiness


async def test_feedback_grades_the_entry_that_was_served(sqlite_ledger: Ledger) -> None:
    """With the grader's name and weight; for a request that nobody made it is an error."""
    serving = service(sqlite_ledger)
    served = await serving.answer(asks())
    await serving.feedback(served.request_id, Grade(0.25, "ann", 2.0), "default")
    outcome = only(sqlite_ledger, OutcomeRow)
    assert outcome.entry_id == only(sqlite_ledger).id
    assert (outcome.quality, outcome.grader, outcome.weight) == (0.25, "ann", 2.0)
    with pytest.raises(EntryNotFoundError):
        await serving.feedback("nobody", Grade(1.0, "ann"), "default")


async def test_another_tenants_request_cannot_be_graded(sqlite_ledger: Ledger) -> None:
    """It is as unknown as one that nobody made, and nothing is written."""
    serving = service(sqlite_ledger)
    served = await serving.answer(asks())
    with pytest.raises(EntryNotFoundError):
        await serving.feedback(served.request_id, Grade(0.0, "eve"), "other")
    assert rows(sqlite_ledger, OutcomeRow) == []


async def test_a_plan_leaves_out_what_the_budget_cannot_hold(sqlite_ledger: Ledger) -> None:
    """With the money for one answer, the plan is to serve it; spent, that nothing is left."""
    serving = service(sqlite_ledger, limit=WORST)
    before = await serving.plan(asks())
    assert before.decision is not None
    await serving.answer(asks())
    after = await serving.plan(asks())
    assert after.decision is None
    assert "left of the budget" in str(after.candidates[0].rejected)


async def test_ready_says_what_is_wrong_with_the_ledger(sqlite_ledger: Ledger) -> None:
    """Nothing, or the ledger's own words."""
    serving = service(sqlite_ledger)
    assert await serving.ready() == []
    sqlite_ledger.write(lambda session: session.execute(text("DROP TABLE budget_windows")))
    (problem,) = await serving.ready()
    assert "budget_windows" in problem


async def test_latencies_of_answers_are_learned(sqlite_ledger: Ledger) -> None:
    """A request with a limit is then kept from a slow arm."""
    serving = service(sqlite_ledger, lambda _request, _i: Reply("4", delay_s=0.05))
    await serving.answer(asks())
    (candidate,) = (await serving.plan(asks())).candidates
    assert candidate.expected_latency_s is not None
    assert candidate.expected_latency_s >= 0.05
    with pytest.raises(NoAffordableArmError):
        await serving.answer(asks(max_latency_s=0.01))
