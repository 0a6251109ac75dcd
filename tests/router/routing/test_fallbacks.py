"""Another arm when one's upstream failed: which, what it may cost, and what the books say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from parts import N_WORDS, OUTPUT_NANO_USD, PROMPT_NANO_USD, WORST, asks, catalog, scripted
from sqlalchemy import select

from cost_models.budgets import Budget, Period
from router.errors import ProviderError, ProviderTimeoutError, RequestError
from router.providers.scripted import Reply
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from router.routing.types import Served
from storage.models import CallRow, EntryRow, EntryStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.routing.catalog import Model
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
USED = N_WORDS * PROMPT_NANO_USD + OUTPUT_NANO_USD
"""What the answer "4" costs at the plain price."""
TURNED_AWAY = ProviderError("large", "busy", status=503)
LOST = Reply(error=ProviderError("large", "lost the connection"), reports_usage=False)


def service(
    ledger: Ledger,
    *models: Model,
    limit: int = 100 * WORST,
    **settings: Any,  # noqa: ANN401 - fields of ServiceSettings
) -> RoutingService:
    """Serve models; the dearest is asked first, as nothing was fitted."""
    ledger.declare_budgets([Budget("organisation", Period.DAY, limit)])
    parts = catalog(*models)
    chooser = Chooser(parts, ChooserSettings(exploration=0.0), np.random.default_rng(0))
    return RoutingService(parts, chooser, ledger, ServiceSettings(**settings), lambda: NOW)


def entries(ledger: Ledger, kind: type[Any] = EntryRow) -> Sequence[Any]:
    """Read the rows of a table, oldest first; the books have to agree."""
    assert ledger.examine() == []
    return ledger.read(lambda session: session.scalars(select(kind).order_by(kind.id)).all())


def spent(ledger: Ledger) -> int:
    """Nano-USD spent; nothing may be held any more, and the rows have to add up to it."""
    (status,) = ledger.budget_status(NOW)
    assert status.facts.held_nano_usd == 0
    assert status.facts.spent_nano_usd == sum(e.cost_nano_usd for e in entries(ledger))
    assert status.facts.spent_nano_usd == sum(c.cost_nano_usd for c in entries(ledger, CallRow))
    return status.facts.spent_nano_usd


async def test_the_next_arm_of_the_policy_serves_what_failed(ledger: Ledger) -> None:
    """A second entry of the same request, with its number and reason; both are settled."""
    serving = service(ledger, scripted("small"), scripted("large", [TURNED_AWAY], times=3))
    asked = asks()
    served = await serving.answer(asked)
    assert (served.model, served.answer.text, served.decision.attempt) == ("small", "4", 1)
    assert served.cost_nano_usd == USED == spent(ledger)
    (failure,) = served.failures
    assert (str(failure.arm), failure.cost_nano_usd) == ("large|direct", 0)
    assert "busy" in failure.error
    assert [call.status for call in served.calls] == ["error", "ok"]
    first, second = entries(ledger)
    assert first.request_id == second.request_id == asked.request_id
    assert [(e.attempt, e.model, e.complete) for e in (first, second)] == [
        (0, "large", False),
        (1, "small", True),
    ]
    assert "large|direct failed before" in second.reason
    assert {e.status for e in (first, second)} == {EntryStatus.SETTLED}


async def test_what_failed_in_doubt_is_paid_beside_the_answer(ledger: Ledger) -> None:
    """The worst case of the lost call, and what the answer cost: the client is told the sum."""
    serving = service(ledger, scripted("small"), scripted("large", [LOST], times=3))
    served = await serving.answer(asks())
    assert served.cost_nano_usd == 3 * WORST + USED == spent(ledger)
    assert served.usage.n_calls == 2
    first, second = entries(ledger)
    assert (first.status, second.status) == (EntryStatus.IN_DOUBT, EntryStatus.SETTLED)


async def test_a_request_never_costs_more_than_its_cap(ledger: Ledger) -> None:
    """What the failed arm may have cost counts: the next one gets the rest, or none is tried."""
    models = (scripted("small"), scripted("large", lambda _request, _i: LOST, times=3))
    serving = service(ledger, *models)
    served = await serving.answer(asks(max_cost_usd=4 * WORST / 1e9))
    assert served.model == "small"
    assert served.cost_nano_usd <= 4 * WORST
    with pytest.raises(ProviderError, match="lost"):
        await serving.answer(asks(max_cost_usd=(4 * WORST - 1) / 1e9))
    assert [e.model for e in entries(ledger)] == ["large", "small", "large"]
    assert spent(ledger) == 2 * 3 * WORST + USED


async def test_a_budget_that_does_not_take_the_next_hold_ends_it(ledger: Ledger) -> None:
    """The first error stands; nothing is held and nothing is refused in writing."""
    models = (scripted("small"), scripted("large", [LOST], times=3))
    serving = service(ledger, *models, limit=4 * WORST - 1, budget_wait_s=0.0)
    with pytest.raises(ProviderError, match="lost"):
        await serving.answer(asks())
    assert spent(ledger) == 3 * WORST


async def test_a_short_budget_is_served_by_a_cheaper_fallback(ledger: Ledger) -> None:
    """Of two that are left the policy would take the dearer one, which does not fit."""
    models = (scripted("small"), scripted("middle", times=2), scripted("large", [LOST], times=3))
    serving = service(ledger, *models, limit=5 * WORST - 1)
    served = await serving.answer(asks())
    assert served.model == "small"
    assert spent(ledger) == 3 * WORST + USED


async def test_it_ends_when_every_model_failed_or_enough_were_tried(ledger: Ledger) -> None:
    """The last error is told; each attempt is in the ledger."""
    names = ("a", "b", "c", "d")

    def failing() -> list[Model]:
        return [
            scripted(name, lambda _r, _i: ProviderError("m", "down", status=500), times=i + 1)
            for i, name in enumerate(names)
        ]

    with pytest.raises(ProviderError, match="down"):
        await service(ledger, *failing()).answer(asks())
    assert [(e.attempt, e.model) for e in entries(ledger)] == [(0, "d"), (1, "c"), (2, "b")]
    with pytest.raises(ProviderError, match="down"):
        await service(ledger, *failing()[:2]).answer(asks())
    with pytest.raises(ProviderError, match="down"):
        await service(ledger, *failing(), max_fallbacks=0).answer(asks())
    assert [e.model for e in entries(ledger)[3:]] == ["b", "a", "d"]
    assert spent(ledger) == 0


async def test_a_named_model_falls_back_only_where_the_configuration_says(ledger: Ledger) -> None:
    """To the first that the request allows; no cheaper or better one is taken by itself."""
    large = scripted("large", lambda _request, _i: TURNED_AWAY, times=3)
    models = (scripted("small"), scripted("middle", times=2))
    with pytest.raises(ProviderError, match="busy"):
        await service(ledger, *models, large).answer(asks("large"))
    backed = replace(large, fallbacks=("middle", "small"))
    serving = service(ledger, *models, backed)
    served = await serving.answer(asks("large"))
    assert (served.model, served.cost_nano_usd) == ("middle", 2 * USED)
    served = await serving.answer(asks("large", allowed_models=("large", "small")))
    assert served.model == "small"
    with pytest.raises(ProviderError, match="busy"):
        await serving.answer(asks("large", allowed_models=("large",)))
    assert spent(ledger) == 3 * USED


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RequestError("no"), id="the request is wrong"),
        pytest.param(ZeroDivisionError("secret"), id="a defect"),
    ],
)
async def test_only_upstreams_that_fail_are_replaced(
    sqlite_ledger: Ledger, error: Exception
) -> None:
    """Anything else would fail again, or hide what is wrong here."""

    def script(_request: object, _i: int) -> Reply:
        raise error

    serving = service(sqlite_ledger, scripted("small"), scripted("large", script, times=3))
    with pytest.raises(type(error)):
        await serving.answer(asks())
    assert len(entries(sqlite_ledger)) == 1


async def test_no_other_arm_is_begun_when_the_time_is_over(ledger: Ledger) -> None:
    """The request's time is that of all its attempts together."""
    large = scripted("large", [Reply("4", delay_s=30)], times=3)
    serving = service(ledger, scripted("small"), large, request_timeout_s=0.05)
    with pytest.raises(ProviderTimeoutError, match="deadline"):
        await serving.answer(asks())
    assert len(entries(ledger)) == 1


