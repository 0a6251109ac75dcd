"""A simulated history, written in bulk: rows as a gateway would have left them, marked simulated.

Only into a ledger without entries, so that made-up money is never beside real money. Each day is
one transaction with its holds, counters and rollups, so that every invariant holds at every commit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, insert, select, update

from cost_models.budgets import Budget, Period
from storage.budgets import KnownBudget, ensure_budget
from storage.dialects import advance_ids
from storage.errors import SimulationError
from storage.holds import move, open_window
from storage.models import (
    BudgetRow,
    BudgetWindowRow,
    EntryRow,
    MetaRow,
    OutcomeRow,
    RefusalRow,
    ReplicaRow,
)
from storage.rollups import roll_up
from storage.simulated_rows import Bank, Rows
from storage.statements import ENTRIES, INSERT_CALLS, INSERT_HOLDS, REQUESTS, table_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from policies.synthetic import World
    from policies.synthetic_traffic import Traffic

SIMULATED = "simulated"
"""Replica of simulated entries, and the key in ``meta`` that says what was simulated."""
ORGANISATION = "organisation"
ROWS_AT_ONCE = 2_000
HEADROOM = 1.2


@dataclass(frozen=True, slots=True)
class Simulation:
    """What was written: requests, entries, calls, grades, and nano-USD charged."""

    n_requests: int = 0
    n_entries: int = 0
    n_calls: int = 0
    n_graded: int = 0
    cost_nano_usd: int = 0

    def __add__(self, other: Simulation) -> Simulation:
        return Simulation(
            self.n_requests + other.n_requests,
            self.n_entries + other.n_entries,
            self.n_calls + other.n_calls,
            self.n_graded + other.n_graded,
            self.cost_nano_usd + other.cost_nano_usd,
        )


def begin_simulation(session: Session, world: World) -> dict[str, KnownBudget]:
    """Mark an empty ledger as simulated and make its budgets; give them by scope.

    SimulationError where there are entries already.
    """
    if session.scalar(select(EntryRow.id).limit(1)) is not None:
        msg = "this ledger has entries; simulate into a ledger of its own, so that nothing mixes"
        raise SimulationError(msg)
    facts = {"days": world.days, "requests_per_day": world.requests_per_day, "seed": world.seed}
    value = json.dumps({"start": world.start.isoformat(), **facts})
    session.execute(insert(MetaRow).values(key=SIMULATED, value=value))
    now = _midnight(world, 0)
    session.execute(
        insert(ReplicaRow).values(
            id=SIMULATED, host=SIMULATED, pid=0, started="", registered_at=now, heartbeat_at=now
        )
    )
    teams = sorted({tenant.team for tenant in world.tenants if tenant.team})
    budgets = [Budget(ORGANISATION, Period.MONTH, 0)]
    budgets += [Budget(f"team:{team}", Period.MONTH, 0, soft=True) for team in teams]
    return {
        budget.scope: KnownBudget(ensure_budget(session, budget, by_command=True), budget)
        for budget in budgets
    }


def simulated_facts(session: Session) -> dict[str, Any] | None:
    """Give what was simulated; None for a ledger of real requests."""
    value = session.scalar(select(MetaRow.value).where(MetaRow.key == SIMULATED))
    return None if value is None else dict(json.loads(value))


def write_traffic(
    session: Session,
    world: World,
    traffic: Traffic,
    bank: Bank,
    budgets: dict[str, KnownBudget],
) -> Simulation:
    """Write one day and roll it up; the caller commits.

    Memory is that of one day's arrays and the rows of `ROWS_AT_ONCE` requests.
    """
    first = (session.scalar(select(func.max(EntryRow.id))) or 0) + 1
    midnight = _midnight(world, traffic.day)
    windows = [
        (known, known.window(midnight).start)
        for known in (
            budgets.get(scope)
            for scope in (ORGANISATION, *(f"team:{tenant.team}" for tenant in world.tenants))
        )
        if known is not None
    ]
    for known, start in windows:
        open_window(session, known, start)
    rows = Rows(world, traffic, bank, budgets, midnight, first)
    done = Simulation()
    for begin in range(0, len(traffic.arm), ROWS_AT_ONCE):
        done += _write(session, rows, range(begin, min(begin + ROWS_AT_ONCE, len(traffic.arm))))
    for key, spent in sorted(rows.spent.items()):
        move(session, key, spent=spent, held=0, overshoot=0)
        session.execute(
            update(BudgetWindowRow)
            .where(BudgetWindowRow.budget_id == key[0], BudgetWindowRow.window_start == key[1])
            .values(highest_limit_nano_usd=BudgetWindowRow.spent_nano_usd)
        )
    for hour in np.unique(traffic.time_s // 3600).astype(int).tolist():
        roll_up(session, midnight + timedelta(hours=hour))
    advance_ids(session, EntryRow)
    return done


def end_simulation(session: Session, budgets: dict[str, KnownBudget]) -> None:
    """Set the limits: the organisation's was never reached, those of teams, soft, nearly."""
    for scope, known in budgets.items():
        most = session.scalar(
            select(func.max(BudgetWindowRow.spent_nano_usd)).where(
                BudgetWindowRow.budget_id == known.budget_id
            )
        )
        limit = int((most or 0) * (HEADROOM if scope == ORGANISATION else 1.0))
        session.execute(
            update(BudgetRow).where(BudgetRow.id == known.budget_id).values(limit_nano_usd=limit)
        )
        session.execute(
            update(BudgetWindowRow)
            .where(BudgetWindowRow.budget_id == known.budget_id)
            .values(highest_limit_nano_usd=limit)
        )


def _write(session: Session, rows: Rows, part: range) -> Simulation:
    requests, refusals, entries, calls, holds, outcomes = rows.make(part)
    for statement, values in (
        (insert(REQUESTS), requests),
        (insert(table_of(RefusalRow)), refusals),
        (insert(ENTRIES), entries),
        (INSERT_CALLS, calls),
        (INSERT_HOLDS, holds),
        (insert(table_of(OutcomeRow)), outcomes),
    ):
        if values:
            session.execute(statement, values)
    cost = sum(entry["cost_nano_usd"] for entry in entries)
    return Simulation(len(requests), len(entries), len(calls), len(outcomes), cost)


def _midnight(world: World, day: int) -> datetime:
    return datetime.combine(world.date_of(day), time(), UTC)
