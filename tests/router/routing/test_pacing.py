"""Pacing while serving: decisions follow what the ledger says was spent, and say so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from parts import asks, at_worst, catalog, scripted
from planted import LARGE, SMALL, TEXTS, planted
from sqlalchemy import event, select

from cost_models.budgets import Budget, Period
from cost_models.errors import BudgetExceededError
from policies import artifacts
from policies.difficulty import DifficultyEstimator
from policies.pacing import Pacing
from policies.types import AnswerKind
from policies.utility import UtilityPolicy
from router.routing.chooser import Chooser, ChooserSettings
from router.routing.pacing import Pacer
from router.routing.service import RoutingService
from router.routing.settings import ServiceSettings
from storage.models import EntryRow
from storage.policies import promote_policy, save_policy

if TYPE_CHECKING:
    from storage.store import Ledger

pytestmark = pytest.mark.anyio

DAY = datetime(2026, 7, 1, tzinfo=UTC)
HARD = TEXTS["hard"].format(a=12, b=34)
PAIR = ("organisation", "day")
LARGE_NANO_USD = (16 + 16 + len("user") + len(HARD)) * 2_000_000 + 10 * 4_000_000
"""What a hard question costs with the large model: all that is held for it."""
N = 60
LIMIT_NANO_USD = N * LARGE_NANO_USD // 2


@pytest.fixture(scope="module")
def artifact() -> bytes:
    """Fit an estimator to the planted outcomes; five right answers have to be worth a USD."""
    table = planted(90)
    estimator = DifficultyEstimator().fit(
        table.queries,
        table.quality_matrix(),
        arms=table.arms,
        cost_usd=table.matrix("cost_usd"),
    )
    policy = UtilityPolicy(5.0, LARGE, epsilon=0.0, version="fit-planted")
    return artifacts.to_bytes(artifacts.assemble(estimator, policy, {"source": "planted"}))


class Day:
    """A service over one day, whose clock the test moves."""

    def __init__(self, ledger: Ledger, artifact: bytes, pacer: Pacer | None) -> None:
        version = artifacts.from_bytes(artifact).version
        ledger.write(lambda s: save_policy(s, version, artifact, {}, DAY))
        ledger.write(lambda s: promote_policy(s, version, DAY))
        ledger.declare_budgets([Budget(*PAIR, LIMIT_NANO_USD)])  # type: ignore[arg-type] - the enum's value
        self.now = DAY
        self.pacer = pacer
        self.ledger = ledger
        found = catalog(
            scripted("small", at_worst, times=100), scripted("large", at_worst, times=2000)
        )
        chooser = Chooser(found, ChooserSettings(), np.random.default_rng(0))
        chooser.follow(ledger)
        settings = ServiceSettings(budget_wait_s=0)
        self.service = RoutingService(
            found, chooser, ledger, settings, lambda: self.now, pacer=pacer
        )

    async def ask(self, text: str = HARD, **more: object) -> EntryRow:
        """Ask, with what was spent read a moment ago; give the entry."""
        if self.pacer is not None:
            await asyncio.to_thread(self.pacer.refresh, self.ledger, self.now)
        request = asks(text=text, answer_kind=AnswerKind.NUMBER, **more)
        await self.service.answer(request)
        this_one = select(EntryRow).where(EntryRow.request_id == request.request_id)
        return self.ledger.read(lambda s: s.scalars(this_one).one())

    async def spent_after(self, n: int) -> list[EntryRow]:
        """Ask so often over the day."""
        made = []
        for i in range(n):
            self.now = DAY + timedelta(days=(i + 0.5) / n)
            made.append(await self.ask())
        return made


def large_in_quarters(made: list[EntryRow]) -> list[int]:
    """Count the large model's answers in each quarter of a day."""
    return [sum(e.model == "large" for e in some) for some in np.array_split(np.array(made), 4)]