async def test_a_stream_falls_back_before_it_said_anything(ledger: Ledger) -> None:
    """The client sees one stream, of the arm that served it, with one role."""
    serving = service(ledger, scripted("small"), scripted("large", [LOST], times=3))
    items = [item async for item in serving.stream(asks())]
    served = items.pop()
    assert isinstance(served, Served)
    assert served.model == "small"
    roles = [item for item in items if "role" in item.delta]
    assert len(roles) <= 1
    assert "".join(str(item.delta.get("content") or "") for item in items) == "4"
    assert served.cost_nano_usd == 3 * WORST + USED == spent(ledger)


async def test_a_stream_that_said_something_ends_with_its_error(ledger: Ledger) -> None:
    """Nobody can take back what the client has read."""
    cut = Reply("4 5 6", error=ProviderError("large", "lost the connection"), reports_usage=False)
    serving = service(ledger, scripted("small"), scripted("large", [cut], times=3))
    heard = []
    with pytest.raises(ProviderError, match="lost"):
        heard = [heard async for heard in serving.stream(asks())]
    assert heard == []
    assert len(entries(ledger)) == 1
    assert spent(ledger) == 3 * WORST


async def test_a_lowered_cap_is_not_passed_on_to_the_next_arm(ledger: Ledger) -> None:
    """The budget was short for the dear arm alone: the cheap one gets what was asked."""
    large = scripted("large", [TURNED_AWAY], times=2)
    serving = service(ledger, scripted("small"), large, limit=2 * WORST - 1)
    served = await serving.answer(replace(asks(), min_max_tokens=1))
    assert served.model == "small"
    first, second = entries(ledger)
    assert WORST < first.held_nano_usd < 2 * WORST
    assert second.held_nano_usd == WORST
