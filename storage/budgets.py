"""Which budgets there are, and where each stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from cost_models.budgets import Budget, Period, window, zone
from cost_models.errors import BudgetFacts
from storage.dialects import insert_into
from storage.errors import BudgetChangeError
from storage.models import BudgetRow, BudgetWindowRow
from storage.statements import BUDGETS_IN_FORCE, BUDGETS_OF_SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from cost_models.budgets import Window


@dataclass(frozen=True, slots=True)
class KnownBudget:
    """A budget with its id; ids give the order in which budgets are locked."""

    budget_id: int
    budget: Budget

    def window(self, now: datetime) -> Window:
        """Window of the budget that holds ``now``."""
        return window(self.budget.period, now, zone(self.budget.time_zone))


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """Where one budget stands in the window that began at ``window_start``.

    ``overshoot_nano_usd`` is what providers billed beyond what was held. A ``soft`` budget refuses
    nothing, whatever is left of it. Days begin at midnight in ``time_zone``.
    """

    facts: BudgetFacts
    window_start: datetime
    overshoot_nano_usd: int
    soft: bool = False
    time_zone: str = "UTC"

    @property
    def free_nano_usd(self) -> int:
        """What may still be held, at least 0."""
        facts = self.facts
        return max(0, facts.limit_nano_usd - facts.spent_nano_usd - facts.held_nano_usd)

    @property
    def unspent_nano_usd(self) -> int:
        """What could be held if all that is in flight cost nothing more, at least 0."""
        return max(0, self.facts.limit_nano_usd - self.facts.spent_nano_usd)


def ensure_budget(session: Session, budget: Budget, *, by_command: bool = False) -> int:
    """Put ``budget`` in force, changing the one of its scope and period; give its id.

    A changed limit counts from the next hold on; what was spent and held stays.
    """
    values = {
        "limit_nano_usd": budget.limit_nano_usd,
        "time_zone": budget.time_zone,
        "active": True,
        "soft": budget.soft,
        "by_command": by_command,
    }
    statement = (
        insert_into(session, BudgetRow)
        .values(scope=budget.scope, period=budget.period, **values)
        .on_conflict_do_update(index_elements=["scope", "period"], set_=values)
        .returning(BudgetRow.id)
    )
    return int(session.execute(statement).scalar_one())


def declare_budgets(session: Session, budgets: Iterable[Budget]) -> None:
    """Make ``budgets`` the ones in force, beside those made by command: what the config says.

    A budget of the config takes the place of one made by command for its scope and period.
    """
    ids = [ensure_budget(session, budget) for budget in budgets]
    gone = update(BudgetRow).where(BudgetRow.id.not_in(ids), ~BudgetRow.by_command)
    session.execute(gone.values(active=False))


def set_budget(session: Session, budget: Budget) -> int:
    """Put ``budget`` in force by command, changing the one of its scope and period; give its id.

    Raises BudgetChangeError for one that the config declares, which it would take back, and for a
    prepaid one, which only `storage.grants` changes.
    """
    if budget.period is Period.PREPAID:
        msg = f"a prepaid budget is made by `rheostat budget grant {budget.scope} --usd AMOUNT`"
        raise BudgetChangeError(msg)
    _check_is_free(session, budget.scope, budget.period)
    return ensure_budget(session, budget, by_command=True)


def end_budget(session: Session, scope: str, period: Period) -> None:
    """Take a budget that was made by command out of force; what was spent under it stays.

    Raises BudgetChangeError where there is none, or the config declares it.
    """
    _check_is_free(session, scope, period)
    ended = session.execute(
        update(BudgetRow)
        .where(BudgetRow.scope == scope, BudgetRow.period == period, BudgetRow.active)
        .values(active=False)
        .returning(BudgetRow.id),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if ended is None:
        msg = f"{scope!r} has no {period} budget; see `rheostat budget status`"
        raise BudgetChangeError(msg)


def _check_is_free(session: Session, scope: str, period: Period) -> None:
    declared = session.scalar(
        select(BudgetRow.id).where(
            BudgetRow.scope == scope,
            BudgetRow.period == period,
            BudgetRow.active,
            ~BudgetRow.by_command,
        )
    )
    if declared is not None:
        msg = f"the {period} budget of {scope!r} is in the configuration file; change it there"
        raise BudgetChangeError(msg)


def budgets_in_force(session: Session, scopes: Sequence[str] | None = None) -> list[KnownBudget]:
    """Budgets of ``scopes`` (None: of every scope) in the order in which they are locked."""
    if scopes is None:
        found = session.execute(BUDGETS_IN_FORCE)
    else:
        found = session.execute(BUDGETS_OF_SCOPES, {"scopes": scopes})
    return [
        KnownBudget(budget_id, Budget(scope, period, limit_nano_usd, time_zone, soft))
        for budget_id, scope, period, limit_nano_usd, time_zone, soft in found
    ]


def budget_status(
    session: Session, now: datetime, scopes: Sequence[str] | None = None
) -> list[BudgetStatus]:
    """Where each budget of ``scopes`` (None: of every scope) stands at ``now``."""
    return [status_of(session, known, now) for known in budgets_in_force(session, scopes)]


def status_of(session: Session, known: KnownBudget, now: datetime) -> BudgetStatus:
    """Where one budget stands in its window at ``now``; a window nobody used stands at 0."""
    start, end = known.window(now)
    row = session.execute(
        select(
            BudgetWindowRow.spent_nano_usd,
            BudgetWindowRow.held_nano_usd,
            BudgetWindowRow.overshoot_nano_usd,
        ).where(BudgetWindowRow.budget_id == known.budget_id, BudgetWindowRow.window_start == start)
    ).one_or_none()
    spent, held, overshoot = row or (0, 0, 0)
    facts = BudgetFacts(
        scope=known.budget.scope,
        period=known.budget.period.value,
        limit_nano_usd=known.budget.limit_nano_usd,
        spent_nano_usd=spent,
        held_nano_usd=held,
        resets_at=end,
    )
    return BudgetStatus(
        facts=facts,
        window_start=start,
        overshoot_nano_usd=overshoot,
        soft=known.budget.soft,
        time_zone=known.budget.time_zone,
    )