async def test_the_money_is_there_all_day_long(sqlite_ledger: Ledger, artifact: bytes) -> None:
    """Each quarter has its share of dear answers; the decisions say the price they were made at."""
    pacer = Pacer({PAIR: Pacing()})
    made = await Day(sqlite_ledger, artifact, pacer).spent_after(N)
    quarters = large_in_quarters(made)
    assert min(quarters) >= 0.6 * max(quarters)
    (status,) = sqlite_ledger.budget_status(DAY)
    assert 0.9 < status.facts.spent_nano_usd / LIMIT_NANO_USD <= 1.0
    paced = [entry for entry in made if entry.policy_version.endswith(":paced")]
    assert {entry.model for entry in paced} == {"small", "large"}
    for entry in paced:
        assert "right answers per USD; paced: " in entry.reason
        assert "'organisation'" in entry.reason
        assert entry.propensity == 1.0


async def test_without_pacing_it_is_gone_at_noon(sqlite_ledger: Ledger, artifact: bytes) -> None:
    """The same day, the same money."""
    day = Day(sqlite_ledger, artifact, None)
    with pytest.raises(BudgetExceededError):
        await day.spent_after(N)
    assert day.now == DAY + timedelta(hours=12, minutes=12)
    made = sqlite_ledger.read(lambda s: s.scalars(select(EntryRow)).all())
    assert {entry.model for entry in made} == {"large"}
    assert "paced" not in "".join(entry.reason for entry in made)


async def test_only_who_spends_from_the_budget_is_paced(
    sqlite_ledger: Ledger, artifact: bytes
) -> None:
    """A request's own target and a named model are left alone, and so are other keys' requests."""
    pacer = Pacer({("key:acme", "day"): Pacing(), ("user:gone", "day"): Pacing()})
    day = Day(sqlite_ledger, artifact, pacer)
    sqlite_ledger.declare_budgets([Budget("key:acme", Period.DAY, 10 * LARGE_NANO_USD)])
    for _ in range(4):
        last = await day.ask(tenant="acme")
    assert (last.model, "paced" in last.reason) == ("small", True)
    other = await day.ask()
    assert (other.model, "paced" in other.reason) == ("large", False)
    aimed = await day.ask(tenant="acme", accuracy_target=0.7)
    assert (aimed.model, "paced" in aimed.reason) == (LARGE.model, False)
    named = await day.ask(tenant="acme", model=SMALL.model)
    assert "paced" not in named.reason
    day.now = DAY + timedelta(days=1)
    fresh = await day.ask(tenant="acme")
    assert (fresh.model, "paced" in fresh.reason) == ("large", False)


async def test_spending_is_read_now_and_then_and_not_by_each_request(
    sqlite_ledger: Ledger, artifact: bytes
) -> None:
    """At the start, and in the background; a window that ended since counts as fresh."""
    pacer = Pacer({PAIR: Pacing()}, read_again_s=1000)
    day = Day(sqlite_ledger, artifact, pacer)
    await day.service.start()
    reads: list[object] = []
    event.listen(
        sqlite_ledger.engine,
        "before_cursor_execute",
        lambda *a: reads.append(a[2]) if "overshoot_nano_usd \nFROM" in a[2] else None,
    )
    for _ in range(8):
        await day.service.answer(asks(text=HARD))
    assert len(reads) <= 1
    pacer.read_again_s = 0.0
    await day.service.answer(asks(text=HARD))
    await day.service.books.all_written()
    assert pacer.pace(["organisation"], day.now) is not None
    assert pacer.pace(["organisation"], day.now + timedelta(days=1)) is None
    assert pacer.pace(["key:other"], day.now) is None
    pacer.read_again_s = 1000
    await day.service.aclose()


async def test_a_ledger_that_is_away_leaves_the_last_figures(
    sqlite_ledger: Ledger, artifact: bytes
) -> None:
    """Pacing goes on."""
    pacer = Pacer({PAIR: Pacing()})
    day = Day(sqlite_ledger, artifact, pacer)
    for _ in range(3):
        await day.ask()
    before = pacer.pace(["organisation"], day.now)
    sqlite_ledger.write(
        lambda s: s.connection().exec_driver_sql("ALTER TABLE budget_windows RENAME TO w")
    )
    day.service._read_spending(pacer)  # noqa: SLF001 - as it is done in the background
    assert pacer.pace(["organisation"], day.now) == before
